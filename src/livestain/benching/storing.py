"""What reading and writing planes takes, which a worker does beside predicting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livestain.benching.results import Spread, StoreTimes
from livestain.planes import PlaneIndex
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, VirtualPlan, create_store

if TYPE_CHECKING:
    from livestain.benching.settings import Job

__all__ = ["measure_store"]

_PLANES = 12
_SOURCE = "Brightfield"


def measure_store(job: Job) -> StoreTimes:
    """Write raw planes of the job's size, read each back, and write a predicted one in its place.

    The planes are noise that compresses to about a half, as brightfield does.
    """
    planned = (PlannedBlock(t=range(_PLANES), z=(0,)),)
    virtual = VirtualPlan(
        source=_SOURCE,
        scale=0.001,
        offset=-20.0,
        unit="sd",
        bundle="bench",
        bundle_sha256="0" * 64,
        output="mitochondria",
    )
    plan = StorePlan(
        n_t=_PLANES,
        n_z=1,
        height=job.size,
        width=job.size,
        pixel_size_um=0.1,
        channels=(
            ChannelPlan(name=_SOURCE, kind="raw", planned=planned),
            ChannelPlan(name="mitochondria", kind="virtual", planned=planned, virtual=virtual),
        ),
    )
    noise = np.random.default_rng(0).normal(2000, 60, (job.size, job.size)).astype(np.uint16)
    read, write = [], []
    with create_store(Path(job.folder) / "bench.ome.zarr", plan) as store:
        for t in range(_PLANES):
            store.write(PlaneIndex(0, t, 0, 0), noise).result()
            began = time.perf_counter()
            store.read(PlaneIndex(0, t, 0, 0))
            came = time.perf_counter()
            store.write_encoded(PlaneIndex(0, t, 1, 0), noise)
            read.append(came - began)
            write.append(time.perf_counter() - came)
    # The first of each opens what the others find open.
    return StoreTimes(read=Spread.of(read[1:]), write=Spread.of(write[1:]))

"""Plans and planes for the store's tests; small, so that a test is milliseconds."""

from __future__ import annotations

import numpy as np

from livestain.planes import PlaneIndex
from livestain.store import ChannelPlan, PlannedBlock, StorePlan, VirtualPlan

SCALE, OFFSET = 0.25, -3.0


def block(n_t, n_z):
    return (PlannedBlock(t=range(n_t), z=range(n_z)),)


def make_plan(*, n_t=4, n_z=3, height=24, width=32, virtual=True, planned=None, **changes):
    planned = planned or block(n_t, n_z)
    channels = [ChannelPlan(name="Brightfield", kind="raw", planned=planned)]
    if virtual:
        channels.append(
            ChannelPlan(
                name="mitochondria",
                kind="virtual",
                color="FF00FF",
                planned=planned,
                display=(100, 4000),
                virtual=VirtualPlan(
                    source="Brightfield",
                    scale=SCALE,
                    offset=OFFSET,
                    unit="counts",
                    bundle="demo",
                    bundle_sha256="0" * 64,
                    output="mitochondria",
                ),
            )
        )
    values = {
        "n_t": n_t,
        "n_z": n_z,
        "height": height,
        "width": width,
        "pixel_size_um": 0.1,
        "z_step_um": 0.5,
        "t_interval_s": 2.0,
        "channels": tuple(channels),
    }
    return StorePlan(**{**values, **changes})


def plane_of(index, height=24, width=32):
    """A plane that tells its place: no two are equal, whatever order they come in."""
    rng = np.random.default_rng(np.asarray(index) + 1)
    return rng.integers(0, 65536, (height, width), dtype=np.uint16)


def at(t, c, z):
    return PlaneIndex(0, t, c, z)

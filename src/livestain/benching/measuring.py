"""One backend with one model at one frame size, in this process: a fresh one, so that the start is cold."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from livestain.benching.peak import PeakMemory
from livestain.benching.results import ColdStart, Measurement, Spread, WarmStart
from livestain.benching.settings import USUAL_DEPTH
from livestain.benching.timed import Timed
from livestain.bundle import read_bundle
from livestain.errors import LivestainError
from livestain.inference import Stainer, register_backend
from livestain.inference.backends import get_backend
from livestain.inference.memory import trim_heap
from livestain.inference.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from livestain.benching.settings import Job
    from livestain.bundle import Bundle

__all__ = ["depth_of", "frame_of", "measure", "planes_of"]

_LEAST, _MOST = 3, 2000
_SLOW_S = 20.0
"""A prediction that takes longer is made once more, and no oftener."""


def measure(job: Job) -> Measurement:
    """Measure what a job asks for; see `Measurement`.

    Raises
    ------
    LivestainError
        If the backend is refused: it cannot be loaded, or does not match the bundle's test output.
    """
    began = job.began
    imported = time.time()
    bundle = read_bundle(job.bundle)
    timed = Timed(get_backend(job.backend))
    register_backend(timed)
    planes = frame_of(bundle, job)
    resident = psutil.Process().memory_info().rss

    def opened() -> Stainer:
        return Stainer(bundle, device=job.device, threads=job.threads, backend=job.backend)

    stainer = opened()
    try:
        _check(stainer, job.backend)
        parity_s = time.perf_counter() - timed.loaded[1]
        loaded = time.time()
        model_bytes = psutil.Process().memory_info().rss - resident
        device = torch.device(stainer.device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        trim_heap()  # what loading has freed would hide what a prediction takes
        with PeakMemory() as peak:
            ready = time.perf_counter()
            stainer.stain_counts(planes)
            first_s = time.perf_counter() - ready
            stainer.stain_counts(planes)
        cuda_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        difference, threads = stainer.difference, torch.get_num_threads()
    finally:
        stainer.close()

    again = time.perf_counter()
    stainer = opened()
    try:
        _check(stainer, job.backend)
        warm_loaded = time.perf_counter()
        stainer.stain_counts(planes)
        warm_first = time.perf_counter()
        slow = warm_first - warm_loaded > _SLOW_S
        timed.waits = True
        stages, total = _stages(stainer, timed, planes, job.seconds, least=1 if slow else _LEAST)
        overlapped = None
        if device.type == "cuda":  # what overlaps was kept apart for the stages
            timed.waits = False
            total = _times(
                lambda: stainer.stain_counts(planes), job.seconds, least=1 if slow else _LEAST
            )
            overlapped = _overlapped(stainer, planes, len(total))
        given, tile = planes_of(bundle, job), stainer.tile
        device_used = stainer.device
        _check(stainer, job.backend)
    finally:
        stainer.close()
    mean_s = float(np.mean(total))
    notes = []
    if tile is not None:
        notes.append(f"in tiles of {tile[0]} x {tile[1]}, since memory was short")
    if device_used != str(device):
        notes.append(f"on {device_used}, since {device} had no memory")
    return Measurement(
        backend=job.backend,
        precision=timed.precision,
        device=device_used,
        threads=threads,
        cold=ColdStart(
            imports=_ms(imported - began),
            load=_ms(loaded - imported - parity_s),
            parity=_ms(parity_s),
            first=_ms(first_s),
            total=_ms(loaded - began + first_s),
        ),
        warm=WarmStart(
            load=_ms(warm_loaded - again),
            first=_ms(warm_first - warm_loaded),
            total=_ms(warm_first - again),
        ),
        stages={name: Spread.of(seconds) for name, seconds in stages.items()},
        total=Spread.of(total),
        planes=given,
        planes_per_second=round(given / mean_s, 3),
        overlapped_per_second=None if overlapped is None else round(given * overlapped, 3),
        memory_mb=round(peak.above / 1e6, 1),
        model_mb=round(max(0, model_bytes) / 1e6, 1),
        cuda_mb=None if cuda_bytes is None else round(cuda_bytes / 1e6, 1),
        error=difference,
        tile=tile,
        notes=tuple(notes),
    )


def frame_of(bundle: Bundle, job: Job) -> NDArray[np.uint16]:
    """Return noise of the shape that the bundle takes: uint16 (sources * planes, y, x)."""
    shape = (len(bundle.description.input.kinds) * depth_of(bundle, job), job.size, job.size)
    return np.random.default_rng(0).integers(0, 4096, shape, dtype=np.uint16)


def depth_of(bundle: Bundle, job: Job) -> int:
    """Return how many planes of one source a prediction takes."""
    window = bundle.description.input.window
    if not window.whole_stack:
        return window.n_planes
    return window.depth or job.planes or USUAL_DEPTH


def seen_depth(bundle: Bundle, job: Job) -> int:
    """Return how many planes of one source the network is given: of `running` fewer than are read."""
    window = bundle.description.input.window
    if window.whole_stack:
        return depth_of(bundle, job)
    return bundle.description.normalisation.seen(window).n_planes


def planes_of(bundle: Bundle, job: Job) -> int:
    """Return how many planes one prediction gives: of whole stacks as many as it takes."""
    return depth_of(bundle, job) if bundle.description.input.window.whole_stack else 1


def _check(stainer: Stainer, backend: str) -> None:
    """Refuse what is no longer the backend that is measured."""
    if stainer.backend != backend:
        why = stainer.refused.get(backend, f"{stainer.backend} was used in its place")
        raise LivestainError(why)


def _stages(
    stainer: Stainer, timed: Timed, planes: NDArray[np.uint16], seconds: float, *, least: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Return the seconds of each stage and of all, prediction by prediction.

    The stages of one prediction add up to it. Within what comes before the network the upload is timed by
    itself, and what is left is taken for normalisation.
    """
    device = torch.device(stainer.device)
    upload = Upload()

    def bring() -> None:
        upload(planes, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    bring()
    upload_s = float(np.median(_times(bring, seconds / 10, least=_LEAST)))
    stages: dict[str, list[float]] = {n: [] for n in ("upload", "normalise", "network", "encode")}
    total = []

    def predict() -> None:
        timed.calls.clear()
        began = time.perf_counter()
        stainer.stain_counts(planes)
        all_s = time.perf_counter() - began
        before = timed.calls[0][0] - began
        network = sum(end - start for start, end in timed.calls)
        uploaded = min(upload_s, before)
        stages["upload"].append(uploaded)
        stages["normalise"].append(before - uploaded)
        stages["network"].append(network)
        stages["encode"].append(all_s - before - network)
        total.append(all_s)

    _times(predict, seconds, least=least)
    return stages, total


def _overlapped(stainer: Stainer, planes: NDArray[np.uint16], n: int) -> float:
    """Return predictions a second where the next planes come in while the last results go out."""
    with stainer.pipeline() as pipeline:
        for _ in pipeline.run([planes] * _LEAST):
            pass
        began = time.perf_counter()
        for _ in pipeline.run(itertools.repeat(planes, n)):
            pass
        return n / (time.perf_counter() - began)


def _times(once: Callable[[], object], seconds: float, *, least: int) -> list[float]:
    """Return the seconds of each of several runs, for about as long as is asked."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < least or (time.perf_counter() - began < seconds and len(times) < _MOST):
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
    return times


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)

"""Whether a model keeps up with a camera: a real run of Micro-Manager's demo camera, timed."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import useq

from livestain.errors import BundleError, MicroscopeError
from livestain.live.leaving import leave_quietly
from livestain.live.session import Session
from livestain.live.virtual import VIRTUAL_GROUP
from livestain.store import store_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from livestain.bundle import Bundle

__all__ = ["Pace", "measure_pace", "pace_camera", "pace_sequence"]

_SOURCE = "DAPI"
"""A preset of the demo configuration that stands for the source channel: the camera shows the same picture
through all of them."""

_BEHIND = 3
"""A model that is so many planes behind when the last frame comes keeps up: they are on their way.

Beside those that cannot be there yet, since their window waits for the last frame.
"""

_DEPTH = 16
"""Planes of a stack, for models of whole stacks of any depth."""


@dataclass(frozen=True)
class Pace:
    """How a run went that was to show whether a model keeps up.

    Attributes
    ----------
    bundle : str
        The model's name.
    size : int
        Side of the square frames, in pixels.
    interval_ms : float
        Between frames as asked for, in milliseconds.
    planes : int
        Frames that were planned, and predicted planes.
    fps : float
        Frames a second that came.
    late_p95_ms, late_max_ms : float
        How much later a frame came than the interval from the first one on says, in milliseconds.
    lost : int
        Raw planes that are not in the store.
    live : int
        Predicted planes that could be read when the last frame came; all of them if no more than three were
        still on their way then, beside those whose window waited for that frame.
    owed_s : float
        Seconds from the last frame until nothing was owed.
    missing : int
        Predicted planes that are not there at the end.
    latency_p50_ms, latency_p95_ms : float or None
        From the camera to a prediction that can be read, of planes that were stained before a newer one came.
    stage_ms : dict of str to float
        Medians by plane: read, model, write.
    models : list of dict
        As in the report of a run: device, backend, what `auto` measured.
    memory_peak_mib : dict of str to float
        As in the report of a run: of `acquisition`, and of its `workers`.
    notes : list of str
        What went wrong without ending the run.
    """

    bundle: str
    size: int
    interval_ms: float
    planes: int
    fps: float
    late_p95_ms: float
    late_max_ms: float
    lost: int
    live: int
    owed_s: float
    missing: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    stage_ms: dict[str, float] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    memory_peak_mib: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return asdict(self)


def measure_pace(
    bundle: Bundle,
    out: Path,
    *,
    size: int,
    interval_ms: float,
    planes: int,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pace:
    """Run the demo camera as fast as asked, stain what it shows, and tell how that went.

    Everything is what a run has: core, runner, store, worker. The camera repeats one picture of noise, so
    that drawing pictures is not what is measured.

    Parameters
    ----------
    bundle : Bundle
        The model.
    out : Path
        The store to write; it stays.
    size : int
        Side of the frames, in pixels.
    interval_ms : float
        Between frames, in milliseconds: the exposure of a camera that is triggered once.
    planes : int
        Frames to take; of models of whole stacks as many whole stacks as fit, at least one.
    device, threads
        See `Session`.
    progress : callable, optional
        Called as ``progress(stained, planes)``.

    Raises
    ------
    BundleError
        If the model needs several source channels, which this camera has not.
    MicroscopeError
        If the camera cannot have frames of that size, or the run gave too little to time.
    LivestainError
        What a `Session` refuses.
    KeyboardInterrupt
        If the user stopped it.
    """
    sequence = pace_sequence(bundle, interval_ms=interval_ms, planes=planes)
    if planes < (least := least_planes(bundle)):
        raise BundleError(
            f"{planes} frames are too few to say whether {bundle.name} keeps up: "
            f"{_BEHIND + held_back(bundle)} predictions may be on their way when the last one comes. "
            f"Give --planes {least} or more."
        )
    planned = sum(1 for event in sequence if event.channel and event.channel.config == _SOURCE)
    core = pace_camera(size)
    try:
        return _measured(
            core, bundle, sequence, out, size, interval_ms, planned, device, threads, progress
        )
    finally:
        core.unloadAllDevices()


def held_back(bundle: Bundle) -> int:
    """Return how many predicted planes the last frame of a run brings at once, on any machine."""
    window = bundle.description.input.window
    if window.whole_stack:
        return _depth(bundle)
    if window.future:
        return (window.future + 1) * window.n_z
    # Above the middle of the last window of z the last frame is the edge that is repeated.
    return window.n_z // 2 + 1


def least_planes(bundle: Bundle) -> int:
    """Return of how many frames on something can be said: half of them are not excused."""
    depth = _depth(bundle)
    return -(-2 * (_BEHIND + held_back(bundle)) // depth) * depth


def _depth(bundle: Bundle) -> int:
    """Return the planes of a time point."""
    window = bundle.description.input.window
    return window.depth or _DEPTH if window.whole_stack else window.n_z


def _measured(
    core: CMMCorePlus,
    bundle: Bundle,
    sequence: useq.MDASequence,
    out: Path,
    size: int,
    interval_ms: float,
    planned: int,
    device: str,
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> Pace:
    frames: list[float] = []
    stained: list[tuple[float, dict[str, float]]] = []
    # Connected first, so that it tells when the frame came and not when the others were done with it.
    core.mda.events.frameReady.connect(lambda *_: frames.append(time.perf_counter()))
    name = bundle.description.outputs[0].name
    session = Session(
        core,
        sequence,
        out,
        models={name: str(bundle.path.resolve())},
        pixel_size_um=bundle.description.input.pixel_size_um,
        device=device,
        threads=threads,
    )

    def note(one: Any) -> None:
        stained.append((time.perf_counter(), one.latency_ms))
        if progress is not None:
            progress(len(stained), planned)

    session.plane_stained.connect(note)
    report = session.run()
    if report.interrupted:  # what is not there was not lost
        raise KeyboardInterrupt
    if len(frames) < 2 or not stained:
        raise MicroscopeError(
            f"The run gave {len(frames)} frames and {len(stained)} predictions, too few to time: "
            f"{'; '.join(report.notes) or 'expected two of each'}. Give more with --planes."
        )
    last = frames[-1]
    steps = np.asarray(frames) - frames[0]
    late_ms = 1e3 * steps - interval_ms * np.arange(len(frames))
    during = sum(1 for at, _ in stained if at <= last)
    whole = report.planes_stained >= planned and planned - during <= _BEHIND + held_back(bundle)
    return Pace(
        bundle=bundle.name,
        size=size,
        interval_ms=interval_ms,
        planes=planned,
        fps=round(float((len(frames) - 1) / steps[-1]), 3),
        late_p95_ms=round(float(np.percentile(late_ms, 95)), 2),
        late_max_ms=round(float(late_ms.max()), 2),
        lost=planned - store_status(out).to_dict()["raw"]["present"],
        live=planned if whole else during,
        owed_s=round(max(0.0, max(at for at, _ in stained) - last), 3),
        missing=report.planes_missing,
        latency_p50_ms=report.latency_ms.p50,
        latency_p95_ms=report.latency_ms.p95,
        stage_ms={
            stage: round(statistics.median(stages[stage] for _, stages in stained), 3)
            for stage in ("read", "model", "write")
        },
        models=report.models,
        memory_peak_mib=report.memory_peak_mib,
        notes=report.notes,
    )


def pace_sequence(bundle: Bundle, *, interval_ms: float, planes: int) -> useq.MDASequence:
    """Return a time-lapse as fast as the exposure lets it be, with the stacks that the model needs.

    Raises
    ------
    BundleError
        If the model needs several source channels.
    """
    wanted, output = bundle.description.input, bundle.description.outputs[0].name
    if wanted.more_kinds:
        raise BundleError(
            f"The model {bundle.name} needs {len(wanted.kinds)} source channels; this measurement has one "
            "camera channel. Measure it without the camera, or choose another model."
        )
    depth = _depth(bundle)
    step = wanted.z_step_um or 0.5
    stack = {"range": (depth - 1) * step, "step": step} if depth > 1 else None
    channels = {output: {"source": _SOURCE, "source_kind": wanted.kind, "lag": "backfill"}}
    return useq.MDASequence.model_validate(
        {
            "axis_order": "tpgcz",
            "time_plan": {"interval": 0, "loops": max(1, planes // depth)},
            "z_plan": stack,
            "channels": [
                {"group": "Channel", "config": _SOURCE, "exposure": interval_ms},
                {"group": VIRTUAL_GROUP, "config": output},
            ],
            "metadata": {"livestain": {"channels": channels}},
        }
    )


def pace_camera(size: int) -> CMMCorePlus:
    """Return Micro-Manager's demo hardware, its camera showing square frames of noise.

    Raises
    ------
    MicroscopeError
        If the camera cannot have frames of that size.
    """
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    leave_quietly(core)
    core.loadSystemConfiguration()
    camera = core.getCameraDevice()
    try:
        for name, value in (
            ("PixelType", "16bit"),
            ("OnCameraCCDXSize", str(size)),
            ("OnCameraCCDYSize", str(size)),
            ("Mode", "Noise"),  # compresses to a half, as real brightfield does
        ):
            core.setProperty(camera, name, value)
        core.setProperty("Z", "UseSequences", "Yes")
        core.snapImage()
        # From here on that picture is repeated.
        core.setProperty(camera, "FastImage", "1")
        core.snapImage()
    except (RuntimeError, ValueError) as error:
        core.unloadAllDevices()
        raise MicroscopeError(
            f"The demo camera cannot have frames of {size} x {size} pixels: "
            f"{' '.join(str(error).split())[:200]} Give a smaller --size."
        ) from error
    return core

"""What a run would do, told before anything moves: planes, bytes, time, light, and if a model keeps up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from livestain.light import Light
from livestain.live.events import is_image
from livestain.stain.team import make_host
from livestain.store.space import disk_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from livestain.live.plan import RunPlan
    from livestain.live.session import Session

__all__ = ["KeepsUp", "Rehearsal", "rehearse"]


@dataclass(frozen=True)
class KeepsUp:
    """Whether the models keep up with the camera on this machine.

    Attributes
    ----------
    share_live : float
        Fraction of the virtual planes that are stained while the run goes on.
    rest_s : float or None
        Seconds of staining after the last image; None where nobody knows how many images there will be.
    model_ms : dict
        Milliseconds of one prediction by bundle, measured at the run's frame size on this machine. A
        model of whole stacks predicts a stack at once.
    lags : tuple of str
        Lag policies of the virtual channels, each once: what becomes of the rest.
    """

    share_live: float
    rest_s: float | None
    model_ms: dict[str, float]
    lags: tuple[str, ...] = ("backfill",)


@dataclass(frozen=True)
class Rehearsal:
    """What a run would do.

    Where nobody knows how many time points there will be, its numbers are those of one time point.

    Attributes
    ----------
    out : str
        The store it would write.
    planes_raw, planes_virtual : int
        Planes that the sequence asks for.
    shape : tuple of int
        Height and width of a plane, in pixels.
    bytes_needed, bytes_free : int
        Of all planes with their pyramids, before compression, and of the disk.
    seconds : float
        Least duration of the acquisition: exposures and intervals, without moves and readout.
    light : dict of Light
        By raw channel.
    keeps_up : KeepsUp or None
        None where nothing is predicted.
    models : list of dict
        Virtual channel, bundle, device, backend and resampling, as the report of the run has them.
    open_end : bool
        Whether nobody knows how many time points there will be.
    duration_s : float or None
        Where nobody knows, for how long they follow each other; None = until the run is stopped.
    most_times : int or None
        How many there will then be at most.
    """

    out: str
    planes_raw: int
    planes_virtual: int
    shape: tuple[int, int]
    bytes_needed: int
    bytes_free: int
    seconds: float
    light: dict[str, Light]
    keeps_up: KeepsUp | None
    models: list[dict[str, Any]]
    open_end: bool = False
    duration_s: float | None = None
    most_times: int | None = None

    @property
    def verdict(self) -> str:
        """One sentence on whether the models keep up; empty where nothing is predicted."""
        if self.keeps_up is None:
            return ""
        height, width = self.shape
        rate = self.planes_raw / self.seconds if self.seconds else float("inf")
        per_second = f"at up to {rate:.3g} planes/s" if rate < 1e6 else "as fast as the camera goes"
        where = f"{width} x {height} {per_second}"
        if self.keeps_up.share_live >= 1:
            return f"{where}: the model keeps up."
        rest = "" if self.keeps_up.rest_s is None else f", {_words(self.keeps_up.rest_s)}"
        if "lockstep" in self.keeps_up.lags:
            if self.open_end:
                return f"{where}: the acquisition waits for the model (lockstep)."
            return f"{where}: the acquisition waits for the model (lockstep){rest} longer or more."
        share = f"{where}: about {100 * self.keeps_up.share_live:.0f} % of planes live"
        if self.keeps_up.lags == ("live-only",):
            return f"{share}, the rest skipped (live-only)."
        if "live-only" in self.keeps_up.lags:
            return (
                f"{share}, the rest skipped where live-only, else done after the run{rest} at most."
            )
        return f"{share}, the rest done after the run{rest}."

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON types."""
        return {**asdict(self), "verdict": self.verdict}


def rehearse(session: Session) -> Rehearsal:
    """Check all that a run would check, and measure its models; nothing on the microscope moves.

    Nothing is written either. The models are loaded where the run would load them, and predict
    from noise of the camera's frame size.

    Parameters
    ----------
    session : Session
        Not started.

    Raises
    ------
    LivestainError
        One sentence on what cannot work.
    """
    session.check()
    plan = session.plan
    told: list[dict[str, Any]] = []
    if plan.bundles:
        host = make_host(session.worker_setup(), lambda kind, message: None)
        try:
            host.start()
            told = host.models
        finally:
            host.close(at_once=True)
    channels = plan.store.channels
    planned = dict.fromkeys(("raw", "virtual"), 0)
    for c, channel in enumerate(channels):
        planned[channel.kind] += int(plan.store.planned(c).sum())
    seconds, light = _time_and_light(plan, session.core.getExposure())
    endless = session.endless
    most = None if endless is None else endless.most(_least_s(plan, light))
    models = [{"channel": channels[m["c"]].name, **m} for m in told]
    return Rehearsal(
        out=str(session.out),
        planes_raw=planned["raw"],
        planes_virtual=planned["virtual"],
        shape=(plan.store.height, plan.store.width),
        bytes_needed=plan.store.nbytes(),
        bytes_free=disk_of(session.out)[1],
        seconds=seconds,
        light=light,
        keeps_up=_keeps_up(plan, models, seconds, most) if models else None,
        models=models,
        open_end=plan.store.open_end,
        duration_s=None if endless is None else endless.duration_s,
        most_times=most,
    )


def _least_s(plan: RunPlan, light: Mapping[str, Light]) -> float:
    """Return how long a time point takes at least, on the average of those that `acquire_every` thins out."""
    every = {channel.config: channel.acquire_every for channel in plan.sequence.channels}
    return sum(dose.seconds / every.get(name, 1) for name, dose in light.items())


def _time_and_light(plan: RunPlan, exposure_ms: float) -> tuple[float, dict[str, Light]]:
    """Go through the events as the runner would; channels without an exposure have the camera's."""
    exposures: dict[str, list[float]] = {}
    now = began = 0.0
    for event in plan.sequence:
        if event.reset_event_timer:
            began = now
        now = max(now, began + (event.min_start_time or 0.0))
        if is_image(event):
            name = event.channel.config if event.channel is not None else "camera"
            exposures.setdefault(name, []).append(event.exposure or exposure_ms)
            now += exposures[name][-1] / 1e3
    return now, {name: Light.of(ms) for name, ms in exposures.items()}


def _keeps_up(
    plan: RunPlan, models: Sequence[Mapping[str, Any]], seconds: float, most: int | None
) -> KeepsUp:
    """Compare what the models need with the time that the run takes, or each of its time points."""
    needed: dict[tuple[int, str], float] = {}
    workers = len({model.get("worker", 0) for model in models})
    model_ms: dict[str, float] = {}
    for model in models:
        c, name = model["c"], model["bundle"]
        planes = plan.store.planned(c)
        virtual = plan.store.channels[c].virtual
        whole = virtual is not None and virtual.window.z == "all"
        predictions = int(planes.any(axis=2).sum() if whole else planes.sum())
        model_ms[name] = max(model_ms.get(name, 0.0), model["model_ms"])
        # Channels of several outputs of one model share its predictions, workers divide them.
        key = model.get("worker", 0), name
        seconds_of = predictions / workers * model["model_ms"] / 1e3
        needed[key] = max(needed.get(key, 0.0), seconds_of)
    total = max(
        sum(need for (of, _), need in needed.items() if of == worker) for worker, _ in needed
    )
    share = min(1.0, seconds / total) if total else 1.0
    stained = (channel.virtual for channel in plan.store.channels)
    lags = tuple(sorted({virtual.lag for virtual in stained if virtual is not None}))
    rest_s: float | None = max(0.0, total - seconds)
    if plan.store.open_end and rest_s:
        rest_s = None if most is None else rest_s * most
    return KeepsUp(share, rest_s, model_ms, lags)


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"

"""Staining without a microscope: what a store is owed, another model, or another program's data."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from livestain._version import __version__
from livestain.errors import BundleError, SettingsError, StoreError
from livestain.recordings import is_store
from livestain.restain.asking import Asked, asked_of
from livestain.restain.beside import beside, open_foreign, plan_beside, raw_channels, raw_planes
from livestain.restain.report import RestainReport
from livestain.stain.asked import ChannelSettings
from livestain.stain.ledger import Ledger
from livestain.stain.planes import find_recording
from livestain.stain.planning import RawPlanes
from livestain.stain.provenance import model_facts, versions_of
from livestain.stain.setup import worker_setup
from livestain.stain.team import make_host
from livestain.store import (
    Journal,
    StoreLock,
    StorePlan,
    check_place,
    create_store,
    finalise,
    journal_lines,
    journal_path,
    last_words,
    open_store,
    settle,
    store_status,
)
from livestain.store.space import disk_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from livestain.bundle import Bundle
    from livestain.planes import PlaneIndex
    from livestain.recordings import Recording
    from livestain.stain.host import HostSettings
    from livestain.store import Store

__all__ = ["restain"]

_PACKAGES = ("torch", "tensorstore", "tifffile", "zarr")


def restain(
    store: Path | str,
    *,
    model: str | None = None,
    channel: str | None = None,
    models: Mapping[str, str] | None = None,
    settings: ChannelSettings | None = None,
    out: Path | str | None = None,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    again: bool = False,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    worker: Literal["process", "thread"] = "process",
    host_settings: HostSettings | None = None,
    break_lock: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> RestainReport:
    """Predict what is planned in a store, whose sources are there, and which is not there yet.

    Without a model: what a run owes, after ``--leave-owed``, an interruption or a crash, by the models that
    it began with, known by their SHA-256. With a model: the channel of the store that this model fills, or a
    new one, added after those that are there. Of data that another program wrote, the predictions go into a
    store beside them, and the data are only read. One channel never holds predictions of two models, and what
    is there is never touched. Not while a run goes on: it has its own worker.

    Parameters
    ----------
    store : Path or str
        RUN.ome.zarr, its journal beside it; or a recording of another program: OME-Zarr (0.4, 0.5), OME-TIFF,
        ImageJ hyperstack, NDTiff, or the OME-TIFF of Micro-Manager's own program.
    model : str, optional
        Name or folder of a bundle.
    channel : str, optional
        The virtual channel that is meant; for a new one its name, by default that of the model's output.
    models : mapping, optional
        Where a bundle is now, by virtual channel, if not on the search path under its name. Of data that have
        no virtual channel yet: the models of new ones.
    settings : ChannelSettings, optional
        Of new channels: source, kind of the source, output, flat field.
    out : Path or str, optional
        The store of a recording's predictions, by default NAME.stained.ome.zarr beside it; of a store of
        livestain, a place for predictions if it may not be written to itself.
    pixel_size_um, z_step_um : float, optional
        Of a recording that does not say them, or says them wrongly; micrometres.
    again : bool
        Whether to try planes too that were skipped by a lag policy, or on which the model failed.
    device, backend, threads
        See `WorkerSetup`.
    worker : {"process", "thread"}
        Where predictions are made.
    host_settings : HostSettings, optional
        How patient to be with the worker.
    break_lock : bool
        Whether to take over the lock of a process that may still run on another machine.
    stop : threading.Event, optional
        When set, ends at once; what is owed stays owed.
    progress : callable, optional
        Called as ``(stained, to_be_stained)``, from a thread.
    tell : callable, optional
        Called with each of the report's notes as soon as it is known, from a thread.

    Raises
    ------
    StoreError
        If a store cannot be used, or another process is writing to it.
    BundleError
        If a model is not found, does not fit, or is another than its channel was begun with.
    DataError
        If a recording cannot be used, or a flat field or dark frame of the run is gone or has changed.
    SequenceError
        If it is not clear what a new channel is to be predicted from.
    """
    begun = time.perf_counter()
    path = Path(store).absolute()
    for what, um in (("pixel size", pixel_size_um), ("z-step", z_step_um)):
        if um is not None and not (math.isfinite(um) and um > 0):
            raise SettingsError(f"The {what} {um:g} um cannot be; give micrometres greater than 0.")
    wanted = _Wanted(model, channel, dict(models or {}), settings or ChannelSettings())
    with ExitStack() as stack:
        recording: Recording | None = None
        if not is_store(path) or out is not None:
            recording = open_foreign(path)
            stack.callback(recording.close)
        target = path if recording is None else Path(out).absolute() if out else beside(path)
        if recording is not None and recording.path.resolve() in target.resolve().parents:
            raise StoreError(
                f"{target} would lie inside {recording.path}, which is only read. Give an --out beside it."
            )
        if recording is None or target.exists():
            open_store(target).close()  # what is no store needs no lock
        stack.enter_context(StoreLock(target, "restain", break_lock=break_lock))
        if recording is None or target.exists():
            job = _job_here(target, recording, wanted, pixel_size_um, z_step_um)
        else:
            check_place(target, overwrite=False)
            job = _job_beside(target, recording, wanted, pixel_size_um, z_step_um)
        return _do(
            job,
            begun,
            again=again,
            device=device,
            backend=backend,
            threads=threads,
            worker=worker,
            host_settings=host_settings,
            stop=stop,
            progress=progress,
            tell=tell,
        )


@dataclass(frozen=True)
class _Wanted:
    """What the caller asks for."""

    model: str | None
    channel: str | None
    models: dict[str, str]
    settings: ChannelSettings

    def of(
        self, plan: StorePlan | None, raw: RawPlanes, facts: Mapping[str, Any] | None = None
    ) -> Asked:
        return asked_of(
            raw_channels(raw) if plan is None else plan.channels,
            raw,
            model=self.model,
            channel=self.channel,
            models=self.models,
            settings=self.settings,
            facts=facts,
        )


@dataclass(frozen=True)
class _Job:
    """What is to be done, known before anything is written.

    Attributes
    ----------
    path : Path
        The store.
    plan : StorePlan
        As it will be, with new channels.
    asked : Asked
    is_new : bool
        Whether the store is to be made.
    simulated : bool
        Whether the recording of a new store says that its cells are simulated.
    """

    path: Path
    plan: StorePlan
    asked: Asked
    is_new: bool
    simulated: bool = False

    @property
    def bundles(self) -> dict[int, tuple[Bundle, str]]:
        """Bundle and output by virtual channel's place, of all that are meant."""
        first = len(self.plan.channels) - len(self.asked.new)
        return self.asked.here | {
            first + n: (new.bundle, new.planned.output) for n, new in enumerate(self.asked.new)
        }

    @property
    def names(self) -> list[str]:
        """The channels that are meant."""
        return [self.plan.channels[c].name for c in sorted(self.bundles)]


def _job_here(
    path: Path,
    recording: Recording | None,
    wanted: _Wanted,
    pixel_size_um: float | None,
    z_step_um: float | None,
) -> _Job:
    """Plan the work on a store that is there."""
    with open_store(path) as opened:
        plan, facts = opened.plan, opened.attributes.get("models")
    if recording is not None:
        _check_same(plan, recording, path)
    if pixel_size_um is not None and abs(pixel_size_um / plan.pixel_size_um - 1) > 1e-6:
        raise StoreError(
            f"{path.name} has pixels of {plan.pixel_size_um:g} um; {pixel_size_um:g} um was given. Leave it "
            "out, or stain anew into another --out."
        )
    if z_step_um is not None and z_step_um != plan.z_step_um:
        raise StoreError(
            f"{path.name} has the z-step {plan.z_step_um} um; {z_step_um:g} um was given. Leave it out, or "
            "stain anew into another --out."
        )
    if plan.open_end:  # of a run that died, whose events were decided as it went on
        with open_store(path, mode="r+") as opened:
            settle(opened)
            plan = opened.plan
    asked = wanted.of(plan, RawPlanes.of(plan), facts)
    if not asked.here and not asked.new:
        raise StoreError(
            f"{path} has no virtual channel, so nothing can be owed in it. Expected a store of a run "
            "with a channel of the group Virtual; or give a model, to add a channel: --model BUNDLE."
        )
    channels = (*plan.channels, *(new.planned.channel for new in asked.new))
    plan = StorePlan.parse({**dict(plan), "channels": channels}, where=f"the plan of {path}")
    return _Job(path, plan, asked, is_new=False)


def _check_same(plan: StorePlan, recording: Recording, path: Path) -> None:
    """Refuse a store that holds the predictions of other data, or is a run."""
    if plan.recording is not None:
        known = find_recording(plan.recording, plan, path)
        known.close()
        if known.path.resolve() == recording.path.resolve():
            return
    raise StoreError(
        f"{path} is there already and holds no predictions of {recording.path}. Give another --out."
    )


def _job_beside(
    path: Path,
    recording: Recording,
    wanted: _Wanted,
    pixel_size_um: float | None,
    z_step_um: float | None,
) -> _Job:
    """Plan the store of a recording's predictions."""
    raw = raw_planes(recording, pixel_size_um, z_step_um)
    asked = wanted.of(None, raw)
    if not asked.new:
        raise BundleError(
            f"{recording.path} ({recording.kind}) is no run of livestain, so it has no model of its own. "
            "Give one: --model BUNDLE, a name or a folder."
        )
    plan = plan_beside(recording, raw, [new.planned.channel for new in asked.new], path)
    return _Job(path, plan, asked, is_new=True, simulated=recording.simulated)


def _do(
    job: _Job,
    begun: float,
    *,
    again: bool,
    device: str,
    backend: str,
    threads: int | None,
    worker: Literal["process", "thread"],
    host_settings: HostSettings | None,
    stop: threading.Event | None,
    progress: Callable[[int, int], None] | None,
    tell: Callable[[str], None] | None,
) -> RestainReport:
    path, plan, bundles = job.path, job.plan, job.bundles
    before = {} if job.is_new else store_status(path).by_channel
    todo = sum(len(new.planned.needed) for new in job.asked.new)
    for name in set(job.names) & set(before):
        todo += before[name].missing if again else before[name].owed - before[name].waiting
    _check_room(job, todo)
    given_up = set() if again or job.is_new else _given_up(path, plan)
    ledger = Ledger()
    known = 0
    failed: list[dict[str, Any]] = []

    def report(kind: str, message: dict[str, Any]) -> None:
        if kind == "impossible":
            failed.append(message)
        if kind == "fault" and tell is not None:
            tell(str(message["why"]))
        if ledger.take(kind, message) is not None and progress is not None:
            progress(len(ledger.stained) - known, todo)

    setup = worker_setup(
        plan,
        bundles,
        device=device,
        backend=backend,
        threads=threads,
        excluded=given_up,
        live=False,
    )
    host = make_host(setup, report, kind=worker, settings=host_settings)
    try:
        # Before the store: a model that cannot work must leave no channel, and no store, behind.
        host.start()
        with _opened(job) as opened, Journal(journal_path(path)) as journal:
            there = opened.present_indices()
            ledger.stained.update(i for i in there if plan.channels[i.c].kind == "virtual")
            known = len(ledger.stained)
            ledger.open(opened, journal)
            journal.append(
                "restain",
                livestain=__version__,
                versions=versions_of(_PACKAGES),
                added=[new.planned.channel.name for new in job.asked.new],
                models=host.models,
            )
            host.open(str(path))
            done = host.finish(cancelled=stop)
            host.close(at_once=stop is not None and stop.is_set())
            if host.error is not None:
                raise host.error
            ledger.unreported()
            journal.append("restained", planes=len(ledger.stained) - known, interrupted=not done)
    finally:
        host.close(at_once=True)
    finalise(path)
    status = store_status(path).by_channel
    after = [status[name] for name in job.names]
    waiting = sum(counts.waiting for counts in after)
    present = sum(counts.present for counts in after)
    return RestainReport(
        store=str(path),
        channels=job.names,
        added=[new.planned.channel.name for new in job.asked.new],
        planes_stained=present - sum(before[name].present for name in job.names if name in before),
        planes_owed=sum(counts.owed for counts in after) - waiting,
        planes_waiting=waiting,
        planes_failed=len(failed),
        planes_given_up=sum(counts.skipped + counts.impossible for counts in after),
        interrupted=not done,
        worker_deaths=host.deaths,
        seconds=round(time.perf_counter() - begun, 3),
        models=[{"channel": plan.channels[m["c"]].name, **m} for m in host.models],
        notes=ledger.notes,
    )


def _check_room(job: _Job, planes: int) -> None:
    """Refuse what does not fit on the disk."""
    folder, free = disk_of(job.path)
    needed = planes * job.plan.plane_nbytes()
    if needed > free:
        raise StoreError(
            f"The predictions may need {needed / 1e6:,.1f} MB and {folder} has {free / 1e6:,.1f} MB free. "
            "Make room, or choose another --out."
        )


@contextmanager
def _opened(job: _Job) -> Iterator[Store]:
    """Give the store for writing, with the channels that are new."""
    facts = model_facts(job.plan, job.bundles)
    if job.is_new:
        attributes: dict[str, Any] = {"models": facts, "versions": versions_of(_PACKAGES)}
        if job.simulated:  # what is predicted from simulated cells is of simulated cells
            attributes["simulated"] = True
        with create_store(job.path, job.plan, attributes=attributes) as store:
            yield store
        return
    with open_store(job.path, mode="r+") as store:
        store.remove_stale_writes()
        if job.asked.new:
            store.add_channels(
                [new.planned.channel for new in job.asked.new],
                {"models": {**store.attributes.get("models", {}), **facts}},
            )
        yield store


def _given_up(path: Path, plan: StorePlan) -> set[PlaneIndex]:
    """Return the virtual planes that the journal's last word gives up."""
    words = last_words(journal_lines(path)).missing
    return {index for index in words if plan.channels[index.c].kind == "virtual"}

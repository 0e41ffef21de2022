"""Staining without a microscope: what a store is owed is predicted now."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from livestain._version import __version__
from livestain.bundle import find_bundle
from livestain.errors import BundleError, DataError, StoreError
from livestain.flat_field import FlatField
from livestain.stain.ledger import Ledger
from livestain.stain.setup import worker_setup
from livestain.stain.team import make_host
from livestain.store import (
    Journal,
    StoreLock,
    finalise,
    journal_lines,
    journal_path,
    last_words,
    open_store,
    settle,
    store_status,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from livestain.bundle import Bundle
    from livestain.planes import PlaneIndex
    from livestain.stain.host import HostSettings
    from livestain.store import Store, StorePlan

__all__ = ["RestainReport", "restain"]


@dataclass(frozen=True)
class RestainReport:
    """How a staining after the run ended.

    Attributes
    ----------
    store : str
        Path of the store.
    planes_stained : int
        Virtual planes that were written now.
    planes_owed : int
        Those that can be stained and are not yet: it was interrupted.
    planes_waiting : int
        Those whose source planes are not there, of a run that has not come to its end.
    planes_failed : int
        Those on which the model failed now, or killed its worker.
    planes_given_up : int
        Those that are skipped or impossible, with these.
    interrupted : bool
        Whether the user stopped it.
    worker_deaths : int
        How often the worker died or was killed for hanging.
    seconds : float
        Wall time.
    models : list of dict
        Virtual channel, bundle, device and backend.
    notes : list of str
        What went wrong without ending it.
    """

    store: str
    planes_stained: int
    planes_owed: int
    planes_waiting: int
    planes_failed: int
    planes_given_up: int
    interrupted: bool
    worker_deaths: int
    seconds: float
    models: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        return asdict(self)


def restain(
    store: Path | str,
    *,
    models: Mapping[str, str] | None = None,
    again: bool = False,
    device: str = "auto",
    threads: int | None = None,
    worker: Literal["process", "thread"] = "process",
    host_settings: HostSettings | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> RestainReport:
    """Predict what is planned in a store, whose sources are there, and which is not there yet.

    After a run with ``--leave-owed``, an interrupted one, or a crash. The models are those that the run began
    with, known by their SHA-256, so that one channel never holds predictions of two. What is there is never
    touched. Not while the run goes on: it has its own worker.

    Parameters
    ----------
    store : Path or str
        RUN.ome.zarr, its journal beside it.
    models : mapping, optional
        Where a bundle is now, by virtual channel, if not on the search path under its name.
    again : bool
        Whether to try planes too that were skipped by a lag policy, or on which the model failed.
    device, threads
        See `WorkerSetup`.
    worker : {"process", "thread"}
        Where predictions are made.
    host_settings : HostSettings, optional
        How patient to be with the worker.
    stop : threading.Event, optional
        When set, ends at once; what is owed stays owed.
    progress : callable, optional
        Called as ``(stained, to_be_stained)``, from a thread.
    tell : callable, optional
        Called with each of the report's notes as soon as it is known, from a thread.

    Raises
    ------
    StoreError
        If there is no livestain store, or another process is writing to it.
    BundleError
        If a model is not found, or is another than the run began with.
    DataError
        If a flat field or dark frame of the run is gone or has changed.
    """
    path = Path(store).absolute()
    open_store(path).close()  # what is no store needs no lock
    with StoreLock(path, "restain"):
        return _restain(
            path,
            models=models,
            again=again,
            device=device,
            threads=threads,
            worker=worker,
            host_settings=host_settings,
            stop=stop,
            progress=progress,
            tell=tell,
        )


def _restain(
    path: Path,
    *,
    models: Mapping[str, str] | None,
    again: bool,
    device: str,
    threads: int | None,
    worker: Literal["process", "thread"],
    host_settings: HostSettings | None,
    stop: threading.Event | None,
    progress: Callable[[int, int], None] | None,
    tell: Callable[[str], None] | None,
) -> RestainReport:
    began = time.perf_counter()
    with open_store(path) as opened:
        plan = opened.plan
    if plan.open_end:  # of a run that died, whose events were decided as it went on
        with open_store(path, mode="r+") as opened:
            settle(opened)
            plan = opened.plan
    before = store_status(path)
    bundles = _bundles(plan, dict(models or {}))
    if not bundles:
        raise StoreError(
            f"{path} has no virtual channel, so nothing can be owed in it. Expected a store of a run "
            "with a channel of the group Virtual."
        )
    given_up = _given_up(path, plan) if not again else set()
    with open_store(path, mode="r+") as opened, Journal(journal_path(path)) as journal:
        ledger = Ledger()
        ledger.open(opened, journal)
        there = opened.present_indices()
        ledger.stained.update(i for c in bundles for i in plan.planned_indices(c) if i in there)
        known = len(ledger.stained)
        failed: list[dict[str, Any]] = []
        todo = before.virtual.missing if again else before.virtual.owed

        def report(kind: str, message: dict[str, Any]) -> None:
            if kind == "impossible":
                failed.append(message)
            if kind == "fault" and tell is not None:
                tell(str(message["why"]))
            if ledger.take(kind, message) is not None and progress is not None:
                progress(len(ledger.stained) - known, todo)

        setup = worker_setup(
            plan, bundles, device=device, threads=threads, excluded=given_up, live=False
        )
        host = make_host(setup, report, kind=worker, settings=host_settings)
        try:
            host.start()
            journal.append("restain", livestain=__version__, models=host.models)
            host.open(str(path))
            done = host.finish(cancelled=stop)
        finally:
            host.close(at_once=stop is not None and stop.is_set())
        if host.error is not None:
            raise host.error
        ledger.unreported()
        waiting = _waiting(opened, bundles)
        journal.append("restained", planes=len(ledger.stained) - known, interrupted=not done)
    finalise(path)
    after = store_status(path).virtual
    return RestainReport(
        store=str(path),
        planes_stained=after.present - before.virtual.present,
        planes_owed=max(0, after.owed - waiting),
        planes_waiting=min(after.owed, waiting),
        planes_failed=len(failed),
        planes_given_up=after.skipped + after.impossible,
        interrupted=not done,
        worker_deaths=host.deaths,
        seconds=round(time.perf_counter() - began, 3),
        models=[{"channel": plan.channels[m["c"]].name, **m} for m in host.models],
        notes=ledger.notes,
    )


def _bundles(plan: StorePlan, models: dict[str, str]) -> dict[int, tuple[Bundle, str]]:
    """Return bundle and output by virtual channel, each the one that the run began with."""
    names = [channel.name for channel in plan.channels if channel.virtual is not None]
    if strange := sorted(set(models) - set(names)):
        raise BundleError(
            f"A model is given for {strange[0]!r}, which is no virtual channel of the store; it has: "
            f"{', '.join(names) or 'none'}."
        )
    found: dict[int, tuple[Bundle, str]] = {}
    for c, channel in enumerate(plan.channels):
        virtual = channel.virtual
        if virtual is None:
            continue
        bundle = find_bundle(models.get(channel.name, virtual.bundle))
        if bundle.sha256 != virtual.bundle_sha256:
            raise BundleError(
                f"The channel {channel.name!r} was begun with the model {virtual.bundle} of SHA-256 "
                f"{virtual.bundle_sha256[:12]}, and {bundle.path} has {bundle.sha256[:12]}. A channel holds "
                f"predictions of one model: give that one with --model {channel.name}=FOLDER."
            )
        found[c] = (bundle, virtual.output)
        if virtual.correction is not None:
            files = (virtual.correction.flat_field, virtual.correction.dark_frame)
            if FlatField(*files).sha256 != virtual.correction.sha256:
                raise DataError(
                    f"The planes of {channel.name!r} were corrected by {' and '.join(filter(None, files))}, "
                    "which has changed since. Put the files of the run back."
                )
    return found


def _waiting(store: Store, channels: Iterable[int]) -> int:
    """Return how many virtual planes are not there for want of a source."""
    there = store.present_indices()
    return sum(
        index not in there and not there.issuperset(store.plan.sources_of(index))
        for c in channels
        for index in store.plan.planned_indices(c)
    )


def _given_up(path: Path, plan: StorePlan) -> set[PlaneIndex]:
    """Return the virtual planes that the journal's last word gives up."""
    words = last_words(journal_lines(path)).missing
    return {index for index in words if plan.channels[index.c].kind == "virtual"}

"""What a run holds open, from the warm worker to the last line of its journal."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from livestain._version import __version__
from livestain.live.buffer import write_room
from livestain.live.recorder import Recorder
from livestain.live.report import RunReport
from livestain.live.resuming import check_unchanged
from livestain.stain.provenance import model_facts
from livestain.stain.stained import Latency
from livestain.stain.team import make_host
from livestain.store import (
    STOPPED,
    Journal,
    StoreLock,
    create_store,
    finalise,
    journal_path,
    open_store,
    settle,
    store_status,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from livestain.live.memory import MemoryWatch
    from livestain.live.plan import RunPlan
    from livestain.live.resuming import Earlier
    from livestain.planes import PlaneIndex
    from livestain.stain.host import HostSettings, WorkerHost
    from livestain.stain.ledger import Ledger
    from livestain.stain.protocol import WorkerSetup
    from livestain.stain.team import WorkerTeam
    from livestain.store import Store

__all__ = ["OpenRun", "open_run"]


@dataclass
class OpenRun:
    """The parts of a run, open; made by `open_run`, ended by `end`, closed by `close`.

    Attributes
    ----------
    out : Path
        The store's place.
    plan : RunPlan
        What it holds.
    host : WorkerHost or WorkerTeam
        The worker, or several.
    lock, store, journal, recorder, ledger, memory
        See their classes.
    """

    out: Path
    plan: RunPlan
    host: WorkerHost | WorkerTeam
    lock: StoreLock
    store: Store
    journal: Journal
    recorder: Recorder
    ledger: Ledger
    memory: MemoryWatch

    def end(
        self,
        began: float,
        errors: list[BaseException],
        *,
        stopped: bool,
        interrupted: Callable[[], bool],
        aborted: threading.Event,
        leave_owed: bool,
        asked: Iterable[PlaneIndex] | None,
        answers_ms: Sequence[float],
    ) -> RunReport:
        """Go downstream in order: last raw writes, then what is owed, then times and report.

        Parameters
        ----------
        began : float
            When the hardware first moved, on the clock `time.perf_counter`.
        errors : list of BaseException
            The run's errors so far; the worker's is added.
        stopped : bool
            Whether the acquisition was cut short.
        interrupted : callable
            Whether the user stopped the run; asked when what is owed is done.
        aborted : threading.Event
            Ends the staining of what is owed.
        leave_owed : bool
            Whether to leave it.
        asked : iterable of PlaneIndex or None
            The raw planes that were asked for, where the plan does not know them.
        answers_ms : sequence of float
            Of decided events: from a frame to the decision.
        """
        ledger = self.ledger
        self.recorder.flush()
        if self.recorder.slowness:
            ledger.take("fault", {"why": self.recorder.slowness})
        why = STOPPED if stopped else "the camera gave no image for it"
        ledger.missing(why, asked)
        if not leave_owed:
            self.host.finish(cancelled=aborted)
        if self.host.error is not None:
            errors.append(self.host.error)
        seconds = time.perf_counter() - began
        self.host.close(at_once=aborted.is_set())
        if self.store.plan.open_end:
            settle(self.store)
        ledger.unreported()
        self.memory.close()
        if self.memory.error is not None:
            ledger.notes.append(f"memory was not watched to the end: {self.memory.error}")
        was_interrupted = interrupted()
        self.journal.append("finished", interrupted=was_interrupted, failed=bool(errors))
        finalise(self.out)
        status = store_status(self.out).by_channel
        # Of channels that were added to it later the run knows nothing; they are another work's.
        own = [status[channel.name] for channel in self.plan.store.channels]
        owed = sum(counts.owed for counts in own)
        others = set(status) - {channel.name for channel in self.plan.store.channels}
        if any(status[name].owed for name in others):
            names = " and ".join(sorted(others))
            ledger.notes.append(f"planes of {names} are owed, too: livestain restain predicts them")
        return RunReport(
            store=str(self.out),
            planes_acquired=ledger.acquired,
            planes_stained=len(ledger.stained) - ledger.known,
            planes_missing=sum(counts.impossible for counts in own) + (0 if leave_owed else owed),
            planes_skipped=sum(counts.skipped for counts in own),
            planes_owed=owed,
            planes_uncertain=len(ledger.uncertain),
            planes_filled_in_later=len(ledger.stained) - ledger.known - len(ledger.latencies_ms),
            latency_ms=Latency.of(ledger.latencies_ms),
            answer_ms=Latency.of(answers_ms),
            worker_deaths=self.host.deaths,
            interrupted=was_interrupted,
            seconds=round(seconds, 3),
            models=[
                {"channel": self.plan.store.channels[m["c"]].name, **m} for m in self.host.models
            ],
            memory_peak_mib=self.memory.peak_mib,
            notes=ledger.notes,
        )

    def close(self, errors: list[BaseException]) -> None:
        """Close upstream to downstream, each once, whatever happened before; what they raise is added."""
        for close in (
            self.recorder.close,
            self.host.close,
            self.memory.close,
            self.journal.close,
            # It waits for the writes on their way; a disk that takes nothing any more has them for good.
            *(() if self.recorder.given_up else (self.store.close,)),
            self.lock.close,
        ):
            try:
                close()
            except Exception as error:
                errors.append(error)


def open_run(
    plan: RunPlan,
    setup: WorkerSetup,
    out: Path,
    *,
    attributes: Callable[[], dict[str, Any]],
    ledger: Ledger,
    memory: MemoryWatch,
    overwrite: bool,
    resume: Earlier | None,
    break_lock: bool,
    max_bytes: int | None,
    kind: Literal["process", "thread"],
    host_settings: HostSettings | None,
    on_worker: Callable[[str, dict[str, Any]], None],
    on_committed: Callable[[PlaneIndex, int, int], None],
    on_error: Callable[[BaseException], None],
) -> OpenRun:
    """Warm the worker, then allocate the store; nothing is left of either where something cannot work.

    Parameters
    ----------
    plan, setup, out
        What is to be done, by which models, and where.
    attributes : callable
        Gives the store's further attributes, asked when the models are warm.
    ledger, memory
        The run's own, not open yet.
    overwrite, max_bytes, kind, host_settings
        See `Session`.
    resume : Earlier or None
        What the store holds already, where it is there and is gone on with.
    break_lock : bool
        See `StoreLock`.
    on_worker, on_committed, on_error : callable
        See `WorkerHost` and `Recorder`.

    Raises
    ------
    LivestainError
        What a model, the worker or the store refuses.
    """
    with ExitStack() as stack:
        # Without models the worker only writes pyramids: a thread does, and no torch is loaded.
        host = make_host(
            setup, on_worker, kind=kind if plan.bundles else "thread", settings=host_settings
        )
        stack.callback(host.close, at_once=True)
        # Before the store: a model that cannot work must not cost a store that was to be replaced.
        host.start()
        lock = StoreLock(out, "run", break_lock=break_lock)
        stack.callback(lock.close)
        if resume is not None:
            check_unchanged(resume, out)
            store = open_store(out, mode="r+")
            stack.callback(store.close)
            store.remove_stale_writes()
            if plan.store.open_end:
                store.reopen(plan.store)
        else:
            facts = {**attributes(), "models": model_facts(plan.store, plan.bundles)}
            store = create_store(out, plan.store, overwrite=overwrite, attributes=facts)
            stack.callback(store.close)
            stack.callback(shutil.rmtree, store.path, ignore_errors=True)  # it holds no plane yet
            stack.callback(journal_path(store.path).unlink, missing_ok=True)
        journal = Journal(journal_path(out))
        stack.callback(journal.close)
        journal.append("started" if resume is None else "resumed", livestain=__version__)
        recorder = Recorder(
            store,
            journal,
            max_bytes=max_bytes or write_room(),
            on_committed=on_committed,
            on_error=on_error,
        )
        stack.callback(recorder.close)
        host.open(str(store.path))
        ledger.open(store, journal)
        stack.pop_all()
    memory.begin(journal)
    return OpenRun(out, plan, host, lock, store, journal, recorder, ledger, memory)

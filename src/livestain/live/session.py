"""One run: the microscope takes raw planes, the store keeps them, a worker stains them meanwhile."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from psygnal import Signal

from livestain.errors import StoreError
from livestain.live.acquisition import Acquisition
from livestain.live.checks import check_idle, check_recording_stays, check_room, pixel_size_of
from livestain.live.core_facts import provenance
from livestain.live.deciding import DecidedEvents
from livestain.live.endless import (
    Endless,
    check_endless,
    endless_time,
    time_points,
    with_open_end,
)
from livestain.live.events import fresh
from livestain.live.fields import has_grid, with_tiles_as_positions
from livestain.live.memory import MemoryWatch
from livestain.live.open_run import OpenRun, open_run
from livestain.live.plan import RunPlan, plan_run
from livestain.live.report import Acquired, Progress, RunReport
from livestain.live.resuming import PASSED, Earlier, check_same, earlier_run, what_remains
from livestain.live.same_dish import check_same_dish
from livestain.live.virtual import settings_of, split_sequence
from livestain.stain.ledger import Ledger
from livestain.stain.setup import worker_setup
from livestain.stain.stained import Stained
from livestain.store import check_place
from livestain.store.space import no_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import useq
    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from livestain.live.recorder import Recorder
    from livestain.planes import PlaneIndex
    from livestain.stain.host import HostSettings, WorkerHost
    from livestain.stain.protocol import WorkerSetup
    from livestain.stain.team import WorkerTeam
    from livestain.store import Store
    from livestain.store.plan import Codec

__all__ = ["Session"]

_WAKE_S = 0.2


class Session:
    """A run of a sequence with virtual channels on a microscope that is configured.

    ::

        planned --start()--> preparing --> acquiring --> staining what is owed --> finished
                                 |             |                   |
                                 +---error-----+-------------------+------------> failed

    Nothing on the microscope moves before the store is allocated and the worker is warm. All methods
    may be called from any thread; signals come from livestain's own threads (in a Qt program connect
    with ``thread="main"``, see psygnal).

    Parameters
    ----------
    core : CMMCorePlus
        The microscope. It stays as it is: its engine and outputs are not touched.
    sequence : useq.MDASequence
        What to acquire; channels of the group "Virtual" are predicted.
    out : path
        The store to write, ``RUN.ome.zarr``; the journal lies beside it.
    events : callable, optional
        Called as ``events(session)``, gives an iterable of events, each decided when the one before is done:
        a run that answers what it sees. See `livestain.live.deciding.DecidedEvents`. The sequence then has no
        time plan and says which positions, channels and depths there may be.
    models : mapping, optional
        Bundle name or folder by virtual channel; wins over the sequence's settings.
    pixel_size_um : float, optional
        Where the core does not know it.
    device : str
        `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:N`; several with commas between them,
        for a worker on each.
    backend : str
        `auto` (each that is ready is timed at the frames' size when the worker starts, and the fastest is
        remembered), or one of `livestain.inference.backend_names`.
    threads : int, optional
        CPU threads for the model; by default all cores but one.
    overwrite : bool
        Whether a livestain store that is there may be replaced.
    codec : {"blosc-lz4", "blosc-zstd", "none"}
        How planes are compressed: fast, small, or not at all.
    max_bytes_in_flight : int, optional
        How many bytes of raw planes may wait for the disk before the acquisition waits for it; by default a
        sixteenth of the free memory, between 256 MiB and 1 GiB.
    leave_owed : bool
        Whether to end with the acquisition: what is then owed is left for `livestain restain`.
    worker : {"process", "thread"}
        Where predictions are made; `thread` is for debugging.
    host_settings : HostSettings, optional
        How patient to be with the worker.

    Raises
    ------
    LivestainError
        From `start` and `run`: one sentence on what cannot work, before anything is touched.
    """

    plane_acquired = Signal(Acquired)
    plane_stained = Signal(Stained)
    finished = Signal(RunReport)
    failed = Signal(Exception)

    def __init__(
        self,
        core: CMMCorePlus,
        sequence: useq.MDASequence,
        out: Path | str,
        *,
        events: Callable[[Session], Iterable[useq.MDAEvent | Sequence[useq.MDAEvent]]]
        | None = None,
        models: Mapping[str, str] | None = None,
        pixel_size_um: float | None = None,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        overwrite: bool = False,
        codec: Codec = "blosc-lz4",
        max_bytes_in_flight: int | None = None,
        leave_owed: bool = False,
        worker: Literal["process", "thread"] = "process",
        host_settings: HostSettings | None = None,
    ) -> None:
        self.core = core
        self.sequence = sequence
        self.out = Path(out).absolute()  # a program may change its folder while it runs
        self._events = events
        self._earlier: Earlier | None = None
        self._break_lock = False
        self._endless: Endless | None = None
        self._models = models
        self._pixel_size_um = pixel_size_um
        self._device = device
        self._backend = backend
        self._threads = threads
        self._overwrite = overwrite
        self._codec: Codec = codec
        self._max_bytes = max_bytes_in_flight
        self._leave_owed = leave_owed
        self._worker_kind = worker
        self._host_settings = host_settings

        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._aborted = threading.Event()
        self._errors: list[BaseException] = []
        self._ledger = Ledger()
        self._memory = MemoryWatch()
        self._acquisition = Acquisition(
            core,
            on_frame=lambda *frame: self._on_frame(*frame),
            on_lost=lambda *told: self._recorder.later(partial(self._ledger.lose, *told)),
            on_uncertain=lambda *told: self._recorder.later(partial(self._ledger.doubt, *told)),
        )
        self._report: RunReport | None = None
        self._shown: set[int] = set()
        self._recorded: set[PlaneIndex] = set()
        self._decided: DecidedEvents | None = None
        self._opened: OpenRun | None = None
        self._host: WorkerHost | WorkerTeam
        self._recorder: Recorder
        self._plan: RunPlan | None = None
        self._planned = {"raw": 0, "virtual": 0}

    @classmethod
    def resume(
        cls,
        core: CMMCorePlus,
        store: Path | str,
        *,
        models: Mapping[str, str] | None = None,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        max_bytes_in_flight: int | None = None,
        leave_owed: bool = False,
        worker: Literal["process", "thread"] = "process",
        host_settings: HostSettings | None = None,
        break_lock: bool = False,
    ) -> Self:
        """Return a session that goes on with a run that died, or was stopped: start it as any other.

        It takes the raw planes that are planned and not there, in the sequence's order; those whose time in
        the plan has passed meanwhile are recorded as missing. Then it stains what is owed.

        Parameters
        ----------
        core : CMMCorePlus
            The microscope, as it was.
        store : path
            RUN.ome.zarr, its journal beside it.
        models : mapping, optional
            Where a bundle is now, by virtual channel, if not on the search path under its name.
        device, backend, threads, max_bytes_in_flight, leave_owed, worker, host_settings
            See `Session`.
        break_lock : bool
            Whether to take the store over from a process of another machine, which may have died; see
            `StoreLock`.

        Raises
        ------
        StoreError
            If there is no store, or its run cannot be gone on with. From `start`: if microscope, sequence or
            models are not those of the run.
        """
        path = Path(store).absolute()
        earlier = earlier_run(path)
        session = cls(
            core,
            earlier.sequence,
            path,
            models={**earlier.bundles, **(models or {})},
            pixel_size_um=earlier.plan.pixel_size_um,
            device=device,
            backend=backend,
            threads=threads,
            codec=earlier.plan.codec,
            max_bytes_in_flight=max_bytes_in_flight,
            leave_owed=leave_owed,
            worker=worker,
            host_settings=host_settings,
        )
        session._earlier = earlier
        session._break_lock = break_lock
        return session

    # ------------------------------------------------------------------ what users call

    def run(self) -> RunReport:
        """Run to the end and return the report.

        Ctrl-C once stops the acquisition and finishes what is owed; twice stops at once. Either way the
        store is valid and the report says `interrupted`.

        Raises
        ------
        Exception
            The first error of any thread, with its traceback; later ones as notes on it.
        """
        self.start()
        return self._wait_through_interrupts()

    def _wait_through_interrupts(self) -> RunReport:
        while True:
            try:
                return self.wait()
            except KeyboardInterrupt:
                if self.cancelled:
                    self.abort()
                else:
                    self.cancel()

    def start(self) -> None:
        """Check everything, allocate the store, warm the worker, then acquire in the background."""
        if self._thread is not None:
            raise RuntimeError("A session runs once; make a new one for another run.")
        self._prepare()
        self._thread = threading.Thread(target=self._live, name="livestain-acquisition")
        self._thread.start()

    def wait(self, timeout: float | None = None) -> RunReport:
        """Wait for the end of a started run and return its report.

        Raises
        ------
        TimeoutError
            If it is not over after `timeout` seconds.
        Exception
            The run's first error.
        """
        if self._thread is None:
            raise RuntimeError("The session was not started.")
        deadline = None if timeout is None else time.monotonic() + timeout
        # In short waits, since Windows does not interrupt a long one by Ctrl-C.
        while not self._over.wait(_WAKE_S):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"The run is not over after {timeout} s.")
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        assert self._report is not None  # noqa: S101 - without an error there is a report
        return self._report

    def cancel(self) -> None:
        """Stop acquiring; what is owed is still stained."""
        self._acquisition.cancel()

    def abort(self) -> None:
        """Stop acquiring and staining; what is owed stays owed, the store stays valid."""
        self._aborted.set()
        self.cancel()

    @property
    def report(self) -> RunReport | None:
        """How the run ended, also where `wait` raises; None before its end."""
        return self._report

    @property
    def notes(self) -> tuple[str, ...]:
        """What has gone wrong so far without ending the run; the report has them too."""
        return tuple(self._ledger.notes)

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` or `abort` was called."""
        return self._acquisition.cancelled

    @property
    def leaves_owed(self) -> bool:
        """Whether the run ends with the acquisition; what is then owed is left."""
        return self._leave_owed

    @property
    def plan(self) -> RunPlan:
        """What this session will do; makes the checks that need no store."""
        if self._plan is None:
            sequence = self.sequence
            if self._events is None and (endless := endless_time(sequence)) is not None:
                self._endless, sequence = endless, sequence.replace(time_plan=None)
            sequence = self._with_fields(sequence)
            if self._endless is not None:
                check_endless(self.core, sequence)
            self._plan = plan_run(
                self.core,
                split_sequence(sequence),
                models=self._models,
                pixel_size_um=self._pixel_size_um,
                codec=self._codec,
                open_end=self._events is not None or self._endless is not None,
            )
            gone: frozenset[PlaneIndex] = frozenset()
            if self._earlier is not None:
                if self._endless is not None:
                    if len(self._earlier.plan.channels) > len(self._plan.store.channels):
                        raise StoreError(
                            f"A channel was added to {self.out.name} after its run, whose time has no end, "
                            "so the run cannot go on. Record into another store."
                        )
                    opened = with_open_end(self._earlier.plan, self._plan.store)
                    self._earlier = replace(self._earlier, plan=opened)
                check_same(self._earlier, self._plan.store, self.core, self.out)
                check_same_dish(self._earlier.simulation, self.core, self.out)
                gone = self._earlier.there | self._earlier.lost | self._earlier.given_up
            for c, channel in enumerate(self._plan.store.channels):
                planned = self._plan.store.planned_indices(c)
                self._planned[channel.kind] += sum(index not in gone for index in planned)
        return self._plan

    @property
    def endless(self) -> Endless | None:
        """The time plan, where nobody knows how many time points it will have; makes the plan."""
        return self._endless if self.plan.store.open_end else None

    @property
    def store(self) -> Store:
        """The open store, from `start` on."""
        return self._open_run.store

    @property
    def _open_run(self) -> OpenRun:
        if self._opened is None:
            raise RuntimeError("The session has no store before it is started.")
        return self._opened

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        started, latencies = self._thread is not None, self._ledger.latencies_ms
        known = not self.plan.store.open_end
        return Progress(
            acquired=self._ledger.acquired,
            planned_raw=self._planned["raw"] if known else None,
            stained=len(self._ledger.stained) - self._ledger.known,
            planned_virtual=self._planned["virtual"] if known else None,
            owed=self._host.owed if started else 0,
            latency_ms=latencies[-1] if latencies else None,
        )

    def read(self, index: PlaneIndex) -> NDArray[np.uint16] | NDArray[np.float32]:
        """Return a plane: raw counts, or the decoded prediction in its unit.

        Raises
        ------
        MissingPlaneError
            If it is not there (yet).
        """
        if self.plan.store.channels[index.c].kind == "virtual":
            return self.store.read_decoded(index)
        return self.store.read(index)

    def wait_for(
        self, index: PlaneIndex, timeout: float | None = None
    ) -> NDArray[np.uint16] | NDArray[np.float32]:
        """Wait until a plane is there and return it, as `read` does: for runs that answer what they see.

        Not from a slot of this session's signals, which would hold up what it waits for.

        Raises
        ------
        MissingPlaneError
            If it will not come: it was lost or given up, or the run is being stopped.
        TimeoutError
            If it is not there after `timeout` seconds.
        """
        if not self._ledger.wait_settled(index, partial(self._is_hopeless, index), timeout):
            raise TimeoutError(f"The plane {index.words} is not there after {timeout} s.")
        return self.read(index)

    # ------------------------------------------------------------------ before hardware moves

    def check(self) -> None:
        """Make every check that needs no model and no store; nothing is moved or written.

        Raises
        ------
        LivestainError
            One sentence on what cannot work.
        """
        plan = self.plan
        if self.out.suffix != ".zarr":
            raise StoreError(
                f"The output {self.out} does not end in .ome.zarr; give for example "
                f"{self.out.with_suffix('')}.ome.zarr."
            )
        check_idle(self.core)
        check_recording_stays(self.core, self.out)
        if self._earlier is None:
            check_place(self.out, overwrite=self._overwrite)
            check_room(self.out, plan.store)

    def _with_fields(self, sequence: useq.MDASequence) -> useq.MDASequence:
        """Return a sequence with one axis for fields of view."""
        if not has_grid(sequence):
            return sequence
        pixel = pixel_size_of(self.core, settings_of(sequence), self._pixel_size_um)
        return with_tiles_as_positions(self.core, sequence, pixel)

    def worker_setup(self) -> WorkerSetup:
        """Return what the worker of this run has to know; makes the plan."""
        plan = self.plan
        return worker_setup(
            plan.store,
            plan.bundles,
            device=self._device,
            backend=self._backend,
            threads=self._threads,
            excluded=() if self._earlier is None else self._earlier.given_up,
        )

    def _prepare(self) -> None:
        plan = self.plan
        self.check()
        if (earlier := self._earlier) is not None:
            # Before the worker is told of the store: what it stains at once is this run's own.
            self._ledger.adopt(earlier.stained, earlier.lost, earlier.there | earlier.given_up)
            self._recorded.update(earlier.there)
        opened = open_run(
            plan,
            self.worker_setup(),
            self.out,
            attributes=lambda: provenance(self.core, self.sequence, decided=bool(self._events)),
            ledger=self._ledger,
            memory=self._memory,
            overwrite=self._overwrite,
            resume=self._earlier,
            break_lock=self._break_lock,
            max_bytes=self._max_bytes,
            kind=self._worker_kind,
            host_settings=self._host_settings,
            on_worker=self._on_worker,
            on_committed=self._on_committed,
            on_error=self._fail,
        )
        self._opened, self._recorder, self._host = opened, opened.recorder, opened.host

    # ------------------------------------------------------------------ while it runs

    def _live(self) -> None:
        """Run from the first move to the report, on the acquisition thread."""
        began = time.perf_counter()
        try:
            try:
                self._acquire()
            finally:
                self._end(began)
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._open_run.close(self._errors)
            try:
                if self._errors:
                    first, *later = self._errors
                    for other in later:
                        if no_space(first) and no_space(other):
                            continue  # whatever else finds the disk full says the same
                        first.add_note(f"Later also: {type(other).__name__}: {other}")
                    self.failed.emit(first if isinstance(first, Exception) else Exception(first))
                elif self._report is not None:
                    self.finished.emit(self._report)
            except Exception as error:
                self._errors.append(_cause(error))
            self._over.set()

    def _acquire(self) -> None:
        try:
            if (coming := self._coming()) is not None:
                self._decided = DecidedEvents(
                    self.core,
                    self.plan.sequence,
                    coming,
                    make_room=self.store.grow,
                    is_stopping=lambda: self._acquisition.stopping,
                )
            decided = None if self._decided is None else iter(self._decided)
            if self._earlier is not None and self._endless is None:
                left, late = what_remains(fresh(self.plan.sequence), self._earlier)
                for index in late:
                    self._ledger.lose(index, PASSED)
                if not left:
                    return
                engine = self.core.mda.engine
                assert engine is not None  # noqa: S101 - pymmcore-plus sets one
                decided = iter(engine.event_iterator(left))
            self._acquisition.run(self.plan.sequence, decided)
        except Exception as error:
            self._fail(self._recorder.overflowed(error))

    def _coming(self) -> Iterable[Any] | None:
        """Return events that the plan does not know: a user's, or those of a time without a number."""
        if self._events is not None:
            return self._events(self)
        if self._endless is None:
            return None
        sequence, together = self.plan.sequence, not self.plan.lockstep
        if self._earlier is None:
            return time_points(sequence, self._endless.duration_s, together=together)
        for index in sorted(self._earlier.cut_short):
            self._ledger.lose(index, PASSED)
        left_s = self._earlier.left_of(self._endless.duration_s)
        return time_points(sequence, left_s, self._earlier.next_t, together=together)

    def _on_frame(self, image: NDArray[Any], event: useq.MDAEvent, meta: Mapping[str, Any]) -> None:
        """Take one frame from the runner, on its thread. Starts the write and returns.

        What this raises would only be logged by the runner and the frame lost, so nothing escapes.
        """
        ready_ns = time.perf_counter_ns()
        try:
            index, facts = self._acquisition.place(event, meta)
            if self._events is not None and self._decided is not None:
                facts |= self._decided.answered(ready_ns)
            self._recorder.record(index, image, meta, ready_ns, **facts)
            if self.plan.lockstep:
                self._recorded.add(index)
            for target in self.plan.awaited(index, self._recorded):
                self._ledger.wait_settled(target, partial(self._is_hopeless, target))
        except BaseException as error:
            self._fail(error)

    def _is_hopeless(self, index: PlaneIndex) -> bool:
        """Whether a plane is not worth waiting for any more."""
        return self._acquisition.stopping or self._host.hopeless(index)

    def _on_committed(self, index: PlaneIndex, ready_ns: int, committed_ns: int) -> None:
        """Spread the news of a raw plane that is in the store; on the recorder's thread."""
        self._ledger.arrive(index)
        self._host.announce(index, ready_ns, committed_ns)
        if index.c not in self._shown:
            self._shown.add(index.c)
            self._set_display(index)
        self._emit(
            self.plane_acquired.emit,
            Acquired(index, self.plan.store.channels[index.c].name),
        )

    def _set_display(self, index: PlaneIndex) -> None:
        """Set the window in which viewers show a raw channel, from its first plane."""
        try:
            low, high = np.percentile(self.store.read(index)[::4, ::4], (0.1, 99.9))
            self.store.set_display(index.c, float(low), float(max(high, low + 1)))
        except StoreError as error:  # a viewer holds the file open, on Windows; only looks suffer
            self._ledger.notes.append(f"display window of channel {index.c} not set: {error}")

    def _on_worker(self, kind: str, message: dict[str, Any]) -> None:
        """Take what the worker reports; on the host's thread."""
        if kind == "ready":
            self._memory.add(message["pid"])
        stained = self._ledger.take(kind, message)
        if stained is not None:
            self._emit(self.plane_stained.emit, stained)

    def _emit(self, emit: Callable[[Any], Any], value: Any) -> None:
        """Tell the user's slots; one that raises costs no plane, and its error ends up with the caller."""
        try:
            emit(value)
        except Exception as error:
            if not any(isinstance(e, type(_cause(error))) for e in self._errors):
                self._errors.append(_cause(error))

    def _fail(self, error: BaseException) -> None:
        """Note an error that ends the acquisition; planes that are there are kept."""
        self._errors.append(error)
        self._acquisition.break_off()
        self._ledger.wake()

    # ------------------------------------------------------------------ the end

    def _end(self, began: float) -> None:
        decided = self._decided
        self._report = self._open_run.end(
            began,
            self._errors,
            stopped=self._acquisition.stopping,
            interrupted=lambda: self.cancelled,
            aborted=self._aborted,
            leave_owed=self._leave_owed,
            asked=None if decided is None else self._asked(decided),
            answers_ms=() if decided is None else decided.answers_ms,
        )

    def _asked(self, decided: DecidedEvents) -> Iterator[PlaneIndex]:
        """Yield the planes that were asked for, by what is in the store when the first of them is wanted.

        A time without a number of time points ends with the last of which something came.
        """
        last = math.inf
        if self._endless is not None:
            last = max((index.t for index in self.store.present_indices()), default=-1)
        yield from (index for index in decided.taken if index.t <= last)

    def __enter__(self) -> Self:
        """Start the session; leaving the block waits for its end."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the end; after an exception in the block, stop at once."""
        if kind is None:
            self._wait_through_interrupts()
        else:
            self.abort()
            while not self._over.wait(_WAKE_S):
                pass


def _cause(error: Exception) -> BaseException:
    """Return the user's own exception from psygnal's wrapper."""
    return error.__cause__ or error

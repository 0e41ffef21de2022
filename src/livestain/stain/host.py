"""The acquisition side of the worker: starts it, speaks to it, starts it again when it dies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

from livestain import errors
from livestain.errors import LivestainError, WorkerError
from livestain.stain.life import End, HostSettings, HostState, live
from livestain.stain.models import wanted_backend
from livestain.stain.outbox import Outbox
from livestain.stain.protocol import index_of
from livestain.stain.setup import placed

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.planes import PlaneIndex
    from livestain.stain.protocol import WorkerSetup

__all__ = ["HostSettings", "WorkerHost"]

_POLL_S = 0.1

_CPU_SLOWER = 50.0
"""How much longer a prediction may take on the CPU than on a GPU, before the first one tells."""


class WorkerHost:
    """Keeps one worker running for the length of a run.

    Parameters
    ----------
    setup : WorkerSetup
        Store, models, device.
    report : callable
        Called as ``report(kind, message)`` from the host's own thread, for kinds `taking`, `stained`,
        `skipped`, `impossible`, `fault` and `ready`. What it raises ends the host with that error.
    kind : {"process", "thread"}
        Where the worker runs.
    settings : HostSettings
        Time-outs and limits.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        report: Callable[[str, dict[str, Any]], None],
        *,
        kind: Literal["process", "thread"] = "process",
        settings: HostSettings | None = None,
    ) -> None:
        self._setup = setup
        self._report = report
        self._kind: Literal["process", "thread"] = kind
        self._settings = settings or HostSettings()
        self._state = HostState()
        self._changed = threading.Condition()
        self._outbox = Outbox(lambda: self._state.finish_asked)
        self._done = 0
        self._thread = threading.Thread(
            target=self._supervise, name="livestain-worker-host", daemon=True
        )

    # ------------------------------------------------------------------ what the session calls

    def begin(self) -> None:
        """Launch the worker, and wait for nothing."""
        self._thread.start()

    def start(self) -> None:
        """Start the worker, if that was not begun, and wait until it is warm.

        Raises
        ------
        LivestainError
            What the worker refused (a damaged bundle, an unknown device), or `WorkerError`.
        """
        if self._thread.ident is None:
            self.begin()
        with self._changed:
            # In short waits, since Windows does not interrupt a long one by Ctrl-C.
            while not (self._state.ready or self._state.error):
                self._changed.wait(_POLL_S)
            if self._state.error is not None:
                raise self._state.error

    def open(self, store: str) -> None:
        """Tell the warm worker which store to work on; it exists now."""
        self._setup = self._setup.model_copy(update={"store": store})
        self._outbox.post({"kind": "open", "store": store})

    def announce(self, index: PlaneIndex, ready_ns: int, committed_ns: int) -> None:
        """Tell the worker that a raw plane is in the store; never blocks.

        Where its queue is full the message is dropped, and the worker will look into the store instead.
        """
        self._outbox.post(
            {"kind": "plane", "index": index, "ready_ns": ready_ns, "committed_ns": committed_ns}
        )

    @property
    def models(self) -> list[dict[str, Any]]:
        """By virtual channel: bundle, device, backend, size of tiles, as they are now."""
        ready = self._state.ready
        return [] if ready is None else list(ready["models"])

    @property
    def owed(self) -> int:
        """Number of planes the worker last said are owed."""
        return self._state.owed

    @property
    def deaths(self) -> int:
        """How often a worker has died or been killed for hanging."""
        return self._state.deaths

    @property
    def error(self) -> BaseException | None:
        """Why staining was given up for good, if it was."""
        return self._state.error

    def hopeless(self, target: PlaneIndex) -> bool:
        """Whether a virtual plane will not be stained any more, since staining was given up."""
        return self._state.error is not None

    def finish(self, cancelled: threading.Event | None = None) -> bool:
        """Wait until nothing is owed any more, or staining was given up.

        Parameters
        ----------
        cancelled : threading.Event, optional
            When set, stop waiting: what is owed stays owed.

        Returns
        -------
        bool
            Whether all that could be done is done.
        """
        self.ask_to_finish()
        with self._changed:
            while not (self._state.finished or self._state.error):
                if cancelled is not None and cancelled.is_set():
                    return False
                self._changed.wait(_POLL_S)
            return self._state.finished

    def ask_to_finish(self) -> None:
        """Tell the worker that no more planes come, and wait for nothing."""
        with self._changed:
            if not self._state.finish_asked:
                self._state.finish_asked = True
                self._outbox.post({"kind": "finish"})

    def close(self, *, at_once: bool = False) -> None:
        """Let the worker finish the plane in hand and leave; kills it after some seconds.

        Parameters
        ----------
        at_once : bool
            Kill it now. The plane in hand stays owed: a plane is written whole or not at all.
        """
        self.ask_to_leave(at_once=at_once)
        if self._thread.is_alive():
            self._thread.join(30.0)

    def ask_to_leave(self, *, at_once: bool = False) -> None:
        """Do what `close` does, and wait for nothing."""
        with self._changed:
            self._state.closing = True
            self._state.at_once = at_once
            self._changed.notify_all()

    # ------------------------------------------------------------------ supervision

    def _supervise(self) -> None:
        state, barren = self._state, 0
        try:
            while not state.closing:
                done_before = self._progress()
                with self._changed:
                    self._outbox = Outbox(lambda: state.finish_asked)
                    if state.finish_asked:
                        self._outbox.post({"kind": "finish"})
                end = live(
                    self._setup_now(),
                    state,
                    self._outbox,
                    self._hear,
                    kind=self._kind,
                    settings=self._settings,
                )
                if state.closing or state.error is not None:
                    return
                self._bury(end)
                barren = 0 if self._progress() > done_before else barren + 1
                # A backend that ended the process is not tried again, so another start may succeed; where
                # one is named, it would end alike.
                patient = state.ready is not None or wanted_backend(self._setup) == "auto"
                if not patient or barren >= self._settings.max_barren_deaths:
                    error = WorkerError(
                        f"The staining worker could not be kept running: {end.why}. Raw data is not "
                        "affected; planes that are not stained stay owed."
                    )
                    if state.ready is not None:  # the run goes on, and may for long
                        self._report("fault", {"why": str(error)})
                    raise error
        except BaseException as first:
            with self._changed:
                state.error = first
                self._changed.notify_all()

    def _setup_now(self) -> WorkerSetup:
        given_up = tuple((i.p, i.t, i.c, i.z) for i in self._state.excluded)
        return self._setup.model_copy(update={"excluded": (*self._setup.excluded, *given_up)})

    def _progress(self) -> int:
        return self._done + len(self._state.excluded)

    def _bury(self, end: End) -> None:
        """Note a worker's death, and the plane on which it died."""
        victim = self._state.in_hand
        self._state.deaths += 1
        self._state.in_hand = None
        why = f"worker died: {end.why}"
        if end.killed and victim is not None and self._take_smaller_tiles(victim.c):
            why += "; the next one predicts in smaller tiles"
        self._report("fault", {"why": why, "in_hand": list(victim) if victim else None})
        if victim is not None:
            self._count_failure(victim, f"the worker died on it ({end.why})")

    def _count_failure(self, index: PlaneIndex, why: str) -> bool:
        """Count a failure; True where the plane is now given up."""
        attempts = self._state.attempts.get(index, 0) + 1
        self._state.attempts[index] = attempts
        if attempts < self._settings.max_attempts:
            return False
        self._state.excluded.append(index)
        self._report("impossible", {"index": list(index), "why": f"failed {attempts} times: {why}"})
        return True

    # ------------------------------------------------------------------ messages in

    def _hear(self, message: dict[str, Any]) -> bool:
        """Take in a message; False where the worker says that it cannot work here."""
        state = self._state
        match message["kind"]:
            case "ready":
                self._report("ready", message)
                with self._changed:
                    state.model_ms = {facts["c"]: facts["model_ms"] for facts in message["models"]}
                    state.ready = message
                    self._changed.notify_all()
            case "refused":
                # Of the models, or of the store after them; starting it again would not help.
                kind = getattr(errors, message["error"], LivestainError)
                with self._changed:
                    state.error = kind(message["why"])
                    self._changed.notify_all()
                return False
            case "taking":
                state.in_hand = index_of(message)
                self._report("taking", message)
            case "stained":
                state.in_hand = None
                self._done += 1
                index = index_of(message)
                state.model_ms[index.c] = message["latency_ms"]["model"]
                message["attempts"] = state.attempts.get(index, 0) + 1
                self._report("stained", message)
            case "failed":
                state.in_hand = None
                index = index_of(message)
                self._report("fault", {key: message[key] for key in ("index", "why", "traceback")})
                given_up = self._count_failure(index, message["why"])
                # Not to be dropped: without it the plane would be owed for ever. A worker that takes
                # nothing for so long hangs, is replaced, and its successor asks for no verdict.
                self._outbox.put(
                    {"kind": "exclude" if given_up else "retry", "index": index},
                    self._settings.hang_timeout_s,
                )
            case "memory":
                self._on_memory(message)
            case "owed":
                state.owed = message["n"]
            case "finished":
                with self._changed:
                    state.owed = message["owed"]
                    state.finished = state.finish_asked
                    self._changed.notify_all()
            case "pong":
                pass
            case kind:
                self._report(kind, message)
        return True

    def _on_memory(self, message: dict[str, Any]) -> None:
        """Note that a model has changed its tiles or device; whoever is started again begins there."""
        bundle, device, step = (message[key] for key in ("folder", "device", "tile_step"))
        changed = {model.c for model in self._setup.models if model.bundle == bundle}
        for facts in self.models:
            if facts["c"] in changed:
                if facts["device"] != device:
                    self._state.model_ms[facts["c"]] *= _CPU_SLOWER
                facts.update({key: message[key] for key in facts if key in message})
        self._setup = placed(self._setup, bundle, device=device, tile_step=step)
        self._report("fault", {key: message[key] for key in ("why", "device", "tile")})

    def _take_smaller_tiles(self, c: int) -> bool:
        """Let the next worker begin with smaller tiles, where a model on the CPU can; whether it can."""
        facts = next((facts for facts in self.models if facts["c"] == c), None)
        if facts is None or facts["device"] != "cpu" or facts["tile_step"] >= facts["tile_steps"]:
            return False
        bundle = next(model.bundle for model in self._setup.models if model.c == c)
        self._setup = placed(self._setup, bundle, device="cpu", tile_step=facts["tile_step"] + 1)
        return True

"""The books of a run, or of a staining after it: what was stained, what will never be, and why."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from livestain.planes import PlaneIndex
from livestain.stain.stained import Stained
from livestain.store import journal_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livestain.store import Journal, Store

__all__ = ["Ledger"]

_WAKE_S = 0.2


class Ledger:
    """What a run knows of its planes beyond what lies in the store; the only writer of reasons.

    Safe to use from the recorder's, the host's and the acquisition's threads.
    """

    def __init__(self) -> None:
        self.acquired = 0
        self.known = 0
        """Of the stained planes, those of an earlier run."""
        self.stained: set[PlaneIndex] = set()
        self.latencies_ms: list[float] = []
        self.notes: list[str] = []
        self.uncertain: set[PlaneIndex] = set()
        self._lost: set[PlaneIndex] = set()
        self._planned: dict[int, frozenset[PlaneIndex]] = {}
        self._settled: set[PlaneIndex] = set()
        self._news = threading.Condition()
        self._precisions: dict[int, str] = {}
        """In which the planes of a channel were made last."""
        self._store: Store | None = None
        self._journal: Journal | None = None
        self._early: list[tuple[str, dict[str, Any]]] = []  # told before there was a journal

    def open(self, store: Store, journal: Journal) -> None:
        """Begin to write down: there is a store and a journal now."""
        with self._news:
            self._store, self._journal = store, journal
            early, self._early = self._early, []
        for line in journal_lines(store.path):  # of earlier sessions
            for facts in line.get("models") or []:
                if line.get("kind") == "worker" and facts.get("precision"):
                    self._precisions[facts["c"]] = facts["precision"]
        for kind, message in early:
            self._write(kind, message)

    def adopt(
        self,
        stained: Iterable[PlaneIndex],
        lost: Iterable[PlaneIndex],
        settled: Iterable[PlaneIndex] = (),
    ) -> None:
        """Take over what an earlier run on the same store has done and lost, and what else is settled."""
        self.stained.update(stained)
        self.known = len(self.stained)
        self._lost.update(lost)
        with self._news:
            self._settled.update(self.stained, self._lost, settled)

    def take(self, kind: str, message: dict[str, Any]) -> Stained | None:
        """Write down what the worker reports.

        Returns
        -------
        Stained or None
            The plane that is now there, the first time it is reported.
        """
        if kind == "fault":
            self.notes.append(str(message["why"]))
        with self._news:
            if self._journal is None:  # of a worker that starts, finds no memory, or dies before
                self._early.append((kind, message))
                return None
        return self._write(kind, message)

    def _write(self, kind: str, message: dict[str, Any]) -> Stained | None:
        assert self._store is not None  # noqa: S101 - opened by now
        assert self._journal is not None  # noqa: S101
        fields = {key: value for key, value in message.items() if key != "kind"}
        match kind:
            case "stained":
                index = PlaneIndex(*message["index"])
                if index in self.stained:  # a worker that was started again may do one twice
                    return None
                self.stained.add(index)
                self._journal.append(kind, **fields)
                if message["live"] and "total" in message["latency_ms"]:
                    self.latencies_ms.append(message["latency_ms"]["total"])
                self._settle(index)
                return Stained(
                    index,
                    self._store.plan.channels[index.c].name,
                    message["latency_ms"],
                    message["live"],
                    message["quality"],
                )
            case "skipped" | "impossible":
                self._journal.append(kind, **fields)
                self._settle(PlaneIndex(*message["index"]))
            case "fault":
                self._journal.append(kind, **fields)
            case "ready":
                for facts in message.get("models") or []:
                    self._note_precision(facts)
                told = {key: fields[key] for key in ("pid", "worker", "models") if key in fields}
                self._journal.append("worker", **told)
        return None

    def _note_precision(self, facts: dict[str, Any]) -> None:
        """Note where planes of a channel are made in another precision than those before."""
        precision = facts.get("precision")
        if precision is None:
            return
        before = self._precisions.setdefault(facts["c"], precision)
        if precision != before:
            assert self._store is not None  # noqa: S101 - as in `_write`
            name = self._store.plan.channels[facts["c"]].name
            self.notes.append(
                f"{name}: planes were made in {before} and in {precision} ({facts.get('backend')}); their "
                "values differ by what the precision costs"
            )
            self._precisions[facts["c"]] = precision

    def arrive(self, index: PlaneIndex) -> None:
        """Note that a raw plane is in the store."""
        self.acquired += 1
        self._settle(index)

    def _settle(self, index: PlaneIndex) -> None:
        with self._news:
            self._settled.add(index)
            self._news.notify_all()

    def wake(self) -> None:
        """Let whoever waits in `wait_settled` look again."""
        with self._news:
            self._news.notify_all()

    def wait_settled(
        self, index: PlaneIndex, hopeless: Callable[[], bool], timeout: float | None = None
    ) -> bool:
        """Wait until a plane is there or given up, or `hopeless` says that it cannot come.

        Returns
        -------
        bool
            False if none of it was so after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._news:
            while index not in self._settled and not hopeless():
                if deadline is not None and time.monotonic() > deadline:
                    return False
                self._news.wait(_WAKE_S)
        return True

    def lose(self, index: PlaneIndex, why: str) -> None:
        """Write down that a raw plane will not come, and what can therefore not be predicted."""
        assert self._store is not None  # noqa: S101 - nothing is acquired before there is one
        assert self._journal is not None  # noqa: S101
        plan = self._store.plan
        self._lost.add(index)
        self._settle(index)
        self._journal.append("missing", index=index, why=why)
        source = plan.channels[index.c].name
        for target in plan.targets_of(index):
            if self._is_planned(target) and target not in self._settled:
                why = f"a source plane never came: {source} t {index.t} z {index.z}"
                self._journal.append("impossible", index=target, why=why)
                self._settle(target)

    def _is_planned(self, target: PlaneIndex) -> bool:
        assert self._store is not None  # noqa: S101 - as in `lose`
        plan, c = self._store.plan, target.c
        if c not in self._planned:  # once: a resumed run may lose thousands of planes that are late
            self._planned[c] = frozenset(plan.planned_indices(c))
        return target.t < plan.n_t and plan.as_planned(target) in self._planned[c]

    def doubt(self, index: PlaneIndex, why: str) -> None:
        """Write down that a raw plane may be another's."""
        assert self._journal is not None  # noqa: S101 - as in `lose`
        self.uncertain.add(index)
        self._journal.append("uncertain", index=index, why=why)

    def missing(self, why: str, asked: Iterable[PlaneIndex] | None = None) -> None:
        """Write down which raw planes never came that nobody has told as lost.

        Parameters
        ----------
        why : str
        asked : iterable of PlaneIndex, optional
            The planes that were asked for, where the plan does not know them since its end is open.
        """
        assert self._store is not None  # noqa: S101 - asked at the end of a run
        assert self._journal is not None  # noqa: S101
        plan = self._store.plan
        if asked is None:
            raw = [c for c, channel in enumerate(plan.channels) if channel.kind == "raw"]
            asked = (index for c in raw for index in plan.planned_indices(c))
        there = self._store.present_indices()
        for index in asked:
            if index not in there and index not in self._lost:
                self._journal.append("missing", index=index, why=why)

    def unreported(self) -> None:
        """Write down planes whose worker died, or left, between writing them and saying so."""
        assert self._store is not None  # noqa: S101 - asked at the end of a run
        assert self._journal is not None  # noqa: S101
        plan = self._store.plan
        why = "found: its worker ended after writing it"
        there = self._store.present_indices()
        for c, channel in enumerate(plan.channels):
            if channel.kind == "virtual":
                for index in plan.planned_indices(c):
                    if index in there and index not in self.stained:
                        self.stained.add(index)
                        self._journal.append("stained", index=index, live=False, why=why)

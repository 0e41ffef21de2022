"""Which planes are owed, and which of them is next."""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING

from livestain.stain.share import Share

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from livestain.planes import PlaneIndex
    from livestain.stain.planes import Planes
    from livestain.store import StorePlan

__all__ = ["Backlog", "Stamp", "Task"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a source plane came, on the clock `time.perf_counter_ns` that all processes share."""

    ready_ns: int
    committed_ns: int


@dataclass(frozen=True, slots=True)
class Task:
    """One virtual plane to be predicted now.

    Attributes
    ----------
    target : PlaneIndex
        The virtual plane.
    sources : tuple of PlaneIndex
        The window's planes, as `Window.sources` orders them.
    stamp : Stamp or None
        Of the source that came last; None where it was found in the store, so that no latency is known.
    live : bool
        Whether it was taken before any newer time point of its channel was owed.
    """

    target: PlaneIndex
    sources: tuple[PlaneIndex, ...]
    stamp: Stamp | None
    live: bool


@dataclass
class _Channel:
    """What is known of one virtual channel."""

    c: int
    whole_stack: bool
    live_only: bool
    planned: frozenset[PlaneIndex]
    closed: set[PlaneIndex] = field(default_factory=set)  # present, or given up
    queued: set[PlaneIndex] = field(default_factory=set)  # owed
    waiting: set[PlaneIndex] = field(default_factory=set)  # of these, neither taken nor failed
    heap: list[tuple[int, int, int, PlaneIndex]] = field(default_factory=list)
    visits: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By position: its time points, ascending, each with the rank of its visit."""

    def newest_t(self, p: int) -> int:
        visits = self.visits.get(p)
        return visits[-1][0] if visits else -1

    def rank(self, target: PlaneIndex, following: Iterator[int]) -> int:
        """Return how new a plane is: a later visit has a higher number.

        Time alone would not do where positions are visited one after the other. A time point that is found
        after a newer one of its position, since the message of it was lost, is no news.
        """
        visits = self.visits.setdefault(target.p, [])
        at = bisect_left(visits, target.t, key=itemgetter(0))
        if at == len(visits):
            visits.append((target.t, next(following)))
        return visits[at][1]


class Backlog:
    """The owed planes of a store's virtual channels, newest first: the last visit of a position.

    Work owed = virtual planes that are planned, whose source planes are there, that are not there yet
    and that nothing has given up. The backlog holds indices only; the store holds the pixels.

    Parameters
    ----------
    plan : StorePlan
        What the run will write.
    excluded : iterable of PlaneIndex
        Virtual planes that were given up before.
    live : bool
        Whether planes are still coming. If not, `live-only` gives nothing up.
    share : Share, optional
        Which of the planes are taken here; the others never become owed. By default all.
    channels : collection of int, optional
        The virtual channels whose planes are taken; by default all.
    """

    def __init__(
        self,
        plan: StorePlan,
        excluded: Iterable[PlaneIndex] = (),
        *,
        live: bool = True,
        share: Share | None = None,
        channels: Collection[int] | None = None,
    ) -> None:
        self._plan = plan
        self._share = share or Share()
        self._here: set[PlaneIndex] = set()
        self._stamps: dict[PlaneIndex, Stamp] = {}
        self._order = itertools.count()
        self._visits = itertools.count()
        self._skipped: list[PlaneIndex] = []
        given_up = set(excluded)
        self._channels: list[_Channel] = []
        for c, channel in enumerate(plan.channels):
            if channel.virtual is None or (channels is not None and c not in channels):
                continue
            planned = frozenset(plan.planned_indices(c))
            self._channels.append(
                _Channel(
                    c=c,
                    whole_stack=channel.virtual.window.z == "all",
                    live_only=live and channel.virtual.lag == "live-only",
                    planned=planned,
                    closed={i for i in given_up if i.c == c},
                )
            )

        self._by_c = {channel.c: channel for channel in self._channels}

    @property
    def owed(self) -> int:
        """Number of planes that could be predicted now and are not."""
        return sum(len(channel.queued) for channel in self._channels)

    @property
    def takeable(self) -> bool:
        """Whether `take` would return a plane; owed planes that failed wait for `retry` or `close`."""
        return any(channel.waiting for channel in self._channels)

    def scan(self, planes: Planes) -> None:
        """Look what is there, and so what is owed: at the start and after lost messages."""
        there = sorted(planes.present_indices())
        for index in there:
            if index.c in self._by_c:
                self._by_c[index.c].closed.add(index)
        # Of a raw plane that nothing is predicted from there are no targets.
        for index in there:
            if index.c not in self._by_c:
                self.arrived(index)

    def arrived(self, source: PlaneIndex, stamp: Stamp | None = None) -> None:
        """Note that a source plane is in the store; planes whose window is now whole become owed."""
        if source in self._here and stamp is None:
            return
        self._here.add(source)
        if stamp is not None:
            self._stamps[source] = stamp
        for target in self._plan.targets_of(source):
            channel = self._by_c.get(target.c)
            if channel is None or not self._share.has(target, whole_stack=channel.whole_stack):
                continue
            if target in channel.closed or self._plan.as_planned(target) not in channel.planned:
                continue
            if target not in channel.queued and self._here.issuperset(
                self._plan.sources_of(target)
            ):
                self._queue(channel, target)

    def _queue(self, channel: _Channel, target: PlaneIndex) -> None:
        channel.queued.add(target)
        self._wait(channel, target)
        if channel.live_only:
            self._drop_older(channel)

    def _wait(self, channel: _Channel, target: PlaneIndex) -> None:
        channel.waiting.add(target)
        rank = channel.rank(target, self._visits)
        heapq.heappush(channel.heap, (-rank, -target.t, next(self._order), target))

    def _drop_older(self, channel: _Channel) -> None:
        for target in [i for i in channel.waiting if i.t < channel.newest_t(i.p)]:
            self.close(target)
            self._skipped.append(target)

    def take(self) -> Task | None:
        """Return the newest owed plane, channels in turn; it stays owed until `close`."""
        if not self.takeable:
            return None
        channel = next(channel for channel in self._channels if channel.waiting)
        self._channels.remove(channel)  # to the end of the line: channels take turns
        self._channels.append(channel)
        # Planes that were closed, or taken out of their turn, are still in the heap.
        while (target := heapq.heappop(channel.heap)[3]) not in channel.waiting:
            pass
        channel.waiting.remove(target)
        sources = self._plan.sources_of(target)
        stamps = [self._stamps[i] for i in set(sources) if i in self._stamps]
        whole = len(stamps) == len(set(sources))
        return Task(
            target=target,
            sources=sources,
            stamp=max(stamps, key=lambda s: s.committed_ns) if whole else None,
            live=whole and target.t == channel.newest_t(target.p),
        )

    def take_beside(self, task: Task) -> list[Task]:
        """Return the other owed planes of the same stack, which one prediction gives with that of `task`.

        Only channels whose window is the whole stack have such planes. They are now in hand: a newer
        stack does not overtake them, and each stays owed until `close`, or waits again after `retry`.
        """
        channel = self._by_c[task.target.c]
        if not channel.whole_stack:
            return []
        stack = (task.target.at(z=z) for z in range(self._plan.n_z))
        beside = [target for target in stack if target in channel.waiting]
        channel.waiting.difference_update(beside)
        return [replace(task, target=target) for target in beside]

    def retry(self, target: PlaneIndex) -> None:
        """Put back a plane that was taken and failed."""
        for channel in self._channels:
            if channel.c == target.c and target in channel.queued:
                self._wait(channel, target)
                if channel.live_only:
                    self._drop_older(channel)

    def close(self, target: PlaneIndex) -> None:
        """Note that a virtual plane is done or given up: it is owed no more."""
        for channel in self._channels:
            if channel.c == target.c:
                channel.closed.add(target)
                channel.queued.discard(target)
                channel.waiting.discard(target)

    def pop_skipped(self) -> list[PlaneIndex]:
        """Return the planes that the policy `live-only` has given up since the last call."""
        skipped, self._skipped = self._skipped, []
        return skipped

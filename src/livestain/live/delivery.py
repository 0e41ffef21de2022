"""Frames of a run in the order of its sequence, predictions among them.

Writers of other programs append what comes, in the order in which the sequence names it. A triggered burst
brings its frames without pause, and a prediction may need later frames than its own place in the order;
so frames wait here until all that stands before them is there, predicted, or known to be missing.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from useq import MDAEvent

__all__ = [
    "Delivery",
    "Key",
    "Payload",
    "Slot",
    "count_uses",
    "key_of",
]


class Key(NamedTuple):
    """Which image: its place, its tile of a grid, and its camera."""

    place: PlaneIndex
    g: int = 0
    cam: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """One image that the sequence asks for.

    Attributes
    ----------
    key : Key
        Which.
    event : useq.MDAEvent
        As the sequence has it.
    name : str or None
        Of the virtual channel; None for what the camera takes.
    sources : tuple of Key
        Of a virtual channel: what it is predicted from, in the model's order; empty where nothing is
        predicted.
    """

    key: Key
    event: MDAEvent
    name: str | None = None
    sources: tuple[Key, ...] = ()


Payload = tuple[Any, "MDAEvent", Any]
"""Image, event and metadata, as pymmcore-plus' runner takes them."""


def key_of(event: MDAEvent, cam: int = 0) -> Key:
    """Return which image an event asks for."""
    at = event.index
    place = PlaneIndex(at.get("p", 0), at.get("t", 0), at.get("c", 0), at.get("z", 0))
    return Key(place, at.get("g", 0), at.get("cam", cam))


class Delivery:
    """The images of one run on their way out, in the order of the sequence.

    Call it from one thread. `expect` names the images in the sequence's order, ahead of what is
    acquired; `arrive` and `lose` say what became of the camera's; `ready` gives what may go out.

    Parameters
    ----------
    predict : callable
        Called as ``(slot, payloads)`` with the payloads of its sources; returns the payload, or None
        where it cannot.
    uses : mapping of Key to int
        For each source image: how many predictions need it. No longer kept after the last of them.

    Attributes
    ----------
    peak : int
        Most images that were in memory at once.
    predicted : int
        Predictions made.
    """

    def __init__(
        self, predict: Callable[[Slot, list[Payload]], Payload | None], uses: Mapping[Key, int]
    ) -> None:
        self._predict = predict
        self._uses = dict(uses)
        self._slots: deque[Slot] = deque()
        self._waiting: dict[Key, Payload] = {}
        """Images that have not gone out."""
        self._sources: dict[Key, Payload] = {}
        """Images that predictions will need."""
        self._lost: set[Key] = set()
        self._lost_sources: set[Key] = set()
        self._images = 0
        """Images in memory, whether they wait, are needed or both."""
        self.peak = 0
        self.predicted = 0

    @property
    def held(self) -> int:
        """Images of the camera that have not gone out."""
        return len(self._waiting)

    def expect(self, slot: Slot) -> None:
        """Name the next image of the sequence."""
        self._slots.append(slot)

    def arrive(self, key: Key, payload: Payload) -> None:
        """Note that the camera gave an image."""
        self._waiting[key] = payload
        if key in self._uses:
            self._sources[key] = payload
        self._images += 1
        self.peak = max(self.peak, self._images)

    def lose(self, key: Key) -> None:
        """Note that the camera will not give an image."""
        self._lost.add(key)
        if key in self._uses:
            self._lost_sources.add(key)

    def has(self, key: Key) -> bool:
        """Return whether an image came and has not gone out."""
        return key in self._waiting

    def ready(self, *, predict: bool) -> Iterator[Payload | None]:
        """Yield what may go out: images and, for those that never will be, None.

        Parameters
        ----------
        predict : bool
            Whether there is time to predict now; if not, predictions that could be made and what
            stands after them wait.
        """
        while self._slots:
            slot = self._slots[0]
            if slot.name is None:
                if slot.key in self._waiting:
                    self._slots.popleft()
                    self._images -= slot.key not in self._sources
                    yield self._waiting.pop(slot.key)
                elif slot.key in self._lost:
                    self._slots.popleft()
                    self._lost.discard(slot.key)
                    yield None
                else:
                    return
                continue
            known = [k in self._sources or k in self._lost_sources for k in slot.sources]
            if not all(known) or (slot.sources and not predict):
                return
            self._slots.popleft()
            payload = None
            if slot.sources and not any(k in self._lost_sources for k in slot.sources):
                payload = self._predict(slot, [self._sources[k] for k in slot.sources])
                self.predicted += 1
            self._used(slot)
            yield payload

    def drain(self) -> Iterator[Payload | None]:
        """Yield what the camera gave and has not gone out, with None for all that stands between."""
        while self._waiting:
            slot = self._slots.popleft()
            yield self._waiting.pop(slot.key, None) if slot.name is None else None

    def _used(self, slot: Slot) -> None:
        for key in set(slot.sources):
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]
                if self._sources.pop(key, None) is not None:
                    self._images -= key not in self._waiting
                self._lost_sources.discard(key)


def count_uses(predictions: Iterable[tuple[Key, ...]]) -> Counter[Key]:
    """Return how many predictions need each source image, given the sources of each prediction."""
    uses: Counter[Key] = Counter()
    for sources in predictions:
        uses.update(set(sources))
    return uses

"""Places for the labels of a chart's points, none over another or over a point."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["HEIGHT", "Box", "place_labels", "text_width"]

HEIGHT = 15.0
"""Of a label, with some air."""

_NARROW, _BROAD = frozenset("iljtfrI.,-'1 "), frozenset("mwMW")


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area in common."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0.0) * max(tall, 0.0)

    def within(self, other: Box) -> bool:
        """Return whether no part lies outside of `other`."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def text_width(text: str) -> float:
    """Return about how wide a text of 12 pixels is."""
    return sum(4.2 if c in _NARROW else 9.6 if c in _BROAD else 6.9 for c in text)


def place_labels(
    names: Sequence[str],
    spots: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    room: Box,
) -> list[Box]:
    """Return a box for each label: as near to its spot as there is room for.

    Parameters
    ----------
    names : sequence of str
    spots : sequence of (x, y)
        The points to be named.
    taken : sequence of Box
        What no label may cover, such as the points themselves.
    room : Box
        All labels lie in it.

    Returns
    -------
    list of Box
        Where nothing is free, the place that covers least.
    """
    placed: list[Box] = []
    for name, spot in zip(names, spots, strict=True):
        best, least = None, math.inf
        for box in _around(spot, text_width(name)):
            if not box.within(room):
                continue
            covered = sum(box.overlap(other) for other in (*taken, *placed))
            if covered < least:
                best, least = box, covered
            if covered == 0:
                break
        # Of a room narrower than a label there is nothing to choose from.
        placed.append(best or next(_around(spot, text_width(name))))
    return placed


def _around(spot: tuple[float, float], width: float) -> Iterator[Box]:
    """Give places about a spot, the nearest first: right and left of it, above and below."""
    x, y = spot
    distances = (9.0, 16.0, 26.0, 40.0, 58.0, 80.0, 110.0, 150.0)
    lifts = [0.0, *itertools.chain.from_iterable((-k * 8.0, k * 8.0) for k in range(1, 26))]
    places = []
    for right, away, lift in itertools.product((True, False), distances, lifts):
        left = x + away if right else x - away - width
        top = y - HEIGHT / 2 + lift
        places.append((math.hypot(away, lift) + (0.0 if right else 3.0), left, top))
    places += [
        (abs(lift) + 4.0, x - width / 2, y - HEIGHT / 2 + lift) for lift in lifts if abs(lift) >= 16
    ]
    for _, left, top in sorted(places):
        yield Box(left, top, left + width, top + HEIGHT)

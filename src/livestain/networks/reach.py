"""How far a network sees: exact arithmetic over the layers of its longest path."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Step", "halo", "interval", "shrink", "stretch"]


class Step(NamedTuple):
    """One layer along one axis: a convolution, a pooling, or a resampling that looks like one.

    Max-pooling by s and pixel-unshuffle are ``Step(s, s)``; nearest-neighbour upsampling and
    pixel-shuffle are ``Step(s, s, transposed=True)``. Layers that mix channels alone have no step.
    """

    kernel: int
    """Inputs that one output sees, or (transposed) outputs that one input reaches."""
    stride: int = 1
    """Inputs from one output to the next, or (transposed) outputs from one input to the next."""
    padding: int = 0
    """The padding that torch's layer of that kind is given."""
    transposed: bool = False
    """Whether it is a transposed convolution."""


def shrink(factor: int) -> Step:
    """Pooling, pixel-unshuffle or a convolution with kernel and stride `factor`."""
    return Step(factor, factor)


def stretch(factor: int) -> Step:
    """Nearest upsampling, pixel-shuffle or a transposed convolution of kernel and stride `factor`."""
    return Step(factor, factor, transposed=True)


def interval(steps: Sequence[Step], place: int) -> tuple[int, int]:
    """Return the first and the last input pixel that the output pixel `place` depends on.

    Parameters
    ----------
    steps : sequence of Step
        The longest path, from the input to the output.
    place : int
        Index of the output pixel, on an axis without ends.
    """
    low = high = place
    for step in reversed(steps):
        if step.transposed:
            # Output o takes input i where o = i * stride - padding + j for a j in 0 .. kernel - 1.
            low = -((step.kernel - 1 - step.padding - low) // step.stride)
            high = (high + step.padding) // step.stride
        else:
            low = low * step.stride - step.padding
            high = high * step.stride - step.padding + step.kernel - 1
    return low, high


def halo(steps: Iterable[Step]) -> int:
    """Return how many pixels away an input can lie that still changes an output pixel.

    With pooling, how far a pixel sees depends on its place on the pooling grid; this is the worst.
    """
    path = tuple(steps)
    period = math.prod(step.stride for step in path if not step.transposed)
    reach = 0
    for place in range(period):
        low, high = interval(path, place)
        reach = max(reach, place - low, high - place)
    return reach

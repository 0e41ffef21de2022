"""A number with its interval, and the mean of several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Estimate", "mean_of_folds"]


@dataclass(frozen=True)
class Estimate:
    """A number, and how sure it is.

    Attributes
    ----------
    value : float
    low, high : float or None
        Ends of the 95 % interval; None where there is none, as of fewer than three dishes.
    control : float, optional
        The same of the control without learning; of a filter, of its input.
    folds : tuple of str
        Movies left out that it is a mean over.
    """

    value: float
    low: float | None = None
    high: float | None = None
    control: float | None = None
    folds: tuple[str, ...] = ()

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """Return a number that is known, such as a limit."""
        return cls(value, value, value)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval, where there is one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def apart(self, other: Estimate) -> bool | None:
        """Return whether the two intervals are apart; None where one of the numbers has none."""
        if self.ends is None or other.ends is None:
            return None
        return self.ends[0] > other.ends[1] or other.ends[0] > self.ends[1]

    def magnitude(self) -> Estimate:
        """Return how far it is from 0, either way."""
        if self.ends is None:
            return replace(self, value=abs(self.value))
        near, far = sorted(abs(end) for end in self.ends)
        crosses = self.ends[0] < 0 < self.ends[1]
        return replace(self, value=abs(self.value), low=0.0 if crosses else near, high=far)


def mean_of_folds(folds: Mapping[str | None, Estimate]) -> Estimate:
    """Return the mean of the folds; its half widths are those of the folds in quadrature, over n.

    So it says how sure the mean over these very movies is, and nothing of other movies.
    """
    n = len(folds)
    value = sum(one.value for one in folds.values()) / n
    low = high = control = None
    widths = [
        (one.value - one.ends[0], one.ends[1] - one.value) for one in folds.values() if one.ends
    ]
    if len(widths) == n:
        low = value - sum(below**2 for below, _ in widths) ** 0.5 / n
        high = value + sum(above**2 for _, above in widths) ** 0.5 / n
    controls = [one.control for one in folds.values() if one.control is not None]
    if len(controls) == n:
        control = sum(controls) / n
    names = tuple(sorted(fold for fold in folds if fold is not None))
    return Estimate(value, low, high, control, names)

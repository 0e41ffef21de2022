"""Whether there is time for one more measurement."""

from __future__ import annotations

import time

__all__ = ["Budget"]

_PATIENCE_S = 3600.0
"""A backend that takes longer to load and to predict a few times is given up."""


class Budget:
    """The minutes that a user has, and what measurements took so far.

    Parameters
    ----------
    minutes : float, optional
        None: as many as it takes.
    """

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._took: dict[tuple[str, str, int], float] = {}

    @property
    def left_s(self) -> float:
        """Seconds that the next process may take."""
        if self._deadline is None:
            return _PATIENCE_S
        return max(1.0, self._deadline - time.monotonic())

    def note(self, bundle: str, backend: str, size: int, seconds: float) -> None:
        """Keep what a measurement took."""
        self._took[bundle, backend, size] = seconds

    def refuses(self, bundle: str, backend: str, size: int) -> str | None:
        """Return why there is no time for a measurement; None where there is.

        A larger frame takes at least as much more as it has more pixels, but for the start of a process.
        """
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        before = [
            took * (size / known) ** 2
            for (name, kind, known), took in self._took.items()
            if (name, kind) == (bundle, backend) and known < size
        ]
        if left <= 0 or min(before, default=0.0) > left:
            return f"the {self._minutes:g} minutes did not suffice"
        return None

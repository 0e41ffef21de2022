"""What imaging costs the cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Light"]


@dataclass(frozen=True)
class Light:
    """What one raw channel costs the cells: images taken, and the seconds of their exposures."""

    exposures: int
    seconds: float

    @classmethod
    def of(cls, exposures_ms: Sequence[float]) -> Light:
        """Add up exposures in milliseconds."""
        return cls(len(exposures_ms), round(sum(exposures_ms) / 1e3, 6))

"""What of a target is foreground: pixels above the Otsu threshold of their plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["otsu_threshold"]


def otsu_threshold(plane: NDArray[Any]) -> float:
    """Return the value that splits a plane best into dark and bright (Otsu 1979), over 256 bins.

    Parameters
    ----------
    plane : array, (y, x)
        Any real dtype; of a constant plane its value is returned.
    """
    from skimage import filters

    otsu: Any = filters.threshold_otsu
    return float(otsu(plane))

"""One stated segmentation of mitochondria, applied to prediction and target alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from livestain.settings import Settings
from livestain.training.evaluation.libraries import skimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Mitochondria",
    "Segmentation",
    "dice",
    "intersection_over_union",
    "segment",
    "skeleton_length_px",
]


class Segmentation(Settings):
    """How mitochondria are cut out of a plane: a band-pass, Otsu's threshold, and a smallest area."""

    smooth_um: float = Field(default=0.1, gt=0)
    """Width (sigma) of the Gaussian against noise, in micrometres."""

    background_um: float = Field(default=1.0, gt=0)
    """Width (sigma) of the Gaussian that is taken away as background, in micrometres: about the width of
    the widest mitochondrion."""

    min_area_um2: float = Field(default=0.1, ge=0)
    """Smaller objects are noise, in square micrometres."""

    def words(self) -> str:
        """Return what is done, for people."""
        return (
            f"difference of Gaussians (sigma {self.smooth_um:g} and {self.background_um:g} um), Otsu's "
            f"threshold of it, objects (8-connected) of {self.min_area_um2:g} um2 or more; the same for "
            "prediction and target"
        )


@dataclass(frozen=True)
class Mitochondria:
    """What was cut out of one plane.

    Attributes
    ----------
    mask : array of bool, (y, x)
    count : int
        Objects, 8-connected.
    length_um : float
        Of the skeleton of all of them, in micrometres.
    """

    mask: NDArray[np.bool_]
    count: int
    length_um: float


def segment(
    plane: NDArray[Any], pixel_size_um: float, settings: Segmentation | None = None
) -> Mitochondria:
    """Cut the mitochondria out of a plane.

    The threshold is that of Otsu (1979) and always finds something, in noise too; the skeleton is that
    of Zhang and Suen (1984).

    Parameters
    ----------
    plane : array, (y, x)
        Fluorescence, measured or predicted, in any unit: scale and offset change nothing.
    pixel_size_um : float
        Side of a pixel in micrometres.
    settings : Segmentation, optional
    """
    settings = settings or Segmentation()
    from scipy.ndimage import gaussian_filter

    values = plane.astype(np.float64)
    band = gaussian_filter(values, settings.smooth_um / pixel_size_um) - gaussian_filter(
        values, settings.background_um / pixel_size_um
    )
    if np.ptp(band) <= 1e-12 * max(float(np.abs(values).max()), 1e-300):
        return Mitochondria(np.zeros(plane.shape, np.bool_), 0, 0.0)
    labels = skimage("measure").label(
        band > skimage("filters").threshold_otsu(band), connectivity=2
    )
    area_px = np.bincount(labels.ravel())
    large = area_px * pixel_size_um**2 >= settings.min_area_um2
    large[0] = False
    mask: NDArray[np.bool_] = large[labels]
    length = skeleton_length_px(skimage("morphology").skeletonize(mask)) * pixel_size_um
    return Mitochondria(mask, int(large.sum()), length)


def skeleton_length_px(skeleton: NDArray[np.bool_]) -> float:
    """Return the length of a skeleton's lines, in pixels.

    Steps to a neighbour along the axes count 1, diagonal ones the root of 2; a diagonal step that
    two steps along the axes also make is not counted again. A lone pixel has no length.

    Parameters
    ----------
    skeleton : array of bool, (y, x)
        Lines one pixel wide.
    """
    s = skeleton.astype(np.bool_)
    straight = int((s[1:] & s[:-1]).sum() + (s[:, 1:] & s[:, :-1]).sum())
    corner = s[1:, :-1] | s[:-1, 1:]
    falling = s[:-1, :-1] & s[1:, 1:] & ~corner
    corner = s[:-1, :-1] | s[1:, 1:]
    rising = s[1:, :-1] & s[:-1, 1:] & ~corner
    return straight + float(np.sqrt(2)) * int(falling.sum() + rising.sum())


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return twice the overlap over the sum of two masks (Dice 1945); NaN where both are empty."""
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else float("nan")


def intersection_over_union(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the overlap over the union of two masks (Jaccard 1912); NaN where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else float("nan")

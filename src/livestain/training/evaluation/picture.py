"""A plane that is compared, with what several metrics need of it, each computed once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.training.evaluation.libraries import skimage
from livestain.training.evaluation.segmentation import Mitochondria, Segmentation, segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RANGE_PERCENTILES", "Picture", "zscored"]

RANGE_PERCENTILES = (0.1, 99.9)
"""Of the target: what becomes 0 and 1 where a metric has a data range."""


def zscored(plane: NDArray[Any]) -> NDArray[np.float64]:
    """Return a plane at mean 0 and standard deviation 1; zeros where it is constant."""
    values = plane.astype(np.float64)
    values -= values.mean()
    std = float(values.std())
    if std > 0:
        values /= std
    return values


class Picture:
    """One plane, predicted or measured.

    Parameters
    ----------
    values : array, (y, x)
        Any real dtype.
    pixel_size_um : float
        Side of a pixel in micrometres.
    in_unit : array, (y, x), optional
        The same plane in the unit of the model's output, for the one metric that asks whether the
        prediction has the right scale; `values` where left out.
    segmentation : Segmentation, optional
        How mitochondria are cut out.
    """

    def __init__(
        self,
        values: NDArray[Any],
        pixel_size_um: float,
        *,
        in_unit: NDArray[Any] | None = None,
        segmentation: Segmentation | None = None,
    ) -> None:
        self.values = values
        self.pixel_size_um = pixel_size_um
        self._in_unit = in_unit
        self._segmentation = segmentation or Segmentation()

    @cached_property
    def in_unit(self) -> NDArray[np.float64]:
        """The plane in the unit of the model's output."""
        given = self.values if self._in_unit is None else self._in_unit
        return given.astype(np.float64)

    @cached_property
    def z(self) -> NDArray[np.float64]:
        """The plane at mean 0 and standard deviation 1."""
        return zscored(self.values)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """What of `z` becomes 0 and 1 where this plane is the target."""
        low, high = np.percentile(self.z, RANGE_PERCENTILES)
        if not high > low:  # nearly all pixels are equal
            low, high = self.z.min(), self.z.max()
        return float(low), float(high)

    def in_range_of(self, target: Picture) -> NDArray[np.float64]:
        """Return `z` between the target's limits as 0 to 1, cut there; zeros for a constant target."""
        low, high = target.limits
        if not high > low:
            return np.zeros_like(self.z)
        scaled: NDArray[np.float64] = np.clip((self.z - low) / (high - low), 0.0, 1.0)
        return scaled

    @cached_property
    def foreground(self) -> NDArray[np.bool_]:
        """Above Otsu's threshold of the plane."""
        if np.ptp(self.values) == 0:
            return np.zeros(self.values.shape, np.bool_)
        mask: NDArray[np.bool_] = self.values > skimage("filters").threshold_otsu(self.values)
        return mask

    @cached_property
    def mitochondria(self) -> Mitochondria:
        """What the stated segmentation cuts out."""
        return segment(self.values, self.pixel_size_um, self._segmentation)

"""The windows of planes that a model takes at a microscope, fitted to its network and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.bundle.fit import check_pixel_size, check_z_step
from livestain.errors import BundleError
from livestain.inference.geometry import resample, resample_depth
from livestain.inference.padded import stain_padded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle

__all__ = ["Windows"]

_SAME_SIZE = 0.005
"""Relative difference of pixel sizes below which nothing is resampled: 10 pixels in a row of 2048;
likewise of z-steps."""


class Windows:
    """What a model takes, and what it gives, in the microscope's pixels.

    Parameters
    ----------
    bundle : Bundle
        The model.
    pixel_size_um, z_step_um : float, optional
        Of the microscope, in micrometres; None: as the model's.

    Attributes
    ----------
    resampled : float or None
        Given pixel size divided by the model's, or None where nothing is resampled.
    resampled_z : float or None
        The same of the z-step.

    Raises
    ------
    BundleError
        If the pixel size or z-step does not fit the model.
    """

    def __init__(
        self, bundle: Bundle, *, pixel_size_um: float | None, z_step_um: float | None
    ) -> None:
        self._name = bundle.name
        self._description = description = bundle.description
        wanted = description.input
        self._sources = len(wanted.kinds)
        self.resampled: float | None = None
        if pixel_size_um is not None:
            check_pixel_size(description, pixel_size_um)
            factor = pixel_size_um / wanted.pixel_size_um
            self.resampled = factor if abs(factor - 1) > _SAME_SIZE else None
        self.resampled_z: float | None = None
        if z_step_um is not None and wanted.z_step_um is not None:
            check_z_step(description, z_step_um)
            factor = z_step_um / wanted.z_step_um
            within = wanted.z_step_range_um is not None and abs(factor - 1) > _SAME_SIZE
            self.resampled_z = factor if within else None

    def check(self, planes: NDArray[Any]) -> None:
        """Refuse planes, (planes, y, x), that are not those of one window.

        Raises
        ------
        BundleError
            If they are not what the model takes.
        """
        window = self._description.input.window
        fits = planes.dtype in (np.uint8, np.uint16) and planes.ndim == 3 and 0 not in planes.shape
        if window.whole_stack and window.depth is None:
            number = "planes" if self._sources == 1 else f"{self._sources} * planes"
            fits = fits and planes.shape[0] % self._sources == 0
        else:
            number = str(self._sources * window.n_planes)
            fits = fits and str(planes.shape[0]) == number
        if not fits:
            raise BundleError(
                f"The planes are {planes.dtype} {planes.shape}; the model {self._name} expects "
                f"uint8 or uint16 ({number}, y, x). Give the planes of its window."
            )

    def network_sides(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the sides that planes have in the network's pixels, before they are padded."""
        factor = self.resampled or 1
        return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))

    def predicted_shape(self, planes: NDArray[Any]) -> tuple[int, ...]:
        """Return (n, outputs, [z], y, x) of what is predicted from counts (n, planes, y, x)."""
        stack = self._description.input.window.whole_stack
        depth = (planes.shape[1] // self._sources,) if stack else ()
        return (planes.shape[0], len(self._description.outputs), *depth, *planes.shape[2:])

    def predict(
        self,
        counts: torch.Tensor,
        module: StainModule | ForeignModule,
        network: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Predict from planes as they come from the camera.

        Parameters
        ----------
        counts : torch.Tensor, (n, planes, y, x) uint8 or uint16
            On the network's device.
        module : StainModule or ForeignModule
            What comes before and after its network.
        network : callable
            Instead of the module's.

        Returns
        -------
        torch.Tensor
            float32, (n, outputs, [z], y, x), in the outputs' units, of the same sides and depth.
        """
        shape = (counts.shape[-2], counts.shape[-1])
        depth = counts.shape[1] // self._sources
        # Counts stay whole numbers where nothing is resampled, for statistics by histogram.
        x = counts
        if self.resampled is not None:
            x = resample(x.to(torch.float32), self.network_sides(shape))
        if self.resampled_z is not None:
            stacks = x.to(torch.float32).unflatten(1, (self._sources, depth))
            x = resample_depth(stacks, max(1, round(depth * self.resampled_z))).flatten(1, 2)
        y = stain_padded(module, x, network)
        if self.resampled_z is not None:
            y = resample_depth(y, depth)
        return y if self.resampled is None else resample(y, shape)

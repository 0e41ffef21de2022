"""The frequencies of a plane, and radial curves laid onto them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RadialGrid"]


class RadialGrid:
    """The frequencies of a real 2-D FFT, and radial curves laid onto them.

    Parameters
    ----------
    shape : (int, int)
        Size (y, x) of the plane, in pixels.
    pixel_size_um : float
        Side of a pixel in micrometres.
    """

    def __init__(self, shape: tuple[int, int], pixel_size_um: float) -> None:
        self.ky: NDArray[np.float32] = np.fft.fftfreq(shape[0], pixel_size_um).astype(np.float32)
        """Spatial frequency of every row, in cycles per micrometre."""
        self.kx: NDArray[np.float32] = np.fft.rfftfreq(shape[1], pixel_size_um).astype(np.float32)
        """Spatial frequency of every column, likewise; 0 or greater."""
        self.radius: NDArray[np.float32] = np.hypot(self.ky[:, None], self.kx[None, :])
        """Spatial frequency of every coefficient, in cycles per micrometre."""

    def lay(self, cutoff: float, curve: NDArray[np.float64]) -> NDArray[np.float32]:
        """Interpolate a curve sampled evenly from 0 to `cutoff` (cycles/um); 0 beyond it."""
        padded = np.append(curve, (0.0, 0.0)).astype(np.float32)
        place = np.minimum(self.radius * np.float32((len(curve) - 1) / cutoff), len(curve))
        low = place.astype(np.int32)
        np.minimum(low, len(curve), out=low)
        laid: NDArray[np.float32] = padded[low]
        laid += (place - low) * (padded[low + 1] - laid)
        return laid.astype(np.float32, copy=False)

    def gaussian(self, sigma_um: float) -> NDArray[np.float32]:
        """Return the transform of a Gaussian of unit sum and standard deviation `sigma_um`."""
        exponent = self.radius * self.radius * np.float32(-2 * (np.pi * sigma_um) ** 2)
        return np.asarray(np.exp(exponent, out=exponent), dtype=np.float32)

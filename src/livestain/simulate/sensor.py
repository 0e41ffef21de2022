"""The camera: photo-electrons in, counts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from livestain.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sensor"]

_NORMAL_ABOVE = 100.0
"""Mean photo-electrons from which a Gaussian stands for the Poisson distribution (several times faster)."""


class Sensor(Settings):
    """A scientific CMOS camera: shot noise, read noise, offset, gain, 16 bits.

    Counts = offset + gain x (Poisson(electrons) + Normal(0, read noise)), the photon transfer model of
    J. R. Janesick, "Photon Transfer", SPIE Press (2007): the variance grows by gain x mean.
    """

    offset: float = Field(default=100.0, ge=0)
    """Counts of a dark pixel."""

    gain: float = Field(default=0.9, gt=0)
    """Counts per photo-electron."""

    read_noise: float = Field(default=1.6, ge=0)
    """Standard deviation of the read noise, in electrons."""

    def expose(
        self, electrons: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.uint16]:
        """Turn expected photo-electrons into counts.

        Parameters
        ----------
        electrons : array of float32, (y, x)
            Expected photo-electrons per pixel, not negative.
        rng : numpy Generator
            The source of the noise.

        Returns
        -------
        array of uint16, (y, x)
        """
        noise = rng.standard_normal(electrons.shape, dtype=np.float32)
        if electrons.min() >= _NORMAL_ABOVE:
            noise *= np.sqrt(electrons + np.float32(self.read_noise**2))
            noise += electrons
        else:
            noise *= np.float32(self.read_noise)
            noise += rng.poisson(electrons)
        noise *= np.float32(self.gain)
        noise += np.float32(self.offset)
        np.rint(noise, out=noise)
        np.clip(noise, 0, 65535, out=noise)
        return noise.astype(np.uint16)

"""The camera: photo-electrons in, counts out."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from pydantic import Field

from livestain.settings import FiniteSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

__all__ = ["Sensor", "binned"]

_NORMAL_ABOVE = 100.0
"""Mean photo-electrons from which a Gaussian stands for the Poisson distribution (several times faster)."""

_BLURRED_ABOVE = 1.0
"""Read noise, in electrons, that hides that photo-electrons are whole ones."""


class Sensor(FiniteSettings):
    """A scientific CMOS camera.

    Counts = offset + gain x (Poisson(light + dark current) + Normal(0, read noise)), rounded and cut at
    the full well and at the bit depth: the photon transfer model of J. R. Janesick, "Photon Transfer",
    SPIE Press (2007): the variance grows by gain x mean. Read noise and dark current differ from pixel
    to pixel in a pattern that belongs to the sensor (`serial`), as CMOS pixels' do: F. Huang et al.,
    "Video-rate nanoscopy using sCMOS camera-specific single-molecule localization algorithms",
    Nature Methods 10, 653 (2013).

    The defaults are of the kind of a back-illuminated sensor of 11 um pixels.
    """

    offset: float = Field(default=100.0, ge=0)
    """Counts of a dark pixel."""

    gain: float = Field(default=0.9, gt=0)
    """Counts per photo-electron."""

    read_noise: float = Field(default=1.6, ge=0)
    """Root mean square over the pixels of the standard deviation of the read noise, in electrons."""

    read_noise_spread: float = Field(default=0.3, ge=0, le=1.5)
    """How much pixels differ in read noise: standard deviation of its natural logarithm."""

    dark_current: float = Field(default=0.0003, ge=0)
    """Electrons per pixel and millisecond without light."""

    hot_pixels: float = Field(default=2e-5, ge=0, le=1)
    """Share of pixels with a dark current of their own."""

    hot_current: float = Field(default=0.2, ge=0)
    """Mean dark current of hot pixels, in electrons per millisecond; exponentially distributed."""

    full_well: float = Field(default=80_000.0, gt=0)
    """Electrons that a pixel holds at most."""

    bit_depth: int = Field(default=16, ge=8, le=16)
    """Bits of a count: the largest is 2^bits - 1."""

    serial: int = Field(default=0, ge=0)
    """Which sensor of its kind: seeds what differs between pixels."""

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Data type of a frame: uint8 up to 8 bits, else uint16."""
        return np.dtype(np.uint8) if self.bit_depth <= 8 else np.dtype(np.uint16)

    def at_bit_depth(self, bits: int) -> Sensor:
        """Return the same sensor read out at another bit depth.

        Gain and offset change by the same factor as the range: a frame keeps its share of the range.
        """
        factor = 2.0 ** (bits - self.bit_depth)
        changed = {"offset": self.offset * factor, "gain": self.gain * factor, "bit_depth": bits}
        return Sensor.model_validate({**self.model_dump(), **changed})

    def expose(
        self,
        electrons: NDArray[np.float32],
        rng: np.random.Generator,
        *,
        exposure_ms: float = 0.0,
        binning: int = 1,
    ) -> Counts:
        """Turn expected photo-electrons into counts.

        Where read noise hides single photo-electrons, shot and read noise are drawn together: one
        normal deviate, with the skewness of their sum by the expansion of E. A. Cornish and R. A.
        Fisher, Revue de l'Institut international de statistique 5, 307 (1938). Mean, variance and
        skewness are exact but for the square of the skewness.

        Parameters
        ----------
        electrons : array of float32, (y, x)
            Expected photo-electrons per pixel, not negative. Left as it is.
        rng : numpy Generator
            The source of the noise.
        exposure_ms : float
            How long dark current gathered, in milliseconds.
        binning : int
            Side of the squares of pixels whose counts are summed, offsets and all, after the readout.
            Pixels at the lower and right edge that fill no square are left out.

        Returns
        -------
        array of uint8 or uint16, (y // binning, x // binning)
            uint8 up to a bit depth of 8.
        """
        read_variance, hot = _pattern(self, electrons.shape)
        if exposure_ms > 0 and (self.dark_current or len(hot[0])):
            electrons = electrons + np.float32(self.dark_current * exposure_ms)
            electrons.reshape(-1)[hot[0]] += hot[1] * np.float32(exposure_ms)
        noise = rng.standard_normal(electrons.shape, dtype=np.float32)
        if electrons.min() >= _NORMAL_ABOVE:
            noise *= np.sqrt(electrons + read_variance)
            noise += electrons
        elif self.read_noise >= _BLURRED_ABOVE:
            variance = electrons + read_variance
            skewed = electrons / variance
            skewed *= np.float32(1 / 6)
            squares = noise * noise
            squares -= np.float32(1)
            squares *= skewed
            squares += electrons
            skewed *= skewed
            variance -= np.float32(2) * skewed
            noise *= np.sqrt(variance, out=variance)
            noise += squares
        else:
            noise *= np.sqrt(read_variance)
            noise += rng.poisson(electrons)
        np.minimum(noise, np.float32(self.full_well), out=noise)
        noise *= np.float32(self.gain)
        noise += np.float32(self.offset)
        np.rint(noise, out=noise)
        most = 2**self.bit_depth - 1
        np.clip(noise, 0, most, out=noise)
        if binning > 1:
            noise = binned(noise, binning)
            np.minimum(noise, np.float32(most), out=noise)
        return noise.astype(np.uint8) if self.bit_depth <= 8 else noise.astype(np.uint16)


def binned(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the sums of squares of `side` x `side` pixels; pixels that fill no square are left out."""
    height, width = (n // side for n in image.shape)
    squares = image[: height * side, : width * side].reshape(height, side, width, side)
    return np.asarray(squares.sum((1, 3)), dtype=np.float32)


@lru_cache(maxsize=16)
def _pattern(
    sensor: Sensor, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Return what belongs to a sensor: variance of its read noise (y, x), and its hot pixels.

    Returns
    -------
    variance : array of float32, (y, x), or of one number where pixels do not differ
        Electrons squared.
    places, currents : arrays, (n,)
        Flat places of hot pixels, and their dark currents in electrons per millisecond.
    """
    rng = np.random.default_rng([sensor.serial, 77])
    # Drawn before anything depends on other settings, so that a changed gain leaves the pattern.
    spread = rng.standard_normal(shape, dtype=np.float32)
    warmth = rng.random(shape, dtype=np.float32)
    places = np.flatnonzero(warmth < sensor.hot_pixels)
    currents = rng.exponential(sensor.hot_current, len(places)).astype(np.float32)
    square = np.float32(sensor.read_noise**2)
    if not sensor.read_noise_spread:
        return np.full((1, 1), square), (places, currents)
    # A logarithmic normal distribution whose mean square is that of read_noise.
    sigma = np.float32(sensor.read_noise_spread)
    variance = square * np.exp(2 * sigma * spread - 2 * sigma * sigma)
    return np.asarray(variance, dtype=np.float32), (places, currents)

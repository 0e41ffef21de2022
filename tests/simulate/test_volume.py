"""Bodies through compressed transfer functions, against each body's own."""

from __future__ import annotations

import numpy as np
import pytest

from livestain.simulate import CellKind, Dish, Optics
from livestain.simulate.cells import GLASS_UM
from livestain.simulate.volume import Points, Seen, Volume, _compressed

KIND = CellKind()


@pytest.mark.parametrize(
    "seen",
    [Seen("path", absorption=0.06), Seen("path", absorption=0.06, turned=True), Seen("label")],
)
def test_a_few_curves_stand_for_every_height_width_and_sign(seen: Seen) -> None:
    optics, focus = Optics(), 0.2
    compressed = _compressed(KIND, optics, focus, seen)
    assert len(compressed.curves) <= 14
    rng = np.random.default_rng(0)
    z, sigma = rng.uniform(GLASS_UM + 0.2, 1.2, 40), rng.uniform(0.08, 0.3, 40)
    negative = (rng.random(40) < 0.5) & (len(seen.signs) > 1)
    ours = compressed.weights(z, sigma, negative).T @ compressed.curves
    k = np.linspace(0, compressed.cutoff, ours.shape[1])
    exact = []
    for height, width, below in zip(z, sigma, negative, strict=True):
        _, curve = seen.curve(optics, height - focus, -1 if below else 1)
        exact.append(curve * np.exp(-2 * (np.pi * width * k) ** 2))
    # Power of a plane's spectrum: rings grow with their frequency.
    lost = np.sqrt(((ours - exact) ** 2 * k).sum() / (np.square(exact) * k).sum())
    assert lost < 0.06


def test_what_scatters_light_is_dark_whatever_its_index() -> None:
    """In focus, where phase shows nothing: a vesicle of water loses light as a granule does."""
    seen, optics = Seen("path", absorption=0.06), Optics(spherical_aberration_waves=0.0)
    for sign in (1, -1):
        _, curve = seen.curve(optics, 0.0, sign)
        assert (sign * curve)[:80].max() < 0


def test_points_are_where_they_are_between_pixels() -> None:
    """One body at a place that is no pixel's, against its transform, which has the place as a phase."""
    optics, focus, pixel = Optics(), 0.0, 0.1
    volume = Volume(0, KIND, (64, 64), pixel)
    grid, (height, width) = volume.grid, volume._padded
    x, y, z, sigma = 33.3, 40.6, 0.1, 0.12
    first = int(y) * width + int(x)
    points = Points(
        pixel=np.array([[first], [first + 1], [first + width], [first + width + 1]]),
        share=np.array([[0.4 * 0.7], [0.4 * 0.3], [0.6 * 0.7], [0.6 * 0.3]]),
        z=np.array([z]),
        sigma=np.array([sigma]),
        negative=np.array([False]),
    )
    drawn = volume.spectrum(points, volume.transfer(optics, focus, Seen("label")))
    body = grid.lay(*Seen("label").curve(optics, z)) * grid.gaussian(sigma)
    exact = body * np.exp(-2j * np.pi * pixel * (grid.kx[None, :] * x + grid.ky[:, None] * y))
    image, wanted = (np.fft.irfft2(a, s=(height, width)) for a in (drawn, exact))
    assert np.std(image - wanted) < 0.06 * np.std(wanted)


def test_a_frames_size_does_not_change_what_it_shows() -> None:
    """Light from outside the frame, out of focus as far as stacks go."""
    for z_um in (0.0, -1.5):
        small = Dish(3, shape=(48, 48)).truth(10.0, z_um)
        large = Dish(3, shape=(96, 96)).truth(10.0, z_um)[24:72, 24:72]
        assert np.abs(small - large).max() < 0.02 * large.max()

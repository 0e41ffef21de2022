from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from livestain.simulate.optics import (
    Optics,
    RadialGrid,
    fluorescence_transfer,
    weak_object_transfer,
)

PLAIN = Optics(spherical_aberration_waves=0.0)


@pytest.mark.parametrize("dz", [0.2, 0.7, 1.5])
def test_phase_contrast_changes_sign_through_focus(dz: float) -> None:
    _, above, _ = weak_object_transfer(PLAIN, dz)
    _, below, _ = weak_object_transfer(PLAIN, -dz)
    _, focus, _ = weak_object_transfer(PLAIN, 0.0)
    np.testing.assert_allclose(above, -below, atol=1e-12)
    np.testing.assert_allclose(focus, 0.0, atol=1e-12)
    assert np.abs(above).max() > 0.2


@pytest.mark.parametrize("dz", [-1.0, 0.0, 0.8])
def test_energy_is_conserved(dz: float) -> None:
    # A phase object absorbs nothing; a uniform absorber of amplitude a dims the light by 2 a.
    _, phase, absorption = weak_object_transfer(Optics(), dz)
    assert phase[0] == pytest.approx(0.0, abs=1e-12)
    assert absorption[0] == pytest.approx(-2.0)


def test_coherent_limit_is_the_textbook_contrast_transfer() -> None:
    # Axial illumination and small angles: 2 sin(pi wavelength dz k^2 / n).
    optics = Optics(condenser_aperture=1e-4, spherical_aberration_waves=0.0)
    dz = 3.0
    cutoff, phase, _ = weak_object_transfer(optics, dz)
    k = np.linspace(0, cutoff, len(phase))
    small = k < 0.6
    expected = 2 * np.sin(np.pi * 0.55 * dz * k[small] ** 2 / 1.333)
    np.testing.assert_allclose(phase[small], expected, atol=0.03)
    assert expected.max() > 1.5


def test_fluorescence_in_focus_is_the_diffraction_limit() -> None:
    cutoff, transfer = fluorescence_transfer(PLAIN, 0.0)
    assert cutoff == pytest.approx(2 * 1.2 / 0.525)
    v = np.linspace(0, 1, len(transfer))
    ideal = 2 / np.pi * (np.arccos(v) - v * np.sqrt(1 - v**2))
    np.testing.assert_allclose(transfer, ideal, atol=0.02)


def test_point_spread_function_has_the_width_of_an_airy_disc() -> None:
    grid = RadialGrid((256, 256), 0.02)
    psf = np.fft.irfft2(grid.lay(*fluorescence_transfer(PLAIN, 0.0)), s=(256, 256))
    line = np.fft.fftshift(psf[0])
    half = np.interp(0.5 * line.max(), line[128:160][::-1], 0.02 * np.arange(32)[::-1])
    assert 2 * half == pytest.approx(0.514 * 0.525 / 1.2, rel=0.05)


def test_out_of_focus_light_blurs_and_keeps_its_sum() -> None:
    sharp, blurred = (fluorescence_transfer(PLAIN, dz)[1] for dz in (0.0, 1.0))
    assert blurred[0] == pytest.approx(1.0)
    assert np.abs(blurred[20:]).mean() < 0.3 * sharp[20:].mean()


def test_impossible_apertures_are_refused() -> None:
    with pytest.raises(ValidationError, match="below refractive_index"):
        Optics(numerical_aperture=1.4)
    with pytest.raises(ValidationError, match="at most numerical_aperture"):
        Optics(condenser_aperture=1.3)

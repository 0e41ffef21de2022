"""The widefield point spread function against closed forms of scalar diffraction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from livestain.simulate.optics import Optics, RadialGrid, fluorescence_transfer

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN = Optics(spherical_aberration_waves=0.0)
SLOW = Optics(numerical_aperture=0.4, condenser_aperture=0.2, spherical_aberration_waves=0.0)
OIL = Optics(numerical_aperture=1.42, refractive_index=1.515, medium_index=1.36)


def on_axis(optics: Optics, dz_um: float) -> float:
    """Return the light on the axis, a share of all light per square micrometre."""
    cutoff, transfer = fluorescence_transfer(optics, dz_um)
    k = np.linspace(0, cutoff, len(transfer))
    return float(np.trapezoid(transfer * 2 * np.pi * k, k))


def axial_profile(optics: Optics, dz_um: NDArray[np.float64]) -> NDArray[np.float64]:
    profile = np.array([on_axis(optics, float(dz)) for dz in dz_um])
    return profile / on_axis(optics, 0.0)


@pytest.mark.parametrize("optics", [PLAIN, SLOW])
def test_light_on_the_axis_is_the_scalar_integral(optics: Optics) -> None:
    # An evenly lit pupil of a high aperture: |integral of exp(2 pi i n dz c / wavelength) c dc|^2, with c the
    # cosine of the angle.
    na, n, wavelength = optics.numerical_aperture, optics.refractive_index, 0.525
    depth = n * wavelength / na**2
    dz = np.linspace(-2.5, 2.5, 21) * depth
    edge = np.sqrt(1 - (na / n) ** 2)
    c, dc = np.linspace(edge, 1, 20_001, retstep=True)
    waves = np.exp(2j * np.pi * n / wavelength * np.outer(dz, c)) * c
    field = np.trapezoid(waves, dx=dc, axis=1)
    expected = np.abs(field) ** 2 / ((1 - edge**2) / 2) ** 2
    np.testing.assert_allclose(axial_profile(optics, dz), expected, atol=2e-3)


def test_depth_of_a_slow_objective_is_the_textbook_one() -> None:
    # M. Born, E. Wolf, Principles of Optics, 8.8: sinc^2, first dark at 2 n wavelength / NA^2.
    depth = 1.333 * 0.525 / 0.4**2
    dz = np.linspace(0, 3 * depth, 61)
    profile = axial_profile(SLOW, dz)
    first = int(np.argmin(profile[:50]))
    assert dz[first] == pytest.approx(2 * depth, rel=0.05)
    assert profile[first] < 0.003
    half = float(np.interp(-0.5, -profile[: first + 1], dz[: first + 1]))
    assert 2 * half == pytest.approx(1.772 * depth, rel=0.03)


def test_first_dark_ring_is_airys() -> None:
    side, pixel = 512, 0.02
    grid = RadialGrid((side, side), pixel)
    line = np.fft.irfft2(grid.lay(*fluorescence_transfer(PLAIN, 0.0)), s=(side, side))[0]
    first = int(np.argmin(line[:20]))
    assert first * pixel == pytest.approx(0.61 * 0.525 / 1.2, abs=pixel)
    assert abs(line[first]) < 2e-3 * line[0]


@pytest.mark.parametrize("optics", [PLAIN, OIL, SLOW])
@pytest.mark.parametrize("dz", [-1.5, 0.0, 0.4, 1.0, 3.0])
def test_every_plane_holds_all_the_light_and_none_of_it_is_negative(
    optics: Optics, dz: float
) -> None:
    side = 256
    grid = RadialGrid((side, side), 0.08)
    spread = np.fft.irfft2(grid.lay(*fluorescence_transfer(optics, dz)), s=(side, side))
    assert spread.sum() == pytest.approx(1.0, abs=1e-4)
    assert spread.min() > -2e-3 * spread.max()


def test_above_and_below_focus_are_alike_without_aberration() -> None:
    for dz in (0.5, 2.0):
        _, above = fluorescence_transfer(PLAIN, dz)
        _, below = fluorescence_transfer(PLAIN, -dz)
        np.testing.assert_allclose(above, below, atol=1e-9)


def test_no_aperture_is_larger_than_the_medium() -> None:
    cutoff, _ = fluorescence_transfer(OIL, 0.0)
    assert cutoff == pytest.approx(2 * 1.36 / 0.525)


def test_depth_in_another_medium_is_spherical_aberration() -> None:
    # Dimmer with depth, and lopsided in z; the focus itself was found by whoever focused.
    moderate = {"numerical_aperture": 1.0, "refractive_index": 1.515, "medium_index": 1.36}
    dz = np.linspace(-2.0, 2.0, 25)
    ideal, *deeper = (
        np.array(
            [on_axis(Optics.model_validate({**moderate, "medium_depth_um": d}), z) for z in dz]
        )
        for d in (0.0, 10.0, 40.0)
    )
    assert ideal.max() > 1.02 * deeper[0].max() > 1.2 * deeper[1].max()
    np.testing.assert_allclose(ideal, ideal[::-1], rtol=1e-6)
    lopsided = [float(np.abs(p - p[::-1]).max() / p.max()) for p in deeper]
    assert 0.05 < lopsided[0] < lopsided[1]
    same = Optics.model_validate({**moderate, "medium_index": 1.515, "medium_depth_um": 40.0})
    plain = Optics(numerical_aperture=1.0, refractive_index=1.515)
    assert on_axis(same, 0.7) == pytest.approx(on_axis(plain, 0.7))


def test_a_shorter_wavelength_is_sharper() -> None:
    cutoff, transfer = fluorescence_transfer(PLAIN, 0.0, PLAIN.dna_emission_wavelength_um)
    assert cutoff == pytest.approx(2 * 1.2 / 0.46)
    assert transfer[0] == pytest.approx(1.0, abs=1e-4)

"""The transmitted-light model against closed forms, and against light that is propagated point by point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from livestain.simulate.optics import Optics, RadialGrid, transmitted_transfer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Slices = list[tuple[float, NDArray[np.float64]]]

SIDE = 96
PIXEL_UM = 0.1
GRID = RadialGrid((SIDE, SIDE), PIXEL_UM)
PLAIN = Optics(spherical_aberration_waves=0.0)
PHASE = PLAIN.model_copy(update={"contrast": "phase"})
DIC = PLAIN.model_copy(update={"contrast": "dic", "shear_degrees": 0.0})
MIDDLE = SIDE // 2


def a_bead(
    radians: float, sigma_um: float = 0.4, at_um: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    across = (np.arange(SIDE) - MIDDLE) * PIXEL_UM
    y, x = across[:, None] - at_um[1], across - at_um[0]
    return np.asarray(radians * np.exp(-(y**2 + x**2) / (2 * sigma_um**2)))


def two_beads(radians: float) -> NDArray[np.float64]:
    small, large = a_bead(radians, 0.2, (-1.5, 1.0)), a_bead(radians, 0.6, (1.5, -1.0))
    return np.asarray(small + large)


def linear(optics: Optics, slices: Slices) -> NDArray[np.float64]:
    """Return the product's image of slices of phase (radians), each at a height above focus."""
    image = np.ones((SIDE, SIDE))
    for dz_um, phase in slices:
        transfer, _ = transmitted_transfer(optics, dz_um).on(GRID)
        image += np.fft.irfft2(np.fft.rfft2(phase) * transfer, s=(SIDE, SIDE))
    return image


def propagated(optics: Optics, slices: Slices) -> NDArray[np.float64]:
    """Return the image of phase screens of any strength: E. Abbe's sum over points of the condenser.

    Nothing of the product is used. A plane wave passes each screen, uppermost first, with the angular
    spectrum's phases between them, then the objective; intensities are summed. DIC shifts the wave by
    whole pixels along x.
    """
    wavelength, na = optics.brightfield_wavelength_um, optics.numerical_aperture
    whole = optics.refractive_index / wavelength
    k = np.fft.fftfreq(SIDE, PIXEL_UM)
    inner, outer = 0.0, optics.condenser_aperture
    if optics.contrast == "phase":
        inner, outer = (na * (optics.ring_radius + s * optics.ring_width / 2) for s in (-1, 1))
    # Rings of equal area, points of equal weight, every second ring half a step round.
    rings, around = (4, 40) if inner else (10, 30)
    radii = np.sqrt(inner**2 + (outer**2 - inner**2) * (np.arange(rings) + 0.5) / rings)
    image, empty = np.zeros((SIDE, SIDE)), 0.0
    for n, radius in enumerate(radii / wavelength):
        for angle in 2 * np.pi * (np.arange(around) + n % 2 / 2) / around:
            sx, sy = radius * np.cos(angle), radius * np.sin(angle)
            r = np.hypot(k + sx, k[:, None] + sy)
            axial = np.sqrt(np.maximum(whole**2 - r**2, 0))
            spectrum, height = np.zeros((SIDE, SIDE), complex), slices[0][0]
            spectrum[0, 0] = SIDE**2
            for dz_um, phase in slices:
                spectrum *= np.exp(2j * np.pi * (height - dz_um) * axial)
                spectrum = np.fft.fft2(np.fft.ifft2(spectrum) * np.exp(1j * phase))
                height = dz_um
            spectrum *= (r * wavelength <= na) * np.exp(2j * np.pi * height * axial)
            direct = 1.0
            if optics.contrast == "phase":
                direct = float(np.sqrt(optics.ring_transmittance))
                on_ring = (
                    np.abs(r * wavelength / na - optics.ring_radius) <= 0.65 * optics.ring_width
                )
                spectrum[on_ring] *= direct * np.exp(-2j * np.pi * optics.ring_waves)
            wave = np.fft.ifft2(spectrum)
            if optics.contrast == "dic":
                half = round(optics.shear_um / 2 / PIXEL_UM)
                bias = np.exp(1j * np.pi * optics.bias_waves)
                wave = np.roll(wave, -half, 1) * bias - np.roll(wave, half, 1) / bias
                direct = float(2 * np.sin(np.pi * optics.bias_waves))
            image += np.abs(wave) ** 2
            empty += direct**2
    return image / empty


def error(optics: Optics, slices: Slices) -> float:
    """Return how far the model is from propagated light, as a share of the contrast (rms)."""
    truth = propagated(optics, slices)
    return float((linear(optics, slices) - truth).std() / truth.std())


@pytest.mark.parametrize(
    ("optics", "dz", "allowed"),
    [
        (PLAIN, 0.8, 0.02),
        (PLAIN, -2.0, 0.02),
        (PHASE, 0.0, 0.05),
        (PHASE, 1.0, 0.05),
        (DIC, 0.0, 0.02),
        (DIC, 0.7, 0.02),
    ],
)
def test_a_weak_phase_looks_as_in_propagated_light(
    optics: Optics, dz: float, allowed: float
) -> None:
    assert error(optics, [(dz, two_beads(0.05))]) < allowed


def test_slices_add_up_as_in_propagated_light() -> None:
    # A body of 2.4 um around the focal plane, whose parts above and below partly cancel.
    heights = (1.0, 0.4, -0.2, -0.8)
    body = [(z, a_bead(0.03, 0.5, (0.3 * z, 0.0))) for z in heights]
    assert error(PLAIN, body) < 0.03


@pytest.mark.parametrize(
    ("optics", "dz", "radians"), [(PLAIN, 0.8, 0.9), (PHASE, 0.0, 0.18), (DIC, 0.7, 0.85)]
)
def test_a_strong_phase_is_misjudged_by_a_tenth(optics: Optics, dz: float, radians: float) -> None:
    assert error(optics, [(dz, a_bead(0.7 * radians))]) < 0.1
    assert error(optics, [(dz, a_bead(1.4 * radians))]) > 0.1


@pytest.mark.parametrize("dz", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("waves", [0.0, 0.08])
def test_a_phase_bead_changes_sign_through_focus(dz: float, waves: float) -> None:
    # What is denser gathers light behind it, on the objective's side: bright when the bead is above focus.
    optics = Optics(spherical_aberration_waves=waves)
    above, below = (linear(optics, [(s * dz, a_bead(0.1))])[MIDDLE, MIDDLE] - 1 for s in (1, -1))
    assert above > 0.01
    assert below < -0.01
    if not waves:
        assert above == pytest.approx(-below, rel=1e-4)


@pytest.mark.parametrize("contrast", ["brightfield", "phase", "dic"])
@pytest.mark.parametrize("dz", [-2.0, 0.0, 0.7, 5.0])
def test_a_pure_phase_takes_no_light_away(contrast: str, dz: float) -> None:
    optics = Optics.model_validate({"contrast": contrast})
    assert linear(optics, [(dz, two_beads(0.3))]).mean() == pytest.approx(1.0, abs=1e-6)
    _, absorption = transmitted_transfer(optics, dz).on(GRID)
    assert absorption[0, 0] == pytest.approx(-2.0, abs=1e-4)


def test_phase_contrast_shows_in_focus_what_brightfield_does_not() -> None:
    bead = [(0.0, a_bead(0.1))]
    assert np.abs(linear(PLAIN, bead) - 1).max() < 1e-5
    dark = linear(PHASE, bead)
    bright = linear(PHASE.model_copy(update={"ring_waves": -0.25}), bead)
    assert dark[MIDDLE, MIDDLE] < 0.85
    assert dark.max() > 1.01  # the halo
    np.testing.assert_allclose(bright - 1, 1 - dark, atol=1e-5)


@pytest.mark.parametrize(("waves", "transmittance"), [(0.25, 0.25), (0.25, 1.0), (-0.25, 0.1)])
def test_scattered_light_that_misses_the_ring_has_zernikes_contrast(
    waves: float, transmittance: float
) -> None:
    # F. Zernike (1942): minus or plus 2 p / sqrt(transmittance), for a phase p in focus.
    ring = {"ring_radius": 0.2, "ring_width": 0.02}
    changed: dict[str, Any] = {"ring_waves": waves, "ring_transmittance": transmittance, **ring}
    transfer = transmitted_transfer(PHASE.model_copy(update=changed), 0.0)
    k = np.linspace(0, transfer.cutoff, len(transfer.phase)) * 0.55 / 1.2  # in radii of the pupil
    clear = (k > 0.45) & (k < 0.78)
    expected = -np.sign(waves) * 2 / np.sqrt(transmittance)
    assert clear.sum() > 20
    np.testing.assert_allclose(transfer.phase[clear], expected, rtol=1e-4)


def test_dic_shows_the_difference_along_the_shear() -> None:
    # In focus, a wide bead: 1 + cot(bias / 2) (p(x + shear/2) - p(x - shear/2)).
    sharp = DIC.model_copy(update={"bias_waves": 0.125})
    image = linear(sharp, [(0.0, a_bead(0.1, 0.7))])
    ahead, behind = (a_bead(0.1, 0.7, (s * 0.1, 0.0)) for s in (-1, 1))
    expected = 1 + (ahead - behind) / np.tan(np.pi * 0.125)
    assert (image - expected).std() < 0.02 * expected.std()
    across = image[1:, 1:] - 1
    np.testing.assert_allclose(across, -across[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(across, across[::-1], atol=1e-5)
    assert image[MIDDLE, MIDDLE - 6] > 1.01  # bright where the phase rises in x


def test_dic_turns_with_its_shear() -> None:
    bead = [(0.4, a_bead(0.1))]
    along_x = linear(DIC, bead)
    along_y = linear(DIC.model_copy(update={"shear_degrees": 90.0}), bead)
    np.testing.assert_allclose(along_y, along_x.T, atol=1e-5)
    back = linear(DIC.model_copy(update={"shear_degrees": 180.0}), bead)
    np.testing.assert_allclose(back[1:, 1:], along_x[1:, :0:-1], atol=1e-5)


def test_dic_with_half_a_wave_of_bias_shows_no_phase_in_focus() -> None:
    bright = DIC.model_copy(update={"bias_waves": 0.5})
    np.testing.assert_allclose(linear(bright, [(0.0, a_bead(0.1))]), 1.0, atol=1e-5)


def test_the_shear_can_act_on_the_sum_of_slices() -> None:
    shear = DIC.shear
    assert shear is not None
    mean, difference = shear.on(GRID)
    bead = np.fft.rfft2(a_bead(0.1))
    whole = np.zeros_like(bead)
    straight, crossed = np.zeros_like(bead), np.zeros_like(bead)
    for dz in (0.0, 0.5):
        transfer = transmitted_transfer(DIC, dz)
        phase, absorption = transfer.on(GRID)
        whole += bead * (phase + 0.1 * absorption)
        curves = transfer.phase, transfer.absorption
        p, a = (GRID.lay(transfer.cutoff, curve) for curve in curves)
        straight += bead * (p + 0.1 * a)
        crossed += bead * (0.1 * p - a)
    np.testing.assert_allclose(mean * straight + 1j * difference * crossed, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ring_radius": 0.97}, "on both sides of the ring"),
        ({"ring_radius": 0.03}, "on both sides of the ring"),
        ({"bias_waves": 0.0}, "bias_waves"),
        ({"contrast": "darkfield"}, "'brightfield', 'phase' or 'dic'"),
    ],
)
def test_what_no_microscope_has_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Optics.model_validate(given)

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import constants

from livestain.simulate.light_dose import (
    OTHER,
    TRANSMITTED,
    Illumination,
    LightDose,
    unbleached_from,
)

SIZE = (12.8, 25.6)
SHAPE, PIXEL = (128, 256), 0.1


@pytest.fixture
def dose() -> LightDose:
    return LightDose(Illumination(excitation_w_cm2=5.0, bleaching_dose_j_cm2=20.0))


def test_bleaching_is_one_exponential_of_the_dose(dose: LightDose) -> None:
    shares = []
    for _ in range(8):
        shares.append(dose.unbleached("mitochondria", (3.0, 4.0), SHAPE, PIXEL).share)
        dose.expose("mitochondria", (3.0, 4.0), SIZE, 200.0)
    # 5 W/cm2 for 0.2 s are 1 J/cm2.
    np.testing.assert_allclose(shares, np.exp(-np.arange(8) / 20), rtol=1e-6)
    assert dose.report().bleached["mitochondria"] == pytest.approx(1 - math.exp(-8 / 20))


def test_each_label_is_bleached_by_its_own_light(dose: LightDose) -> None:
    for light in (TRANSMITTED, OTHER, "dna"):
        dose.expose(light, (0.0, 0.0), SIZE, 1000.0)
    assert dose.unbleached("mitochondria", (0.0, 0.0), SHAPE, PIXEL).share == 1.0
    assert dose.unbleached("dna", (0.0, 0.0), SHAPE, PIXEL).share < 1.0
    report = dose.report()
    assert set(report.bleached) == {"dna"}
    assert report.most_j_cm2 == pytest.approx(10.0), "what harms is all excitation light"


def test_positions_that_overlap_share_their_dose(dose: LightDose) -> None:
    dose.expose("mitochondria", (0.0, 0.0), SIZE, 200.0)
    dose.expose("mitochondria", (20.0, 0.0), SIZE, 200.0)
    share, text = dose.unbleached("mitochondria", (20.0, 0.0), SHAPE, PIXEL)
    once, twice = np.exp(np.float32(-1 / 20)), np.exp(np.float32(-2 / 20))
    # The first field reaches to x = 12.8 um and 2 um beyond; the second begins at 20 - 12.8 um.
    edge = round((12.8 + 2 - 7.2) / PIXEL)
    np.testing.assert_allclose(share[:, : edge - 5], twice, rtol=1e-6)
    np.testing.assert_allclose(share[:, edge + 5 :], once, rtol=1e-6)
    np.testing.assert_array_equal(unbleached_from(text, SHAPE), share)
    assert dose.unbleached("mitochondria", (200.0, 0.0), SHAPE, PIXEL) == (1.0, "1.0")


@pytest.mark.parametrize("xy", [(0.0, 0.0), (-31.97, 16.2), (1e4, -3e4)])
def test_a_field_is_lit_to_its_edges_wherever_it_lies(dose: LightDose, xy) -> None:
    dose.expose("mitochondria", xy, SIZE, 200.0)
    share, text = dose.unbleached("mitochondria", xy, SHAPE, PIXEL)
    assert isinstance(share, float)
    assert unbleached_from(text, SHAPE) == share == pytest.approx(math.exp(-1 / 20))
    assert dose.report().excitation_j_cm2 == pytest.approx(1.0)


def test_photons_are_counted_by_their_energy() -> None:
    light = Illumination()
    energy = constants.h * constants.c / 0.47e-6
    assert light.photons_per_um2("mitochondria", 1.0) == pytest.approx(1.0 / energy / 1e8)
    assert light.photons_per_um2("dna", 1.0) < light.photons_per_um2(TRANSMITTED, 1.0)


def test_what_prediction_spares_is_the_fluorescence_that_was_not_taken(dose: LightDose) -> None:
    for _ in range(3):
        dose.expose(TRANSMITTED, (0.0, 0.0), SIZE, 10.0)
    unmeasured = dose.report(predicted=3)
    dose.expose("mitochondria", (0.0, 0.0), SIZE, 200.0)
    report = dose.report(predicted=60, fields=3)
    assert report.exposures == {"transmitted": 3, "mitochondria": 1}
    assert report.spared_j_cm2 == pytest.approx(20.0), "twenty planes a field, as the one taken"
    assert report.spared_bleached == pytest.approx(1 - math.exp(-1))
    assert report.spared_photons_per_um2 == pytest.approx(
        20 * report.photons_per_um2["mitochondria"]
    )
    assert report.toxic_share == pytest.approx(1 / 50)
    assert unmeasured.spared_j_cm2 == pytest.approx(1.5), "100 ms each where none was taken"
    assert report.photons_per_um2["transmitted"] < 1e-3 * report.spared_photons_per_um2


def test_a_field_lit_differently_at_every_place_is_told_in_full(dose: LightDose) -> None:
    for n in range(40):
        dose.expose("mitochondria", (n * 0.9, n * 0.7), SIZE, 200.0)
    share, text = dose.unbleached("mitochondria", (15.0, 10.0), SHAPE, PIXEL)
    assert share.shape == SHAPE
    assert len(np.unique(share)) > 20
    np.testing.assert_array_equal(unbleached_from(text, SHAPE), share)
    assert len(text) < 10_000, "it goes into the metadata of a frame"


def test_a_field_too_large_and_too_uneven_to_tell_says_so(dose: LightDose) -> None:
    for n in range(70):
        dose.expose("mitochondria", (n * 1.1, n * 1.1), (80.0, 80.0), 200.0)
    share, text = dose.unbleached("mitochondria", (40.0, 40.0), (300, 300), 0.5)
    assert share.shape == (300, 300)
    with pytest.raises(ValueError, match="mean only"):
        unbleached_from(text, (300, 300))


def test_only_what_lies_in_the_field_is_looked_at(dose: LightDose) -> None:
    """A run over many positions makes no frame slower; far and negative places are found."""
    dose.expose("mitochondria", (-500.0, 300.0), SIZE, 200.0)
    looked = []

    class Tiles(dict):  # type: ignore[type-arg]
        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            looked.append(key)
            return super().get(key, default)

        def items(self):  # type: ignore[no-untyped-def]
            raise AssertionError("every tile of the dish was looked at")

    dose._tiles["mitochondria"] = Tiles(dose._tiles["mitochondria"])
    share = dose.unbleached("mitochondria", (-500.0, 300.0), SHAPE, PIXEL).share
    assert share == pytest.approx(math.exp(-1 / 20))
    assert 1 <= len(looked) <= 4

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from livestain.metrics import no_learning_control, pearson
from livestain.simulate import CellKind, Dish, Optics, profile_names, volume
from livestain.simulate.blobs import Blobs
from livestain.simulate.cells import cells_near

SIDE = 160


@pytest.fixture(scope="module")
def dish() -> Dish:
    return Dish(3, shape=(SIDE, SIDE))


def test_frames_are_those_of_a_16_bit_camera(dish: Dish) -> None:
    for frame in (dish.brightfield(), dish.fluorescence(), dish.dark()):
        assert frame.shape == (SIDE, SIDE)
        assert frame.dtype == np.uint16
    assert dish.truth().dtype == np.float32
    assert dish.dark().mean() == pytest.approx(100, abs=0.5)


def test_same_seed_gives_the_same_pixels_in_any_order(dish: Dish) -> None:
    places = [(0.0, 0.0, (0.0, 0.0)), (40.0, 0.5, (0.0, 0.0)), (40.0, -0.5, (30.0, -20.0))]
    first = [dish.brightfield(*p, frame=n) for n, p in enumerate(places)]
    other = Dish(3, shape=(SIDE, SIDE))
    for n in (2, 0, 1):
        np.testing.assert_array_equal(other.brightfield(*places[n], frame=n), first[n])
        np.testing.assert_array_equal(other.truth(*places[n]), dish.truth(*places[n]))


def test_seed_field_and_frame_number_all_count(dish: Dish) -> None:
    here = dish.truth()
    assert abs(pearson(Dish(4, shape=(SIDE, SIDE)).truth(), here)) < 0.3
    assert abs(pearson(dish.truth(xy_um=(300.0, 0.0)), here)) < 0.3
    assert not np.array_equal(dish.brightfield(frame=0), dish.brightfield(frame=1))


def test_stage_moves_the_view_over_one_and_the_same_dish(dish: Dish) -> None:
    here = dish.transmission()
    there = dish.transmission(xy_um=(4.0, -2.0))  # 40 pixels to the right, 20 up
    inner = slice(20, -40)
    a, b = here[inner, 60:-20], there[40:-20, 20:-60]
    assert pearson(a, b) > 0.999


def test_mitochondria_move_a_little_between_time_points(dish: Dish) -> None:
    start = dish.truth(0.0)
    likeness = [pearson(dish.truth(t), start) for t in (5.0, 20.0, 400.0)]
    assert likeness[0] > 0.85
    assert likeness[0] > likeness[1] > likeness[2]
    assert likeness[1] < 0.9


def test_mitochondria_are_tubes_with_lookalikes_beside_them() -> None:
    cells = cells_near(3, CellKind(), (0.0, 0.0), (20.0, 20.0))
    assert len(cells) >= 4
    blobs = Blobs.joined([c.organelles(0.0) for c in cells])
    labelled = blobs.label > 0
    diameter = 4 * blobs.sigma[labelled]
    assert diameter.min() >= 0.3
    assert diameter.max() <= 0.8
    assert np.count_nonzero(~labelled & (blobs.path > 0)) > 20 * len(cells)
    assert np.count_nonzero(blobs.path < 0) > 10 * len(cells)


def test_focus_changes_both_images(dish: Dish) -> None:
    assert pearson(dish.truth(z_um=-0.5), dish.truth(z_um=0.5)) < 0.9
    assert dish.truth(z_um=4.0).max() < 0.5 * dish.truth().max()


def test_mitochondria_invert_through_brightfield_focus() -> None:
    optics = Optics(brightfield_offset_um=0.0, spherical_aberration_waves=0.0)
    dish = Dish(3, shape=(SIDE, SIDE), optics=optics)
    truth = dish.truth()
    bright = truth > np.quantile(truth, 0.97)
    around = binary_dilation(bright, iterations=8) & (truth < np.quantile(truth, 0.6))
    below, above = (
        image[bright].mean() - image[around].mean()
        for image in (dish.transmission(z_um=z) for z in (-1.2, 1.2))
    )
    assert below > 0.02
    assert above < -0.02


def test_exposure_scales_light_and_noise_follows_it(dish: Dish) -> None:
    for exposure in (5.0, 20.0):
        a, b = (dish.brightfield(exposure_ms=exposure, frame=n).astype(float) for n in (0, 1))
        mean = (a.mean() + b.mean()) / 2 - 100
        assert mean == pytest.approx(0.9 * 500 * exposure, rel=0.1)
        assert (a - b).var() / 2 == pytest.approx(0.9 * mean, rel=0.05)


def test_fluorescence_is_truth_on_a_background(dish: Dish) -> None:
    frame = dish.fluorescence(exposure_ms=200.0)
    assert pearson(frame, dish.truth()) > 0.99
    assert frame.min() > 90


@pytest.mark.parametrize("profile", profile_names())
def test_no_cheap_trick_finds_the_mitochondria(profile: str) -> None:
    scores = []
    for seed in (0, 1):
        dish = Dish(seed, profile, shape=(192, 192))
        for xy in ((0.0, 0.0), (90.0, 40.0)):
            control = no_learning_control(dish.brightfield(20.0, 0.0, xy))
            scores.append(pearson(control, dish.truth(20.0, 0.0, xy)))
    assert np.mean(scores) <= 0.6


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_shows_cells_with_nothing_cut_off(profile: str) -> None:
    dish = Dish(3, profile, shape=(96, 96))
    bright, green = dish.brightfield(), dish.fluorescence()
    limit = np.iinfo(bright.dtype).max
    for frame in (bright, green):
        assert frame.max() < 0.9 * limit
        assert frame.min() > 0
    assert dish.pixel_size_um == dish.profile.pixel_size_um
    assert dish.transmission().std() > 0.01
    assert dish.network().number > 3


def test_the_mask_is_where_the_label_shines(dish: Dish) -> None:
    mask, truth = dish.mask(20.0), dish.truth(20.0)
    assert 0.02 < mask.mean() < 0.4
    assert truth[mask].mean() > 4 * truth[~mask].mean()
    assert dish.mask(20.0, depth_um=0.0).sum() < mask.sum() < dish.mask(20.0, depth_um=9.0).sum()
    assert not dish.mask(20.0, z_um=30.0).any()


def test_the_mask_is_the_tubes_outline() -> None:
    """Against every pixel's distance to the network, which knows no raster."""
    dish = Dish(3, shape=(64, 64))
    xs, ys = dish._volume.axes((0.0, 0.0))
    cells = dish._volume.field((0.0, 0.0)).cells
    x, y, _, radius = (
        np.concatenate(a) for a in zip(*(c.outline(20.0) for c in cells), strict=True)
    )
    away = np.hypot(ys[:, None, None] - y, xs[None, :, None] - x) - radius
    np.testing.assert_array_equal(dish.mask(20.0, depth_um=99.0), away.min(2) <= 0)


def test_dna_is_in_the_nuclei_where_there_are_no_mitochondria(dish: Dish) -> None:
    dna = dish.truth(label="dna")
    inside = dna > 0.5 * dna.max()
    assert 0.02 < inside.mean() < 0.5
    assert dish.truth()[inside].mean() < 0.5 * dish.truth().mean()
    np.testing.assert_array_equal(dish.truth(500.0, label="dna"), dna)
    assert dish.fluorescence(label="dna").std() > 10


def test_bleaching_dims_the_label_and_the_lamp_everything(dish: Dish) -> None:
    def signal(**light: float) -> float:
        return float(dish.fluorescence(exposure_ms=400.0, **light).mean() - 100)

    whole = signal()
    glow = 0.9 * 400 * dish.profile.glow
    assert signal(unbleached=0.5) - glow == pytest.approx(0.5 * (whole - glow), rel=0.03)
    assert signal(lamp=0.5) == pytest.approx(0.5 * whole, rel=0.03)
    dark = dish.brightfield(lamp=0.25).mean() - 100
    assert dark == pytest.approx(0.25 * (dish.brightfield().mean() - 100), rel=0.01)


def test_few_planes_stand_for_all_heights(dish: Dish, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed transfer functions, against the same without compression."""
    image, truth = dish.transmission(20.0, 0.3), dish.truth(20.0, 0.3)
    planes = len(dish._transfers._kept[next(reversed(dish._transfers._kept))].planes)
    monkeypatch.setattr(volume, "_TOLERANCE", 1e-7)
    volume._compressed.cache_clear()
    exact = Dish(3, shape=(SIDE, SIDE))
    full, glow = exact.transmission(20.0, 0.3), exact.truth(20.0, 0.3)
    assert planes < 12 < len(exact._transfers._kept[next(reversed(exact._transfers._kept))].planes)
    volume._compressed.cache_clear()
    assert np.std(image - full) < 0.04 * np.std(full)
    assert np.std(truth - glow) < 0.04 * np.std(glow)


def test_bad_arguments_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="0 or greater; given -1"):
        Dish(-1)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        Dish(0, shape=(8, 64))
    with pytest.raises(ValueError, match="pixel size is positive"):
        Dish(0, pixel_size_um=0.0)

"""Fourier ring correlation, segmentation and flicker: curves, counts and lengths that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq
from skimage.draw import disk
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index

from livestain.simulate import Dish
from livestain.training.evaluation.flicker import Series, Steps, series_of
from livestain.training.evaluation.frc import FRC_THRESHOLD, fourier_ring_correlation
from livestain.training.evaluation.segmentation import (
    Segmentation,
    dice,
    intersection_over_union,
    segment,
    skeleton_length_px,
)
from livestain.training.pair import Pair


@pytest.mark.parametrize(("sigma", "noise"), [(1.0, 0.2), (2.0, 0.1)])
@pytest.mark.parametrize("shape", [(256, 256), (200, 301)])
def test_frc_of_a_blurred_scene_in_noise_ends_where_theory_says(sigma, noise, shape):
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    a, b = (scene + noise * rng.standard_normal(shape) for _ in range(2))

    def expected(q):  # signal power over all power, at q cycles per pixel
        signal = np.exp(-4 * np.pi**2 * sigma**2 * q**2)
        return signal / (signal + noise**2)

    found = fourier_ring_correlation(a, b, 0.1)
    np.testing.assert_allclose(
        found.correlation[5:], expected(found.frequency[5:] * 0.1), atol=0.15
    )
    crossing = brentq(lambda q: expected(q) - FRC_THRESHOLD, 1e-3, 2)
    assert found.resolution_um == pytest.approx(0.1 / crossing, rel=0.06)
    assert found.frequency[-1] == pytest.approx(5.0, rel=0.02)


def test_frc_is_that_of_the_whole_spectrum():
    """The half spectrum with its weights, against plain sums over the whole one, without smoothing."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((32, 36))
    b = a + rng.standard_normal((32, 36))
    from scipy.signal.windows import tukey

    taper = np.outer(tukey(32, 0.25), tukey(36, 0.25))
    f, g = (np.fft.fft2((p - p.mean()) * taper) for p in (a, b))
    ky, kx = np.fft.fftfreq(32)[:, None], np.fft.fftfreq(36)[None]
    ring = np.rint(np.hypot(ky, kx) * 32)
    raw, pixels = [], []
    for r in range(1, 17):
        at = ring == r
        cross = (f[at] * g[at].conj()).sum().real
        raw.append(cross / np.sqrt((abs(f[at]) ** 2).sum() * (abs(g[at]) ** 2).sum()))
        pixels.append(at.sum())
    raw, pixels = np.array(raw), np.array(pixels)
    found = fourier_ring_correlation(a, b, 1.0).correlation
    for r in range(1, 15):
        weights = pixels[r - 1 : r + 2] * (1, 2, 1)
        assert found[r] == pytest.approx(np.average(raw[r - 1 : r + 2], weights=weights))


def test_frc_of_independent_noise_has_no_crossing():
    rng = np.random.default_rng(2)
    found = [
        fourier_ring_correlation(*rng.standard_normal((2, *shape)), 0.1).resolution_um
        for shape in ((64, 64), (128, 96), (256, 256))
        for _ in range(4)
    ]
    assert np.isnan(found).all()


def test_frc_of_a_plane_and_itself_is_down_to_two_pixels_and_blur_alone_changes_nothing():
    plane = np.random.default_rng(3).standard_normal((64, 64))
    assert fourier_ring_correlation(plane, plane, 0.08).resolution_um == pytest.approx(0.16)
    blurred = gaussian_filter(plane, 0.8, mode="wrap")
    assert fourier_ring_correlation(plane, blurred, 0.08).resolution_um == pytest.approx(0.16)
    assert np.isnan(fourier_ring_correlation(plane, np.ones_like(plane), 0.08).resolution_um)
    with pytest.raises(ValueError, match=r"16 pixels.*\(64, 64\) and \(8, 8\)"):
        fourier_ring_correlation(plane, plane[:8, :8], 0.08)


def blobs(places, shape=(128, 128), radius=5):
    plane = np.zeros(shape)
    for place in places:
        plane[disk(place, radius, shape=shape)] = 100.0
    return plane


def test_as_many_objects_as_were_drawn():
    rng = np.random.default_rng(4)
    places = [(y, x) for y in (20, 50, 80, 110) for x in (20, 60, 100)]
    plane = gaussian_filter(blobs(places), 1) + rng.normal(20, 2, (128, 128))
    found = segment(plane, 0.1)
    assert found.count == 12
    drawn = blobs(places) > 0
    assert dice(found.mask, drawn) > 0.9
    less = segment(gaussian_filter(blobs(places[:9]), 1) * 0.3 - 7, 0.1)
    assert less.count == 9
    assert dice(less.mask, found.mask) == pytest.approx(2 * 9 / (9 + 12), abs=0.05)
    # Specks under the smallest area are noise.
    plane[5:7, 40:42] += 100
    assert segment(plane, 0.1).count == 12
    assert segment(plane, 0.1, Segmentation(min_area_um2=0.0)).count > 12
    assert segment(np.full((40, 40), 7, np.uint16), 0.1).count == 0


def test_the_length_of_a_drawn_network_is_found():
    plane = np.zeros((160, 160))
    plane[40, 20:141] = 1  # 12 um
    plane[80:141, 80] = 1  # 6 um, apart
    found = segment(gaussian_filter(plane, 2), 0.1)
    assert found.count == 2
    assert found.length_um == pytest.approx(18, rel=0.06)


def test_skeleton_lengths_by_hand():
    line = np.zeros((9, 12), bool)
    line[4, 1:11] = True
    assert skeleton_length_px(line) == 9
    assert skeleton_length_px(np.eye(8, dtype=bool)) == pytest.approx(7 * np.sqrt(2))
    assert skeleton_length_px(np.eye(8, dtype=bool)[::-1]) == pytest.approx(7 * np.sqrt(2))
    corner = np.zeros((6, 6), bool)
    corner[1, 1:5] = corner[1:5, 4] = True
    assert skeleton_length_px(corner) == 6
    assert skeleton_length_px(np.eye(1, dtype=bool)) == 0


def test_overlap_is_that_of_torchmetrics():
    a, b = np.random.default_rng(5).random((2, 30, 30)) < 0.4
    x, y = torch.from_numpy(a).int(), torch.from_numpy(b).int()
    assert dice(a, b) == pytest.approx(binary_f1_score(x, y).item())
    assert intersection_over_union(a, b) == pytest.approx(binary_jaccard_index(x, y).item())
    nothing = np.zeros_like(a)
    assert dice(a, nothing) == intersection_over_union(a, nothing) == 0
    assert np.isnan([dice(nothing, nothing), intersection_over_union(nothing, nothing)]).all()


def test_a_noisy_recording_of_a_simulated_cell_has_the_mitochondria_of_the_truth():
    dish = Dish(7, shape=(128, 128))
    truth = segment(dish.truth(), dish.pixel_size_um)
    recorded = segment(dish.fluorescence(exposure_ms=200.0), dish.pixel_size_um)
    other = segment(dish.truth()[::-1], dish.pixel_size_um)
    assert truth.count >= 3
    assert dice(recorded.mask, truth.mask) > 0.85
    assert recorded.length_um == pytest.approx(truth.length_um, rel=0.2)
    assert dice(other.mask, truth.mask) < 0.5


def test_flicker_by_hand():
    rng = np.random.default_rng(6)
    scene = rng.normal(100, 10, (32, 32))
    lamp = [0.0, 4.0, 0.0, 4.0, 0.0]  # the prediction's mean jumps by 4 and back
    steps = Steps()
    for t, up in enumerate(lamp):
        # The target fades steadily: no flicker.
        steps.add(Series("film", t), scene + up, 2 * scene - 5 * t)
        steps.add(Series("other", 7 * t), scene, scene)
    steps.add(Series("film", 40), scene + 500, scene)  # after a gap: another time step
    found = steps.result()
    contrast = scene.std()
    # Changes 4, -4, 4, -4 have the standard deviation 4 sqrt(4/3); the mean is over both films.
    assert found.prediction == pytest.approx(4 * np.sqrt(4 / 3) / contrast / 2, rel=1e-4)
    assert found.target == pytest.approx(0, abs=1e-5)
    assert found.pixel_prediction == pytest.approx(4 / contrast / 2, rel=1e-4)
    target_contrast = (5 * 2 * contrast + contrast) / 6
    assert found.pixel_target == pytest.approx(5 / target_contrast / 2, rel=1e-4)
    assert found.pixel_ratio == pytest.approx(found.pixel_prediction / found.pixel_target)
    assert found.steps == 8
    alone = Steps()
    alone.add(Series("film", 0), scene, scene)
    alone.add(Series("film", 1), scene, scene)
    assert alone.result() is None


def test_what_is_a_film():
    def pair(name, place=0, t=0, z=0):
        return Pair(movie="m", name=name, frame="f", position=None, place=place, t=t, z=z)

    frames = [series_of(pair(f"t{t:03d}_z002", place=t)) for t in (3, 4)]
    assert frames[0].key == frames[1].key
    assert [frame.t for frame in frames] == [3, 4]
    crops = [series_of(pair(f"t{t:03d}_z002_7", place=t)) for t in (3, 4)]
    assert crops[0].key != crops[1].key
    fields = [series_of(pair(f"A{p}_t00005_z001", place=p, t=5, z=1)) for p in (0, 1)]
    assert fields[0].key != fields[1].key
    assert fields[0].t == 5

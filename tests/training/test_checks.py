"""What is found in data before a training: displacement, bad pairs, and what follows from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from training_cases import make_pair, write_image

from livestain.errors import DataError
from livestain.training import find_pairs
from livestain.training.checks import run_checks, sentences
from livestain.training.pairs import PairSpec
from livestain.training.recipe import Recipe, find_recipe

SIDE = 96


def write_movie(data, name, *, n=6, seed=0, move=(0.0, 0.0), spoil=None):
    """A movie whose target lies `move` down and right of its source; `spoil` changes pairs."""
    for i in range(n):
        source, target = make_pair(100 * seed + i, (SIDE, SIDE), np.uint16)
        target = (
            shift(target.astype(float), move, order=3, mode="grid-wrap").clip(0).astype(np.uint16)
        )
        noise = np.random.default_rng(i).normal(0, 20, (2, SIDE, SIDE))
        planes = np.stack([source, target]) + noise
        source, target = planes if spoil is None else spoil(i, *planes)
        for channel, plane in (("brightfield", source), ("mitochondria", target)):
            write_image(
                data / f"movie-{name}" / channel / f"t{i:03d}_z000_0.tif",
                plane.clip(0, 65535).astype(np.uint16),
            )


@pytest.fixture
def checked(tmp_path, recipe_of):
    def check(*, refuse=True, progress=None, crop=64, **changes):
        recipe = recipe_of(crop=crop, checks=changes)
        return run_checks(
            find_pairs(tmp_path, PairSpec.of_recipe(recipe)),
            recipe,
            progress=progress,
            refuse=refuse,
        )

    return check


def test_displacement_is_found_told_and_refused(tmp_path, checked):
    write_movie(tmp_path, "a", move=(0.6, -0.4))
    write_movie(tmp_path, "b", seed=1, move=(3.4, -7.2))
    steps = []
    report = checked(refuse=False, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (12, 12)
    a, b = report.registration
    assert (a.told, a.dy_px, a.dx_px) == (
        True,
        pytest.approx(0.6, abs=0.25),
        pytest.approx(-0.4, abs=0.25),
    )
    assert (b.told, b.dy_px, b.dx_px) == (
        True,
        pytest.approx(3.4, abs=0.25),
        pytest.approx(-7.2, abs=0.25),
    )
    low, high = b.interval_y_px
    assert low <= b.dy_px <= high
    assert high - low < 2
    assert report.beyond() == (b,)
    (told,) = sentences(report)
    assert "in movie b (1 of 2 movies are displaced by 2 pixels, " in told
    assert "checks.registration: shift corrects such" in told
    with pytest.raises(
        DataError, match=r"mitochondria lies 3\.\d px down and 7\.\d px left .* movie b.*5 px"
    ):
        report.refuse()
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [one["movie"] for one in told["registration"]] == ["a", "b"]
    # 5 pixels where nothing is said; 7.2 pixels of 0.1 um are within 0.8 um.
    assert checked(tolerance_um=0.8).beyond() == ()


def test_planes_that_have_nothing_in_common_are_neither_passed_nor_refused(tmp_path, checked):
    def strangers(i, source, target):
        return source, make_pair(500 + i, (SIDE, SIDE), np.uint16)[1]

    write_movie(tmp_path, "a", spoil=strangers)
    (one,) = checked(registration="shift").registration
    assert not one.told
    assert list(sentences(checked())) == []
    assert "chance" in one.why_not
    assert checked(registration="shift").corrections == {}


def test_a_shift_is_corrected(tmp_path, checked):
    write_movie(tmp_path, "a", move=(3.4, -7.2))
    write_movie(tmp_path, "b", seed=1)
    report = checked(registration="shift")
    assert list(report.corrections) == ["a"]
    (told,) = sentences(report)
    assert told.endswith("it is corrected.")
    pair = report.pairs.pairs[0]
    data = report.pairs.read(pair)
    # 4 rows below and 8 columns at the left have no target, and are cut off both.
    assert data.source.shape == data.target.shape == (1, 1, SIDE - 4, SIDE - 8)
    _, target = make_pair(0, (SIDE, SIDE), np.uint16)
    true = target[: SIDE - 4, 8:].astype(float)
    raw = report.recorded.read(pair).target[0, 0][: SIDE - 4, 8:]
    found = np.corrcoef(data.target[0, 0].ravel(), true.ravel())[0, 1]
    assert found > 0.98 > np.corrcoef(raw.ravel(), true.ravel())[0, 1] + 0.5
    # A part of it is the part of it, and the other movie is as recorded.
    part = (slice(10, 60), slice(5, 41))
    cut = report.pairs.read(pair, part=part)
    np.testing.assert_array_equal(cut.source, data.source[..., 10:60, 5:41])
    np.testing.assert_allclose(cut.target, data.target[..., 10:60, 5:41], atol=0.5)
    other = report.pairs.pairs[-1]
    np.testing.assert_array_equal(
        report.pairs.read(other).target, report.recorded.read(other).target
    )
    assert report.pairs.sha256() == report.recorded.sha256()
    assert run_again(report) == pytest.approx((0, 0), abs=0.4)
    chosen = report.pairs.select(["a"])
    assert chosen.shape(pair) == (SIDE - 4, SIDE - 8)


def run_again(report):
    recipe = report.recipe.model_copy(update={"crop": 32})
    (first, *_) = run_checks(report.pairs, recipe).registration
    return first.dy_px, first.dx_px


def test_a_correction_that_leaves_less_than_a_crop_is_refused(tmp_path, checked):
    write_movie(tmp_path, "a", move=(3.4, -7.2))
    with pytest.raises(DataError, match=r"92 x 88 pixels .* movie a .* crop of 96"):
        checked(registration="shift", crop=96)


def spoil_four(i, source, target):
    if i == 1:
        source = gaussian_filter(source, 4) + np.random.default_rng(0).normal(0, 20, source.shape)
    if i == 2:
        target = np.random.default_rng(1).poisson(200, target.shape)
    if i == 3:
        target = np.minimum(target, np.quantile(target, 0.9))
    if i == 4:
        target = np.full_like(target, 7)
    return source, target


def test_bad_pairs_are_listed_with_reasons_and_dropped(tmp_path, checked):
    write_movie(tmp_path, "a", n=8, spoil=spoil_four)
    write_movie(tmp_path, "b", n=8, seed=1)
    report = checked(bad_pairs="drop")
    found = {(bad.movie, bad.pair[:4], bad.channel, bad.kind) for bad in report.bad}
    assert {kind for kind in found if kind[3] != "empty" or kind[1] != "t004"} == {
        ("a", "t001", "brightfield", "defocused"),
        ("a", "t002", "mitochondria", "empty"),
        ("a", "t003", "mitochondria", "saturated"),
        ("a", "t004", "mitochondria", "constant"),
    }
    assert [pair.name[:4] for pair in report.pairs.pairs if pair.movie == "a"] == [
        "t000", "t005", "t006", "t007",
    ]  # fmt: skip
    assert report.reference.planes == 12
    assert "10.0% of its pixels" in next(b.why for b in report.bad if b.kind == "saturated")
    (told,) = sentences(report)
    assert told.startswith("4 of 16 pairs are bad (1 constant, 1 defocused, ")
    assert "they are left out" in told
    json.dumps(report.to_dict(), allow_nan=False)


def test_bad_pairs_are_refused_if_the_recipe_says_so(tmp_path, checked):
    write_movie(tmp_path, "a", n=8, spoil=lambda i, s, t: spoil_four(i if i < 4 else 0, s, t))
    assert len(checked().pairs.pairs) == 8
    with pytest.raises(
        DataError, match=r"3 pairs are bad; the first is t001_z000_0 in movie a: brightfield is"
    ):
        checked(bad_pairs="refuse")


def test_a_constant_target_is_told_with_all_else(tmp_path, checked):
    write_movie(tmp_path, "a", spoil=spoil_four)
    with pytest.raises(
        DataError, match=r"target plane .* t004_z000_0 in movie a is constant \(all 7\)"
    ):
        checked()
    report = checked(refuse=False)
    assert len(report.problems) == 1
    with pytest.raises(DataError, match="constant"):
        report.refuse()


def test_pixels_that_are_no_numbers_are_refused(tmp_path, checked):
    write_movie(tmp_path, "a")
    plane = np.ones((SIDE, SIDE), np.float32)
    plane[3, 4] = np.nan
    write_image(tmp_path / "movie-a" / "mitochondria" / "t002_z000_0.tif", plane)
    with pytest.raises(DataError, match=r"t002_z000_0.*1 pixels that are no numbers"):
        checked()


def test_statistics_of_targets(tmp_path, checked, recipe_of):
    write_movie(tmp_path, "a", n=3)
    report = checked()
    planes = [
        report.recorded.read(pair).target[0, 0].astype(float) for pair in report.recorded.pairs
    ]
    normalised = np.stack([(plane - plane.mean()) / plane.std() for plane in planes])
    (found,) = report.target_statistics(report.recorded.pairs)
    assert found == pytest.approx((0, 1, normalised.min(), normalised.max()), abs=1e-6)


@pytest.mark.data
def test_real_movie(data_dir):
    recipe = Recipe.from_yaml(find_recipe("h9c2-omp25"))
    with find_pairs(data_dir / "h9c2-omp25", PairSpec.of_recipe(recipe)) as pairs:
        report = run_checks(pairs.select(["011"]), recipe)
    # Published as registered; 8-bit images that were scaled to their own maximum are not saturated.
    assert report.bad == ()
    (one,) = report.registration
    assert one.told
    assert np.hypot(one.dy_px, one.dx_px) < 2

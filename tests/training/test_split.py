"""What is held back: whole movies, positions or files, nothing on two sides, and said in the run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recording_cases as cases
from livestain.errors import DataError
from livestain.training.find import find_pairs
from livestain.training.pair import Pair, PairSpec
from livestain.training.pairs import Movie, PairSet
from livestain.training.parts import Split
from livestain.training.sampling import Crops, WholePairs
from livestain.training.split import split_pairs


def set_of(sizes: dict[str, dict[str, int]], **how: Any) -> PairSet:
    """Pairs that are nowhere: by movie, position and number of time points, two z each."""
    movies = []
    for movie, positions in sizes.items():
        pairs = tuple(
            Pair(movie, f"{p}_t{t}_z{z}", f"{p}_t{t}", p, n, t, z, **how)
            for n, (p, n_t) in enumerate(positions.items())
            for t in range(n_t)
            for z in range(2)
        )
        movies.append(Movie(movie, pairs))
    nothing: Any = None
    return PairSet(movies, nothing, nothing)


SIZES = {"a": {"0": 3, "1": 2}, "b": {"0": 4}, "c": {"0": 1, "1": 1, "2": 2}}


def split_of(recipe_of, pairs=None, **split):
    return split_pairs(
        pairs or set_of(SIZES), recipe_of().model_copy(update={"split": Split(**split)})
    )


def group_of(pair: Pair, by: str) -> str:
    rest = {"movie": "", "position": f"/{pair.position}", "file": f"/{pair.frame}"}
    return pair.movie + rest[by]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.dictionaries(st.sampled_from("0123"), st.integers(1, 4), min_size=1),
        min_size=1,
    ),
    by=st.sampled_from(["movie", "position", "file"]),
    shares=st.tuples(*[st.floats(0, 1)] * 2),
    seed=st.integers(0, 9),
)
def test_nothing_is_on_two_sides(recipe_of, sizes, by, shares, seed):
    pairs = set_of(sizes)
    split = Split(by=by, validation=shares[0], test=shares[1])
    recipe = recipe_of().model_copy(update={"split": split, "seed": seed})
    try:
        found = split_pairs(pairs, recipe)
    except DataError:
        # Refused only where the sides that are asked for cannot all have a group.
        n = len({group_of(pair, by) for pair in pairs.pairs})
        assert sum(max(1, round(share * n)) for share in shares if share > 0) >= n
        return
    sides = [side for side in (found.train, found.validation, found.test) if side is not None]
    groups = [{group_of(pair, by) for pair in side.pairs} for side in sides]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert sum(len(side.pairs) for side in sides) == len(pairs.pairs)
    for side, share in ((found.validation, shares[0]), (found.test, shares[1])):
        assert (side is None) == (share == 0)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["train"]["pairs"] == len(found.train.pairs)
    assert found.to_dict() == split_pairs(set_of(sizes), recipe).to_dict()


def test_shares_are_drawn_by_the_seed(recipe_of):
    drawn = {
        split_pairs(
            set_of(SIZES),
            recipe_of(seed=seed).model_copy(update={"split": Split(validation=0.3)}),
        ).groups["validation"]
        for seed in range(20)
    }
    assert drawn == {("a",), ("b",), ("c",)}


def test_groups_by_name(recipe_of):
    found = split_of(recipe_of, validation=("movie-b",), test=("c",))
    assert found.to_dict() == {
        "by": "movie",
        "train": {"pairs": 10, "groups": ["a"]},
        "validation": {"pairs": 8, "groups": ["b"]},
        "test": {"pairs": 8, "groups": ["c"]},
    }
    found = split_of(recipe_of, by="position", validation=("a/1", "c/2"))
    assert {(p.movie, p.position) for p in found.validation.pairs} == {("a", "1"), ("c", "2")}
    found = split_of(recipe_of, by="file", test=("b/0_t2",))
    assert [(p.movie, p.t, p.z) for p in found.test.pairs] == [("b", 2, 0), ("b", 2, 1)]
    assert split_of(recipe_of).validation is None


@pytest.mark.parametrize(
    ("sizes", "split", "words"),
    [
        ({"a": {"0": 3}}, {"validation": 0.2}, "one movie only, a"),
        ({"a": {"0": 3}}, {"by": "position", "test": 0.2}, "one position only, a/0"),
        (SIZES, {"validation": 0.5, "test": 0.5}, "holds back all 3"),
        (SIZES, {"validation": ("a", "b", "c")}, "holds back all 3"),
        (SIZES, {"validation": ("d",)}, r"no movie 'd'.*validation.*a, b, c"),
        (SIZES, {"validation": ("a",), "test": ("a",)}, "a back both"),
        (SIZES, {"by": "random_crops_that_leak", "test": ("a",)}, "crops have no names"),
    ],
)
def test_splits_that_cannot_be(recipe_of, sizes, split, words):
    with pytest.raises(DataError, match=words):
        split_of(recipe_of, set_of(sizes), **split)


def test_what_looks_across_time_is_not_split_by_file(recipe_of):
    for how in ({"axis": "t", "length": 3, "depth": 3}, {"lag": 1}):
        with pytest.raises(DataError, match="several time points at once"):
            split_of(recipe_of, set_of(SIZES, **how), by="file", validation=0.2)
    past = recipe_of(window={"past": 1}).model_copy(
        update={"split": Split(by="file", validation=0.2)}
    )
    with pytest.raises(DataError, match="several time points at once"):
        split_pairs(set_of(SIZES), past)


def test_folders_do_not_say_positions(data, recipe_of):
    recipe = recipe_of(split={"by": "position", "validation": 0.2})
    with (
        find_pairs(data, PairSpec.of_recipe(recipe)) as found,
        pytest.raises(DataError, match=r"do not say at which position.*by file"),
    ):
        split_pairs(found, recipe)


def test_crops_that_leak_say_so(tmp_path, recipe_of):
    """Other crops of the same images, and a sentence in the run that tells."""
    pixels = cases.volume(shape=(3, 3, 1, 64, 64))
    cases.write_zarr(tmp_path / "a.zarr", pixels)
    recipe = recipe_of(split={"by": "random_crops_that_leak", "validation": 0.2, "test": 0.1})
    with find_pairs(tmp_path, PairSpec.of_recipe(recipe)) as found:
        split = split_pairs(found, recipe)
        assert "same images" in split.to_dict()["leaks"]
        assert split.train.pairs == split.validation.pairs == found.pairs
        assert split.to_dict()["validation"]["crops"] == 15
        whole = [WholePairs(side, recipe) for side in (split.validation, split.test)]
        assert [len(side) for side in whole] == [15, 8]
        seen = []
        for n in range(8):
            for side in whole:
                item = side[n]
                assert item["counts"].shape == item["target"].shape == (1, 32, 32)
                seen.append(item["target"].numpy().tobytes())
                truth = pixels[side.pair(n).t, 1, 0].astype(np.float64)
                values = (truth - truth.mean()) / truth.std()
                assert np.isclose(values.astype(np.float32), float(item["target"][0, 0, 0])).any()
        crops = Crops(split.train, recipe)
        seen += [crops[n]["target"].numpy().tobytes() for n in range(8)]
        assert len(set(seen)) == len(seen)

"""Quantiles, intervals over frames and movies, and the partners of the shuffled control."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from livestain.metrics import frame_bootstrap, interval95
from livestain.training.evaluation.statistics import partners, summarise, summarise_movies


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 5))
def test_partners_are_a_derangement_and_of_other_frames_where_that_can_be(frames, seed):
    found = partners(frames, seed=seed)
    assert found == partners(frames, seed=seed)
    if len(frames) < 2:
        assert found == [None] * len(frames)
        return
    assert sorted(found) == list(range(len(frames)))
    assert all(place != other for place, other in enumerate(found))
    if max(map(frames.count, frames)) * 2 <= len(frames):
        assert all(frames[place] != frames[other] for place, other in enumerate(found))


def test_partners_are_drawn_by_the_seed():
    assert partners(range(20), seed=0) != partners(range(20), seed=1)


def test_quantiles_are_numpys_and_undefined_numbers_are_left_out():
    values = np.random.default_rng(0).normal(0.5, 0.1, 41)
    values[7] = np.nan
    found = summarise(values, list(range(41)))
    kept = values[~np.isnan(values)]
    assert found.n == 40
    assert found.mean == pytest.approx(kept.mean())
    assert found.quantiles == pytest.approx(tuple(np.quantile(kept, [0.05, 0.25, 0.5, 0.75, 0.95])))
    theirs = stats.bootstrap(
        (kept,), np.mean, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.interval == pytest.approx((theirs.low, theirs.high), abs=0.004)
    nothing = summarise(np.full(3, np.nan), ["a", "b", "c"])
    assert (nothing.n, nothing.mean, nothing.quantiles, nothing.interval) == (0, None, None, None)


def test_infinite_numbers_have_quantiles_and_no_interval():
    found = summarise(np.array([1.0, 2.0, 3.0, np.inf]), list("abcd"))
    assert found.quantiles == (1.0, 1.0, 2.0, 3.0, 3.0)
    assert found.interval is None


def test_movies_count_alike_and_their_spread_widens_the_interval():
    rng = np.random.default_rng(1)
    values = {"a": rng.normal(0.2, 0.01, 30), "b": rng.normal(0.8, 0.01, 10)}
    frames = {name: list(range(len(column))) for name, column in values.items()}
    found = summarise_movies(values, frames)
    assert found.mean == pytest.approx((values["a"].mean() + values["b"].mean()) / 2)
    assert found.n == 40
    assert found.quantiles[2] == pytest.approx(np.median(np.concatenate(list(values.values()))))
    low, high = found.interval
    assert high - low < 0.02
    # Of two movies a quarter of the draws takes the one twice, a quarter the other.
    low, high = found.interval_movies
    assert (low, high) == pytest.approx((0.2, 0.8), abs=0.02)
    one = summarise_movies({"a": values["a"]}, {"a": frames["a"]})
    assert one.interval_movies is None
    assert one.interval == interval95(frame_bootstrap(values["a"], frames["a"]))

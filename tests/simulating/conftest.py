"""A small simulated movie: a store of two fields, two planes and two time points."""

from __future__ import annotations

import pytest

from livestain.simulating import MovieSettings, movie_path, simulate_movies

SMALL = MovieSettings(seed=5, size=(64, 60), fields=2, planes=2, times=2, z_step_um=0.6, dna=True)


@pytest.fixture(scope="session")
def small_movie(tmp_path_factory):
    """The path of its store; not to be written to."""
    out = tmp_path_factory.mktemp("simulated")
    simulate_movies(out, SMALL)
    return movie_path(out, 5)

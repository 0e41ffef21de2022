"""Planes divided among workers: each is one worker's, whatever the plan, and in fair parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livestain.planes import PlaneIndex
from livestain.stain.share import Share


@given(
    st.integers(1, 5),
    st.tuples(st.integers(0, 9), st.integers(0, 9999), st.integers(0, 4), st.integers(0, 99)),
    st.booleans(),
)
def test_each_plane_is_one_workers(of, place, whole_stack):
    index = PlaneIndex(*place)
    mine = [Share(worker, of).has(index, whole_stack=whole_stack) for worker in range(of)]
    assert mine.count(True) == 1


@given(st.integers(1, 4), st.integers(0, 99), st.integers(0, 3))
def test_what_one_prediction_gives_is_never_divided(of, t, p):
    """Channels of several outputs differ in c alone, planes of a whole stack in z as well."""
    for worker in range(of):
        share = Share(worker, of)
        assert len({share.has(PlaneIndex(p, t, c, 0)) for c in range(5)}) == 1
        stack = {
            share.has(PlaneIndex(p, t, c, z), whole_stack=True) for c in range(3) for z in range(9)
        }
        assert len(stack) == 1


@pytest.mark.parametrize("of", [2, 3, 4])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 6, 10])
def test_parts_are_fair_however_seldom_a_channel_is_taken(of, every):
    shares = [Share(worker, of) for worker in range(of)]
    planes = [PlaneIndex(0, t, 0, 0) for t in range(0, 600 * every, every)]
    parts = np.array([sum(share.has(plane) for plane in planes) for share in shares])
    assert parts.sum() == 600
    assert parts.min() > 0.75 * 600 / of
    stack = [sum(share.has(PlaneIndex(0, 7, 0, z)) for z in range(12)) for share in shares]
    assert max(stack) - min(stack) <= 1

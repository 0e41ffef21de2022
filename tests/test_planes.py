"""Windows: which planes a prediction needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livestain.planes import PlaneIndex, Window

TARGET = PlaneIndex(0, 2, 5, 1)


def places(window, target=TARGET, n_t=4, n_z=3):
    return [(i.t, i.z) for i in window.sources(target, 0, n_t=n_t, n_z=n_z)]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(), [(2, 1)]),
        (Window(z=3), [(2, 0), (2, 1), (2, 2)]),
        (Window(z=5), [(2, 0), (2, 0), (2, 1), (2, 2), (2, 2)]),
        (Window(z="all"), [(2, 0), (2, 1), (2, 2)]),
        (Window(past=1), [(1, 1), (2, 1)]),
        (Window(past=3), [(0, 1), (0, 1), (1, 1), (2, 1)]),
        (Window(future=2), [(2, 1), (3, 1), (3, 1)]),
        (Window(z=3, past=1), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]),
    ],
)
def test_sources_are_time_major_and_repeat_at_the_edges(window, expected):
    assert places(window) == expected


@given(
    z=st.sampled_from([1, 3, 5]),
    past=st.integers(0, 3),
    future=st.integers(0, 3),
    n_t=st.integers(1, 6),
    n_z=st.integers(1, 6),
    data=st.data(),
)
def test_every_source_is_planned_and_the_number_never_changes(z, past, future, n_t, n_z, data):
    target = PlaneIndex(
        0, data.draw(st.integers(0, n_t - 1)), 3, data.draw(st.integers(0, n_z - 1))
    )
    sources = Window(z=z, past=past, future=future).sources(target, 1, n_t=n_t, n_z=n_z)
    assert len(sources) == z * (past + 1 + future)
    assert all(0 <= s.t < n_t and 0 <= s.z < n_z and s.c == 1 and s.p == 0 for s in sources)
    assert target.at(c=1) in sources


@pytest.mark.parametrize("bad", [{"z": 2}, {"z": 0}, {"past": -1}, {"future": -2}])
def test_a_window_without_a_centre_is_refused(bad):
    with pytest.raises(ValueError, match=r"odd number|count from 0"):
        Window(**bad)

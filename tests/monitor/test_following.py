"""Which time point a window shows: the newest that has a prediction, without waiting for ever."""

from __future__ import annotations

import pytest

from livestain.monitor.following import PATIENCE_S, Following
from livestain.planes import PlaneIndex


class Clock:
    """Says what comes in, at the times that the test chooses."""

    def __init__(self, predicts=True):
        self.following = Following(predicts)
        self.now = 0.0

    def raw(self, t, z=0, p=0):
        self.following.note(PlaneIndex(p, t, 0, z), predicted=False, now=self.now)

    def predicted(self, t, z=0, p=0):
        self.following.note(PlaneIndex(p, t, 2, z), predicted=True, now=self.now)

    def newest(self, z=0, p=0):
        return self.following.newest(p, z, self.now)


def test_without_predictions_the_newest_raw_plane_is_shown():
    run = Clock(predicts=False)
    assert run.newest() is None
    run.raw(0)
    run.raw(2)
    run.raw(1)  # late: not news
    assert run.newest() == 2
    assert run.newest(z=1) is None
    assert run.following.last(0, 0) == 2
    assert run.following.last(0, 1) is None


def test_a_time_point_is_shown_with_its_prediction():
    run = Clock()
    run.raw(0)
    assert run.newest() is None, "nothing to see for a moment"
    run.predicted(0)
    assert run.newest() == 0
    run.now = 60.0  # a time-lapse
    run.raw(1)
    run.now += 0.3
    assert run.newest() == 0
    assert run.following.last(0, 0) == 1
    run.predicted(1)
    assert run.newest() == 1


def test_a_model_that_keeps_up_with_one_plane_in_ten_is_seen_all_the_time():
    run = Clock()
    shown = []
    for t in range(200):
        run.now = 0.1 * t
        run.raw(t)
        if t % 10 == 9:
            run.predicted(t)
        shown.append(run.newest())
    assert shown[9:] == [t // 10 * 10 - 1 if t % 10 != 9 else t for t in range(9, 200)]


def test_raw_planes_go_on_alone_where_predictions_stay_away():
    run = Clock()
    run.raw(0)
    run.predicted(0)
    run.now = 1.0
    run.raw(1)
    run.now = 1.0 + PATIENCE_S
    run.raw(2)
    assert run.newest() == 0
    run.now += 0.01
    assert run.newest() == 2, "the worker died, for example"
    run.predicted(1)
    assert run.newest() == 1, "it is back; newer ones follow"


def test_a_model_slower_than_that_is_waited_for():
    run = Clock()
    took = 4 * PATIENCE_S
    run.raw(0)
    run.now = took
    run.raw(5)
    run.predicted(0)
    run.now = 2.5 * took
    run.raw(9)
    assert run.newest() == 0
    run.now = 3.5 * took
    assert run.newest() == 9


@pytest.mark.parametrize(("p", "z"), [(1, 0), (0, 1)])
def test_each_position_and_depth_has_its_own(p, z):
    run = Clock()
    run.raw(3)
    run.predicted(3)
    run.raw(5, p=p, z=z)
    run.now = PATIENCE_S + 1
    run.predicted(7, p=p, z=z)
    assert run.newest() == 3
    assert run.newest(p=p, z=z) == 7

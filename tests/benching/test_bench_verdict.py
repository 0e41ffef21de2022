"""The sentences that answer whether a model keeps up."""

from __future__ import annotations

import re

import pytest
from bench_cases import measurement, size_result, store_times
from hypothesis import given
from hypothesis import strategies as st

from livestain.benching.table import auto_words
from livestain.benching.verdict import (
    auto_over_fastest,
    live_sentence,
    plane_ms,
    sentences,
    taken,
)


def test_a_slow_model_is_told_with_the_interval_it_keeps_up_with():
    # 40 ms to predict, 5 to read and write: at 10 ms 22 of 100 planes.
    told = sentences(size_result(measurement("openvino", 40.0)), store_times(), (10.0,))
    assert told == (
        "2048²: keeps up at 45 ms or slower with openvino; at 10 ms 22 % of planes live, rest owed.",
    )


def test_a_fast_model_keeps_up():
    told = sentences(size_result(measurement("folded", 4.0)), store_times(), (10.0, 5.0))
    assert told[0] == "2048²: keeps up at 10 ms with folded; a plane takes 9 ms."
    assert told[1].startswith(
        "2048²: keeps up at 9 ms or slower with folded; at 5 ms 55 % of planes"
    )


def test_reading_and_writing_count():
    one = measurement(total=8.0)
    assert plane_ms(one, None) == pytest.approx(8.0)
    assert plane_ms(one, store_times(3.0, 4.0)) == pytest.approx(15.0)
    # Two sources, three outputs.
    assert plane_ms(one, store_times(3.0, 4.0), reads=2, writes=3) == pytest.approx(26.0)
    told = sentences(size_result(one), store_times(3.0, 4.0), (20.0,), reads=2, writes=3)
    assert told[0].startswith("2048²: keeps up at 26 ms or slower")


def test_what_auto_takes_decides_and_not_what_is_fastest():
    slow, fast = measurement("folded", 40.0), measurement("openvino", 20.0)
    assert taken(size_result(slow, fast)) is fast
    assert taken(size_result(slow, fast, auto="folded")) is slow
    # What auto took may have no measurement, where it was left out.
    assert taken(size_result(slow, fast, auto="onnxruntime")) is fast


def test_how_far_auto_is_from_the_fastest_is_told():
    slow, fast = measurement("folded", 25.0), measurement("openvino", 20.0)
    assert auto_over_fastest(size_result(slow, fast, auto="folded")) == pytest.approx(1.25)
    assert auto_over_fastest(size_result(slow, fast, auto="openvino")) == 1.0
    assert auto_over_fastest(size_result(slow, fast)) is None
    told = size_result(slow, fast, auto="folded", auto_over_fastest=1.25)
    assert auto_words(told) == "auto takes folded, after 3 s; 25 % slower than the fastest here."


def test_without_a_measurement_nothing_is_claimed():
    assert sentences(size_result(), None, (10.0,)) == (
        "2048²: not known, since no backend was measured.",
    )


@given(total=st.floats(0.2, 5e4), interval=st.floats(0.1, 1e4))
def test_the_interval_that_is_promised_holds(total, interval):
    one = measurement(total=total)
    (told,) = sentences(size_result(one), store_times(), (interval,))
    promised = float(re.search(r"keeps up at ([\d.e+]+) ms", told)[1])
    # :g rounds the interval that was asked for to six digits.
    assert promised >= plane_ms(one, store_times()) * (1 - 1e-5)
    assert "100 % of planes" not in told


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"live": 200}, "2048² at 10 ms: keeps up"),
        (
            {"live": 74, "owed_s": 41.3},
            "2048² at 10 ms: 37 % of planes live, rest owed (done 41 s after the last frame)",
        ),
        (
            {"live": 199, "owed_s": 0.52},
            "2048² at 10 ms: 99 % of planes live, rest owed (done 0.52 s after the last frame)",
        ),
        ({"live": 200, "lost": 3}, "2048² at 10 ms: does not keep up; 3 raw planes were lost"),
        (
            {"live": 200, "fps": 61.0},
            "2048² at 10 ms: not known, the camera gave 61 frames a second, not 100; keeps up at that",
        ),
        (
            {"live": 1, "owed_s": 100.0, "missing": 5},
            (
                "2048² at 10 ms: under 1 % of planes live, rest owed (done 100 s after the last frame); "
                "5 predicted planes are missing"
            ),
        ),
    ],
)
def test_a_run_with_a_camera_is_told_in_one_sentence(changes, expected):
    values = {"planes": 200, "owed_s": 0.0, "fps": 99.0, **changes}
    assert live_sentence(2048, 10.0, **values) == expected

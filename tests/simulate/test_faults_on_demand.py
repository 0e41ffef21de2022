from __future__ import annotations

import numpy as np
import pytest

from livestain.errors import SettingsError
from livestain.simulate.faults import Bubble, Faults, LampDrop

TEXTS = {
    "seed": "3",
    "dropped_frames": "0.25",
    "failed_snaps": "3,7",
    "slow_readout_ms": "20.0",
    "focus_drift_um_per_min": "-0.5",
    "stage_jitter_um": "0.2",
    "flicker": "0.1",
    "lamp_drop": "30:0.4",
    "bubble": "10:20",
    "wrong_objective": "20x",
}


def test_nothing_goes_wrong_by_default() -> None:
    faults = Faults()
    assert not any(faults.drops(n) or faults.fails(n) for n in range(100))
    assert faults.stage_um(0, 5) == (0.0, 0.0)
    assert faults.focus_um(600.0) == 0.0
    assert faults.brightness(7) == 1.0
    assert faults.shadow(7, (32, 32)) is None


def test_every_switch_is_read_from_words_and_told_in_them() -> None:
    assert set(TEXTS) == set(Faults.names()) == set(Faults.described())
    faults = Faults.of_text([f"{name}={text}" for name, text in TEXTS.items()])
    assert {name: faults.text(name) for name in TEXTS} == TEXTS
    assert (faults.lamp_drop, faults.bubble) == (
        LampDrop(frame=30, remaining=0.4),
        Bubble(frame=10, frames=20),
    )
    assert Faults.parse(faults.model_dump(mode="json"), where="again") == faults
    for name in TEXTS:
        if name != "seed":
            assert getattr(faults.with_text(name, "off"), name) == getattr(Faults(), name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["droped_frames=0.1"], "did you mean 'dropped_frames'"),
        (["dropped_frames"], "is not NAME=VALUE"),
        (["dropped_frames=1.5"], "a share lies between 0 and 1"),
        (["focus_drift_um_per_min=nan"], "finite number"),
        (["stage_jitter_um=inf"], "finite number"),
        (["dropped_frames=a few"], "a share with a decimal point"),
        (["flicker=0.1", "flicker=0.2"], "given twice for 'flicker'"),
        (["flicker=-1"], "greater than or equal to 0"),
        (["lamp_drop=30"], "FRAME:SHARE"),
        (["lamp_drop=30:2"], "less than or equal to 1"),
        (["bubble=3:0"], "greater than or equal to 1"),
        (["slow_readout_ms=long"], "expected milliseconds"),
    ],
)
def test_what_cannot_be_a_fault_is_told_in_a_sentence(options: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        Faults.of_text(options, where="--fault")
    assert "--fault" in str(caught.value)


def test_frames_are_lost_by_share_or_by_number_and_the_same_each_time() -> None:
    share = Faults(dropped_frames=0.2, failed_snaps=0.2)
    lost = [n for n in range(2000) if share.drops(n)]
    assert len(lost) == pytest.approx(400, abs=60)
    assert lost == [n for n in range(2000) if Faults(dropped_frames=0.2, flicker=0.5).drops(n)]
    assert lost != [n for n in range(2000) if share.fails(n)], "one chance is not the other's"
    assert lost != [n for n in range(2000) if Faults(seed=1, dropped_frames=0.2).drops(n)]
    named = Faults(dropped_frames=(3, 7))
    assert [n for n in range(20) if named.drops(n)] == [3, 7]
    assert not any(named.fails(n) for n in range(20))
    assert Faults.of_text(["dropped_frames=0"]).drops(0), "a whole number is a frame's"
    with pytest.raises(SettingsError, match=r"decimal point \(1\.0\) or a tuple .* \(\(1,\)\)"):
        Faults.parse({"dropped_frames": 1}, where="the faults")


def test_stage_and_focus_miss_by_as_much_as_is_said() -> None:
    faults = Faults(stage_jitter_um=0.3, focus_drift_um_per_min=2.0)
    misses = np.array([faults.stage_um(0, t) for t in range(2000)])
    np.testing.assert_allclose(misses.std(axis=0), 0.3, rtol=0.06)
    np.testing.assert_allclose(misses.mean(axis=0), 0.0, atol=0.03)
    assert faults.stage_um(0, 4) == faults.stage_um(0, 4) != faults.stage_um(1, 4)
    assert faults.focus_um(90.0) == pytest.approx(3.0)


def test_light_flickers_and_drops() -> None:
    faults = Faults(flicker=0.1, lamp_drop=LampDrop(frame=1000, remaining=0.5))
    light = np.array([faults.brightness(n) for n in range(2000)])
    assert light[:1000].mean() == pytest.approx(1.0, abs=0.02)
    assert light[:1000].std() == pytest.approx(0.1, rel=0.1)
    assert light[1000:].mean() == pytest.approx(0.5, abs=0.01)
    assert (np.array([Faults(flicker=1.0).brightness(n) for n in range(500)]) >= 0).all()


def test_a_bubble_crosses_the_field_once() -> None:
    faults = Faults(bubble=Bubble(frame=5, frames=4))
    shape = (60, 80)
    assert faults.shadow(4, shape) is None
    assert faults.shadow(9, shape) is None
    places = []
    for n in range(5, 9):
        shadow = faults.shadow(n, shape)
        assert shadow.shape == shape
        assert shadow.dtype == np.float32
        assert 0.3 < shadow.min() < 0.6
        assert shadow.max() <= 1.0
        dark = 1 - shadow
        places.append(float((dark.sum(axis=0) * np.arange(80)).sum() / dark.sum()))
    assert places == sorted(places)
    assert places[-1] - places[0] > 30

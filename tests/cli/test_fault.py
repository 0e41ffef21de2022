"""What goes wrong on demand, from the command line."""

from __future__ import annotations

import json

import pytest

from livestain.live.microscope import simulated_core
from livestain.store import open_store

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield", "exposure": 5}


@pytest.fixture
def small(monkeypatch):
    """The command's microscope with small frames."""

    def small_core(**settings):
        return simulated_core(5, shape=(48, 64), **settings)

    monkeypatch.setattr("livestain.live.microscope.simulated_core", small_core)


def test_lost_frames_are_told_and_the_code_says_so(livestain, sequence_file, small, tmp_path):
    sequence = sequence_file(time_plan={"interval": 0, "loops": 5}, channels=[BRIGHTFIELD])
    out = tmp_path / "run.ome.zarr"
    ended = livestain(
        *("run", sequence, "--out", out, "--json"),
        *("--fault", "dropped_frames=1,3", "--fault", "flicker=0.1"),
    )
    assert ended.code == 1, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert (result["planes_acquired"], result["planes_missing"]) == (3, 2)
    assert result["light"]["exposures"] == {"transmitted": 5}, "what is lost was lit"
    with open_store(out) as store:
        assert store.present(0)[0, :, 0].tolist() == [True, False, True, False, True]
    reasons = json.loads(livestain("status", out, "--json").out.splitlines()[-1])["reasons"]
    assert any("the camera dropped it" in why for why in reasons)


def test_light_is_told_in_the_table(
    livestain, sequence_file, small, tiny_bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    ended = livestain(
        *("run", sequence_file(), "--out", tmp_path / "run.ome.zarr", "--device", "cpu"),
        *("--model", f"mitochondria={tiny_bundle}"),
    )
    assert ended.code == 0, ended.err
    told = " ".join(ended.out.replace("│", " ").split())
    assert "photons on the cells, per um2" in told
    assert "photons spared by predicting, per um2" in told
    assert "% of a dose that kills" in told


def test_only_planes_of_mitochondria_spare_their_light(
    livestain, sequence_file, small, tiny_bundle, tmp_path
):
    virtual = [{"group": "Virtual", "config": name} for name in ("mitochondria", "membrane")]
    ended = livestain(
        *("run", sequence_file(channels=[BRIGHTFIELD, *virtual]), "--json", "--device", "cpu"),
        *("--out", tmp_path / "run.ome.zarr", "--model", f"mitochondria={tiny_bundle}"),
        *("--model", f"membrane={tiny_bundle}"),
    )
    assert ended.code == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert result["planes_stained"] == 4
    assert result["light"]["spared_planes"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fault", "droped_frames=1"], "did you mean 'dropped_frames'"),
        (["--fault", "flicker"], "is not NAME=VALUE"),
        (["--fault", "wrong_objective=7x"], "expected Simulated 60x"),
        (["--fault", "flicker=0.1", "--replay", "movie"], "for the simulated microscope"),
        (["--fault", "flicker=0.1", "--config", "real.cfg"], "for the simulated microscope"),
    ],
)
def test_what_cannot_go_wrong_is_refused_in_a_sentence(
    livestain, sequence_file, tmp_path, options, words
):
    out = tmp_path / "run.ome.zarr"
    ended = livestain("run", sequence_file(channels=[BRIGHTFIELD]), "--out", out, *options)
    assert ended.code == 2
    assert words in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert not out.exists()


def test_every_fault_is_named_with_its_meaning(livestain):
    ended = livestain("demo", "--fault", "help")
    assert ended.code == 0
    for name in ("dropped_frames", "lamp_drop", "bubble", "wrong_objective"):
        assert f"{name}: " in ended.out
    assert "FRAME:SHARE" in ended.out

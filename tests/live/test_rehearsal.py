"""`livestain run --dry-run`: everything is told and checked, nothing moves, nothing is written."""

from __future__ import annotations

import json

import pytest
import useq
from typer.testing import CliRunner

from livestain.cli.app import app
from livestain.errors import LivestainError
from livestain.live.microscope import simulated_core
from livestain.live.rehearsal import rehearse
from livestain.live.session import Session


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 80))
    yield core
    core.unloadAllDevices()
    del core


def a_sequence(interval, loops=5, every=2):
    fluorescence = {
        "config": "Mitochondria",
        "exposure": 50,
        "acquire_every": every,
        "do_stack": False,
    }
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": interval, "loops": loops},
        z_plan={"range": 1.0, "step": 0.5},
        channels=[
            {"config": "Brightfield", "exposure": 20},
            fluorescence,
            {"group": "Virtual", "config": "mitochondria"},
        ],
    )


def rehearsed(core, tmp_path, bundle, sequence):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(bundle)}
    return rehearse(Session(core, sequence, out, models=models, device="cpu", worker="thread"))


def test_planes_time_light_and_disk(core, bundle_of, tmp_path):
    moved = []
    core.events.XYStagePositionChanged.connect(lambda *a: moved.append(a))
    core.events.stagePositionChanged.connect(lambda *a: moved.append(a))
    core.mda.events.frameReady.connect(lambda *a: moved.append(a))
    before = core.getPosition(), core.getXYPosition(), core.getExposure()
    found = rehearsed(core, tmp_path, bundle_of(), a_sequence(interval=2))
    assert (core.getPosition(), core.getXYPosition(), core.getExposure()) == before
    assert not moved
    assert not list(tmp_path.iterdir())
    assert (found.planes_raw, found.planes_virtual, found.shape) == (18, 15, (64, 80))
    # Four intervals, then the last time point: a stack of 3 x 20 ms and one image of 50 ms.
    assert found.seconds == pytest.approx(8.11)
    assert found.light["Brightfield"].exposures == 15
    assert found.light["Brightfield"].seconds == pytest.approx(0.3)
    assert found.light["Mitochondria"].exposures == 3
    assert found.bytes_needed >= 33 * 64 * 80 * 2
    assert found.keeps_up.share_live == 1
    assert found.verdict == "80 x 64 at up to 2.22 planes/s: the model keeps up."


def test_a_model_that_is_too_slow(core, bundle_of, tmp_path):
    """The share is what the measured speed says; a model of stacks predicts a stack at once."""
    found = rehearsed(core, tmp_path, bundle_of(), a_sequence(interval=0, loops=400, every=400))
    assert found.seconds == pytest.approx(400 * 3 * 0.02 + 0.05)
    (ms,) = found.keeps_up.model_ms.values()
    needed = 1200 * ms / 1e3
    assert found.keeps_up.share_live == pytest.approx(min(1, found.seconds / needed))
    assert found.keeps_up.rest_s == pytest.approx(max(0, needed - found.seconds))
    stacks = bundle_of(network="care3d", width=4, depth=1, z="all")
    found = rehearsed(core, tmp_path, stacks, a_sequence(interval=0, loops=400, every=400))
    (ms,) = found.keeps_up.model_ms.values()
    assert found.keeps_up.share_live == pytest.approx(min(1, found.seconds / (400 * ms / 1e3)))


def test_the_verdict_in_words(core, tmp_path):
    from dataclasses import replace

    from livestain.live.rehearsal import KeepsUp

    session = Session(
        core, a_sequence(1).replace(channels=["Brightfield"]), tmp_path / "a.ome.zarr"
    )
    found = rehearse(session)
    assert found.verdict == ""
    slow = replace(found, planes_raw=100, seconds=1.0, keeps_up=KeepsUp(0.37, 720.0, {}))
    assert slow.verdict == (
        "80 x 64 at up to 100 planes/s: about 37 % of planes live, the rest done after the run, about 12 min."
    )
    for lag, words in (("live-only", "the rest skipped"), ("lockstep", "waits for the model")):
        other = replace(slow, keeps_up=KeepsUp(0.37, 720.0, {}, (lag,)))
        assert words in other.verdict
        assert "after the run" not in other.verdict


@pytest.mark.parametrize("lag", ["live-only", "lockstep"])
def test_it_knows_what_becomes_of_the_rest(core, bundle_of, tmp_path, lag):
    settings = {"livestain": {"channels": {"mitochondria": {"lag": lag}}}}
    sequence = a_sequence(interval=0).replace(metadata=settings)
    assert rehearsed(core, tmp_path, bundle_of(), sequence).keeps_up.lags == (lag,)


def test_it_refuses_what_the_run_would_refuse(core, bundle_of, tmp_path):
    bundle = bundle_of(pixel_size_um=0.5, pixel_size_range_um=(0.4, 0.6))
    with pytest.raises(LivestainError, match="pixel"):
        rehearsed(core, tmp_path, bundle, a_sequence(1))
    (tmp_path / "run.ome.zarr").mkdir()
    (tmp_path / "run.ome.zarr" / "mine.txt").write_text("keep")
    with pytest.raises(LivestainError):
        rehearsed(core, tmp_path, bundle_of(), a_sequence(1))
    assert [p.name for p in tmp_path.iterdir()] == ["run.ome.zarr"]
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LivestainError, match=r"notes\.txt is no folder that can be written to"):
        rehearsed(core, tmp_path / "notes.txt", bundle_of(), a_sequence(1))


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command(tiny_bundle, tmp_path, as_json):
    (tmp_path / "a.yaml").write_text(a_sequence(interval=2).yaml())
    out = tmp_path / "run.ome.zarr"
    words = ["run", str(tmp_path / "a.yaml"), "--out", str(out), "--dry-run", "--threads", "1"]
    words += ["--model", f"mitochondria={tiny_bundle}", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert not out.exists()
    if as_json:
        told = json.loads(result.stdout.splitlines()[-1])
        assert told["planes_raw"] == 18
        assert told["light"]["Mitochondria"] == {"exposures": 3, "seconds": pytest.approx(0.15)}
        assert told["verdict"].endswith("keeps up.")
    else:
        assert "3 x, in all 0.15 s" in result.stdout
        assert "keeps up" in result.stdout

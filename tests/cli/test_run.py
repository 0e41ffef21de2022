"""`livestain run`: recordings replayed, real configurations, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mm_test_adapters
import numpy as np
import pytest
import zarr
from PIL import Image
from scipy.stats import pearsonr

from livestain.live.dish_camera import DishCamera
from livestain.live.engine import LiveEngine
from livestain.store import open_store, store_status

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield", "exposure": 5}
MITOCHONDRIA = {"group": "Channel", "config": "Mitochondria", "exposure": 50}
VIRTUAL = {"group": "Virtual", "config": "mitochondria"}

KEYS = {
    "planes_acquired",
    "planes_stained",
    "planes_missing",
    "latency_ms",
    "pearson",
    "pearson_control",
    "pearson_by_channel",
    "store",
}


def pixels(folder):
    return np.stack([np.asarray(Image.open(f)) for f in sorted(folder.glob("*.png"))])


def test_a_replayed_movie_is_stored_stained_and_scored(
    livestain_process, sequence_file, png_movie, tiny_bundle, tmp_path
):
    movie = png_movie(t=5)
    out = tmp_path / "run.ome.zarr"
    sequence = sequence_file(
        time_plan={"interval": 0, "loops": 5}, channels=[BRIGHTFIELD, MITOCHONDRIA, VIRTUAL]
    )
    ended = livestain_process(
        *("run", sequence, "--out", out, "--replay", movie, "--pixel-size", 0.1),
        *("--model", f"mitochondria={tiny_bundle}", "--device", "cpu", "--json"),
        cwd=tmp_path,
    )
    assert ended.code == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert result.keys() >= KEYS
    assert result["planes_acquired"] == 10
    assert result["planes_stained"] == 5
    assert result["planes_missing"] == 0
    assert result["latency_ms"].keys() == {"p50", "p95"}
    assert result["store"] == str(out)
    assert (tmp_path / "run.latest.png").is_file()

    # Read by plain zarr, decoded by the words in the file, compared by SciPy.
    group = zarr.open_group(out, mode="r")
    planes = group["0"][:, :, 0]
    np.testing.assert_array_equal(planes[:, 0], pixels(movie / "brightfield"))
    np.testing.assert_array_equal(planes[:, 1], pixels(movie / "mitochondria"))
    about = group.attrs["livestain"]["plan"]["channels"][2]["virtual"]
    predicted = planes[:, 2].astype(float) * about["scale"] + about["offset"]
    true = pixels(movie / "mitochondria").astype(float)
    r = [pearsonr(p.ravel(), m.ravel())[0] for p, m in zip(predicted, true, strict=True)]
    assert result["pearson_by_channel"] == {"mitochondria": pytest.approx(np.mean(r), abs=1e-4)}
    assert result["pearson"] == pytest.approx(np.mean(r), abs=1e-4)


def test_a_replayed_store_gives_the_same_planes_again(
    livestain, sequence_file, tiny_bundle, tmp_path
):
    first, again = tmp_path / "first.ome.zarr", tmp_path / "again.ome.zarr"
    stack = {"range": 1.0, "step": 0.5}
    raw = sequence_file(channels=[BRIGHTFIELD], z_plan=stack)
    assert livestain("run", raw, "--out", first).code == 0
    both = sequence_file(name="both.yaml", z_plan=stack)
    ended = livestain(
        *("run", both, "--out", again, "--replay", first, "--json"),
        *("--model", f"mitochondria={tiny_bundle}", "--device", "cpu"),
    )
    assert ended.code == 0
    result = json.loads(ended.out.splitlines()[-1])
    assert result["planes_stained"] == 6
    assert result["pearson"] is None
    np.testing.assert_array_equal(zarr.open(first)["0"][:, 0], zarr.open(again)["0"][:, 0])
    status = livestain("status", again, "--json")
    counts = json.loads(status.out.splitlines()[-1])
    assert {k: counts[k] for k in ("planned", "present", "missing", "owed")} == {
        "planned": 12,
        "present": 12,
        "missing": 0,
        "owed": 0,
    }
    assert livestain("status", again).code == 0


def test_people_get_a_table(livestain, sequence_file, tmp_path):
    ended = livestain(
        "run", sequence_file(channels=[BRIGHTFIELD]), "--out", tmp_path / "r.ome.zarr"
    )
    assert ended.code == 0
    assert "planes acquired" in ended.out
    assert "2" in ended.out


def test_a_configuration_is_a_microscope(livestain_process, sequence_file, tmp_path):
    config = Path(mm_test_adapters.device_adapter_path()) / "MMConfig_demo.cfg"
    sequence = sequence_file(
        time_plan={"interval": 0, "loops": 3},
        z_plan={"range": 2.0, "step": 1.0},
        channels=[{"group": "Channel", "config": "Cy5", "exposure": 5}],
    )
    for n in range(3):  # leaving Python with a core alive was an abort one time in three
        ended = livestain_process(
            "run", sequence, "--out", tmp_path / f"{n}.ome.zarr", "--config", config, "--json"
        )
        assert ended.code == 0, ended.err
        result = json.loads(ended.out.splitlines()[-1])
        assert result["planes_acquired"] == 9
        assert result["pearson"] is None


def test_an_image_that_never_came_stays_a_hole(
    livestain, sequence_file, tiny_bundle, tmp_path, monkeypatch
):
    out = tmp_path / "run.ome.zarr"
    show = DishCamera.show

    def fail_once(self, scene):
        if scene.index.get("t") == 3:
            raise RuntimeError("the cable is loose")
        return show(self, scene)

    monkeypatch.setattr(DishCamera, "show", fail_once)
    # An interval makes snaps of the time points.
    ended = livestain(
        *("run", sequence_file(time_plan={"interval": 0.01, "loops": 6}), "--out", out),
        *("--model", f"mitochondria={tiny_bundle}", "--device", "cpu", "--json"),
    )
    assert ended.code == 1, "it ran, but planes are missing"
    assert json.loads(ended.out.splitlines()[-1])["planes_missing"] == 2
    with open_store(out) as store:
        raw, virtual = store.present(0)[0, :, 0], store.present(1)[0, :, 0]
    np.testing.assert_array_equal(raw, [True, True, True, False, True, True])
    np.testing.assert_array_equal(virtual, raw)
    status = livestain("status", out, "--json")
    counts = json.loads(status.out.splitlines()[-1])
    assert (counts["missing"], counts["impossible"], counts["owed"]) == (2, 2, 0)
    assert any("failed to take it" in why for why in counts["reasons"])


def test_a_run_that_breaks_keeps_what_it_has(livestain, sequence_file, tmp_path, monkeypatch):
    out = tmp_path / "run.ome.zarr"
    setup = LiveEngine.setup_event

    def stuck(self, event):
        if event.index.get("t") == 2:
            raise RuntimeError("the stage is stuck")
        setup(self, event)

    monkeypatch.setattr(LiveEngine, "setup_event", stuck)
    sequence = sequence_file(
        time_plan={"interval": 0.01, "loops": 6}, channels=[BRIGHTFIELD, MITOCHONDRIA]
    )
    ended = livestain("run", sequence, "--out", out)
    assert ended.code == 1
    (line,) = [line for line in ended.err.splitlines() if line.startswith("livestain:")]
    assert "the run broke off: the stage is stuck" in line
    assert str(out) in line
    assert "Traceback" not in ended.err
    with open_store(out) as store:
        assert store.present(0)[0, :2].all()
        assert not store.present(0)[0, 2:].any()


OBSERVED = """
import sys
from livestain.live.session import Session
from livestain.stain.host import WorkerHost

start, warm = Session.start, WorkerHost.start


def watched(self):
    self.plane_stained.connect(lambda stained: print("stained", flush=True))
    start(self)


def watched_warm(self):
    print("warming", flush=True)
    return warm(self)


Session.start, WorkerHost.start = watched, watched_warm
from livestain.cli.app import run

sys.exit(run(sys.argv[1:]))
"""
"""The command itself, with a line on standard output as soon as the worker starts, and a plane is stained."""


@pytest.fixture
def command(sequence_file, bundle_of, tmp_path):
    """Start a long run in a process group of its own, as a terminal does."""
    started = []

    def start(slow=False):
        out = tmp_path / "run.ome.zarr"
        # A slow model owes planes for many seconds when the second Ctrl-C comes.
        bundle = bundle_of(width=32, depth=3) if slow else bundle_of()
        sequence = sequence_file(time_plan={"interval": 0, "loops": 1200})
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", OBSERVED, "run", sequence, "--out", out, "--json"),
                *("--model", f"mitochondria={bundle}", "--device", "cpu", "--threads", "1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == "warming\n", process.stderr.read()
        return process, out

    yield start
    for process in started:
        process.kill()
        process.communicate()


def press_ctrl_c(process):
    os.killpg(process.pid, signal.SIGINT)


def check_valid(out):
    """Every plane that is there can be read by another library; the rest is accounted for."""
    with open_store(out) as store:
        raw, virtual = store.present(0)[0, :, 0], store.present(1)[0, :, 0]
    array = zarr.open(out, mode="r")["0"]
    for t in np.flatnonzero(raw):
        assert array[t, 0, 0].any()
    for t in np.flatnonzero(virtual):
        assert array[t, 1, 0].all(), "0 means not predicted"
    status = store_status(out)
    assert status.present + status.missing == status.planned
    assert status.missing == status.owed + status.impossible + status.skipped
    return raw, virtual, status


def test_ctrl_c_once_stops_acquiring_and_stains_the_rest(command):
    process, out = command()
    assert process.stdout.readline() == "stained\n"
    press_ctrl_c(process)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Stopped acquiring" in stderr
    assert "Traceback" not in stderr
    raw, virtual, status = check_valid(out)
    assert 0 < raw.sum() < 1200
    np.testing.assert_array_equal(raw, virtual)
    assert status.owed == 0
    result = json.loads(stdout.splitlines()[-1])
    assert result["interrupted"]
    assert result["planes_stained"] == virtual.sum()


def test_ctrl_c_twice_ends_at_once(command):
    process, out = command(slow=True)
    assert process.stdout.readline() == "stained\n"
    press_ctrl_c(process)
    told = ""
    while "Stopped acquiring" not in told:
        told = process.stderr.readline()
        assert told, "it ended before it was told to"
    press_ctrl_c(process)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    raw, virtual, status = check_valid(out)
    assert virtual.sum() < raw.sum() < 1200
    assert status.owed == raw.sum() - virtual.sum()


def test_ctrl_c_before_the_first_move_leaves_nothing(command, tmp_path):
    before = sorted(tmp_path.iterdir())
    process, out = command()
    press_ctrl_c(process)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    assert set(tmp_path.iterdir()) - set(before) == {tmp_path / "sequence.yaml"}

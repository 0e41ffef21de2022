"""How a run went: the numbers and the page, from the store and its journal alone."""

from __future__ import annotations

import json
import re
import sys
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import useq
from typer.testing import CliRunner

from livestain.charts import Series, line_chart, round_ticks
from livestain.cli.app import app
from livestain.errors import StoreError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.monitor.history import run_history
from livestain.monitor.run_page import page_text, write_report
from livestain.simulate.faults import Faults
from livestain.store import journal_path, read_journal

SEQUENCE = useq.MDASequence(
    axis_order="tpgcz",
    time_plan={"interval": 0.2, "loops": 4},
    z_plan={"range": 1.0, "step": 0.5},
    channels=[
        {"config": "Brightfield", "exposure": 20},
        {"config": "Mitochondria", "exposure": 50, "acquire_every": 2, "do_stack": False},
        {"group": "Virtual", "config": "mitochondria"},
    ],
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_bundle):
    """A finished run that lost one frame, and its report."""
    core = simulated_core(5, shape=(48, 56))
    core.camera.faults = Faults(dropped_frames=(2,))
    out = tmp_path_factory.mktemp("ran") / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    report = Session(core, SEQUENCE, out, models=models, device="cpu", worker="thread").run()
    core.unloadAllDevices()
    return out, report


def test_the_numbers_are_those_of_the_run(ran):
    out, report = ran
    found = run_history(out)
    assert (found.finished, found.interrupted, found.failed) == (True, False, False)
    assert {name: len(times) for name, times in found.acquired_s.items()} == {
        "Brightfield": 11,
        "Mitochondria": 2,
    }
    assert len(found.stained_s["mitochondria"]) == report.planes_stained == 11
    assert found.light["Brightfield"].exposures == 11
    assert found.light["Mitochondria"].seconds == pytest.approx(0.1)
    if report.latency_ms.p50 is not None:
        assert found.stages["total"].p50 == pytest.approx(report.latency_ms.p50, abs=0.01)
    parts = sum(found.latency_s[:, 1]) if len(found.latency_s) else 0.0
    lines = [line for line in read_journal(journal_path(out)) if line["kind"] == "stained"]
    assert parts == pytest.approx(sum(x["latency_ms"]["total"] for x in lines if x["live"]))
    assert found.lateness_ms.n == 4, "one a time point"
    assert found.lateness_ms.p50 < 2000
    assert found.status.raw.impossible == found.status.virtual.impossible == 1


def test_memory_is_that_of_the_processes(tiny_bundle, tmp_path):
    """Against the peak that the system itself keeps; the worker's is a process of its own."""
    resource = pytest.importorskip("resource")
    core = simulated_core(5, shape=(48, 56))
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    report = Session(core, SEQUENCE, out, models=models, device="cpu", threads=1).run()
    core.unloadAllDevices()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    own, children = (
        resource.getrusage(who).ru_maxrss / unit
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    found = run_history(out).memory_mib
    assert set(found) == {"acquisition", "workers"}
    assert 20 < found["acquisition"][:, 1].max() <= own + 1
    assert 20 < found["workers"][:, 1].max() <= children + 1
    assert np.all(np.diff(found["acquisition"][:, 0]) > 0)
    assert report.memory_peak_mib == {name: x[:, 1].max() for name, x in found.items()}


def test_what_is_owed_begins_and_ends_with_nothing(ran):
    owed = run_history(ran[0]).owed
    assert np.all(np.diff(owed[:, 0]) >= 0)
    assert owed[:, 1].min() == owed[-1, 1] == 0
    assert 1 <= owed[:, 1].max() <= 11


def test_the_page_and_its_numbers_lie_beside_the_store(ran, tmp_path):
    out, report = ran
    numbers, page = write_report(run_history(out), report.to_dict())
    assert (numbers.name, page.name) == ("run.report.json", "run.report.html")
    told = json.loads(numbers.read_text(encoding="utf-8"))
    assert told["run"]["planes_stained"] == 11
    assert told["memory_peak_mib"] == told["run"]["memory_peak_mib"]
    assert told["lateness_ms"].keys() == {"n", "p50", "p95", "p99", "max"}
    assert told["status"]["raw"]["impossible"] == 1
    text = page.read_text(encoding="utf-8")
    assert "1 raw planes are missing for good." in text
    assert "the camera dropped it" in text or "the burst&#x27;s 3 images" in text
    assert "mitochondria (predicted)" in text
    assert re.search(r"At most: acquisition \d+ MiB\.", text)
    assert "after the planned time" in text
    assert "Predicted channels are not measurements." in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count("<svg") == 4
    for svg in re.findall("<svg.*?</svg>", text, re.DOTALL):
        Xml.fromstring(svg)


def test_a_run_that_goes_on_or_crashed(ran, tmp_path):
    """Without the journal's end, and with a line that was cut."""
    out, _ = ran
    lines = journal_path(out).read_bytes().splitlines(keepends=True)
    import shutil

    half = tmp_path / "half.ome.zarr"
    shutil.copytree(out, half)
    journal_path(half).write_bytes(b"".join(lines[: len(lines) // 2]) + b'{"kind": "pla')
    found = run_history(half)
    assert not found.finished
    assert "has not ended, or crashed" in page_text(found)
    journal_path(half).write_bytes(b"")
    assert "planned" in page_text(run_history(half))
    journal_path(half).unlink()
    with pytest.raises(StoreError, match="journal"):
        run_history(half)


def test_names_are_text_and_not_html(ran):
    from dataclasses import replace

    found = replace(run_history(ran[0]), notes=["<script>alert(1)</script>"])
    assert "<script>" not in page_text(found)


def test_the_commands(tiny_bundle, tmp_path):
    (tmp_path / "a.yaml").write_text(SEQUENCE.replace(time_plan=None).yaml())
    out = tmp_path / "run.ome.zarr"
    words = ["run", str(tmp_path / "a.yaml"), "--out", str(out), "--threads", "1"]
    result = CliRunner().invoke(app, [*words, "--model", f"mitochondria={tiny_bundle}"])
    assert result.exit_code == 0, result.output
    assert "run.report.html" in result.stdout.replace("\n", "")
    first = (tmp_path / "run.report.html").read_text(encoding="utf-8")
    (tmp_path / "run.report.html").unlink()
    result = CliRunner().invoke(app, ["report", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["status"]["planned"] == 7
    assert (tmp_path / "run.report.html").read_text(encoding="utf-8") == first


@pytest.mark.parametrize("span", [(0, 1), (0, 0), (3, 7), (-2.5, 1e6), (0.001, 0.0013)])
def test_ticks_reach_around_what_is_drawn(span):
    ticks = round_ticks(*span)
    assert ticks[0] <= span[0]
    assert ticks[-1] >= span[1]
    assert 3 <= len(ticks) <= 10
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


@pytest.mark.parametrize(("most", "ticks"), [(0, [0, 1, 2]), (1, [0, 1]), (3, [0, 1, 2, 3])])
def test_what_is_counted_has_whole_ticks(most, ticks):
    assert round_ticks(0, most, whole=True) == ticks
    assert round_ticks(0, 30, whole=True) == round_ticks(0, 30)


def test_long_series_are_thinned_and_keep_their_extremes():
    x = np.arange(50_000) / 100
    y = np.ones(50_000)
    y[12_345] = 999
    svg = line_chart([Series("a <b>", x, y, "#000")], x_label="s", y_label="n")
    assert len(svg) < 50_000
    points = Xml.fromstring(svg).find("{http://www.w3.org/2000/svg}polyline").get("points").split()
    heights = [float(p.split(",")[1]) for p in points]
    assert len(points) < 1000
    assert min(heights) == pytest.approx(34 + 220 * (1 - 999 / 1000), abs=0.1)
    assert line_chart([Series("a", x[:0], y[:0], "#000")], x_label="s", y_label="n") == ""

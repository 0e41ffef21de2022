"""What is printed, drawn and written of a result; and that it names nobody."""

from __future__ import annotations

import getpass
import io
import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from bench_cases import bench_result, measurement, size_result
from rich.console import Console

from livestain.benching.chart import chart
from livestain.benching.machine import hardware, scrubbed, versions
from livestain.benching.results import BenchResult
from livestain.benching.table import HEAD, busy, left_out, markdown, tables
from livestain.benching.writing import folder_for, write_result
from livestain.errors import SettingsError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def result():
    size = size_result(
        measurement("folded", 40.0, share_of_roof=0.62),
        measurement("openvino", 20.0),
        auto="openvino",
        refused={"folded-bf16": "differs by 0.3"},
        not_measured={"eager": "the 5 minutes did not suffice"},
        sentences=("2048²: keeps up at 45 ms or slower with openvino.",),
    )
    return bench_result(size)


def test_the_page_says_everything_that_decides(result):
    page = markdown(result)
    for words in (
        "2048²: keeps up at 45 ms or slower with openvino.",
        "cudagraph (refused): no CUDA device",
        "folded-bf16 (refused, 2048²): differs by 0.3",
        "eager (not measured, 2048²): the 5 minutes did not suffice",
        "auto takes openvino",
        "livestain bench a-model",
        "A CPU, 2 cores, 16 GB",
        "fp32 50 GFLOP/s; copies 8 GB/s",
    ):
        assert words in page
    # A table that every reader of Markdown draws: as many cells in each row.
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {line.count("|") for line in table} == {len(HEAD) + 1}
    fastest = table[2].split("|")
    assert fastest[1].strip() == "openvino *"
    assert fastest[8].strip() == "20"


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_is_whole_in_a_narrow_terminal_too(result, width):
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables(result, width):
        console.print(table)
    text = console.export_text()
    for cell in ("openvino *", "folded", "62", "1.2e-06", "123", "planes/s", "normalise"):
        assert cell in text
    assert "…" not in text


def test_one_reason_of_many_backends_is_told_once(result):
    (bundle,) = result.bundles
    many = bundle.model_copy(update={"refused": dict.fromkeys(("a", "b", "c"), "needs a GPU")})
    assert left_out(many)[0] == "a, b, c (refused): needs a GPU"


def test_a_busy_machine_is_told(result):
    assert busy(result) == ""
    told = busy(result.model_copy(update={"load": (3.5, 3.0)}))
    assert "a load of 3.5" in told


def test_bars_are_as_long_as_their_times(result):
    drawing = ET.fromstring(chart(result))
    bars = [r for r in drawing.iter(f"{SVG}rect") if r.get("height") == "18"]
    assert len(bars) == 2 * 4
    lengths = [float(bar.get("width")) for bar in bars]
    openvino, folded = sum(lengths[:4]), sum(lengths[4:])
    assert folded / openvino == pytest.approx(2.0, rel=0.01)
    # The parts of a bar follow each other.
    for one, after in itertools.pairwise(bars[:4]):
        end = float(one.get("x")) + float(one.get("width"))
        assert end == pytest.approx(float(after.get("x")), abs=0.11)
    words = {text.text for text in drawing.iter(f"{SVG}text")}
    assert {"openvino (auto)", "folded", "a-model, 2048²"} <= words


def test_nothing_measured_is_drawn_as_nothing(tmp_path):
    empty = bench_result(size_result(refused={"folded": "it cannot"}))
    assert chart(empty) == ""
    assert [path.name for path in write_result(empty, tmp_path / "out")] == [
        "bench.json",
        "bench.md",
    ]


def test_what_is_written_reads_back(result, tmp_path):
    folder = tmp_path / "new" / "bench"
    written = write_result(result, folder)
    assert sorted(path.name for path in written) == ["bench.json", "bench.md", "bench.svg"]
    again = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    assert BenchResult.model_validate(again) == result


def test_a_result_is_not_written_over_by_mistake(result, tmp_path, monkeypatch):
    write_result(result, tmp_path / "bench")
    with pytest.raises(SettingsError, match=r"there already.*--overwrite"):
        folder_for(tmp_path / "bench")
    assert folder_for(tmp_path / "bench", overwrite=True) == tmp_path / "bench"
    monkeypatch.chdir(tmp_path)
    first = folder_for(None)
    first.mkdir()
    assert folder_for(None) == Path(f"{first}-2")
    (tmp_path / "a-file").write_text("")
    with pytest.raises(SettingsError, match="is a file"):
        folder_for(tmp_path / "a-file")


def test_no_folder_and_no_user_is_left_in_what_is_sent(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "marie")
    found = scrubbed(
        {
            "why": ["cannot open /home/marie/models/x/weights.onnx", 3, None],
            "bundle": r"C:\Users\marie\models\x",
            "word": "marie is not a folder",
            "home": str(Path.home() / "secret"),
        },
        {"/home/marie/models/x": "x"},
    )
    assert found["why"] == ["cannot open x/weights.onnx", 3, None]
    assert found["bundle"] == r"C:\Users\USER\models\x"
    assert found["word"] == "marie is not a folder"
    assert found["home"] in ("HOME/secret", "HOME\\secret")


def test_the_machine_is_described_without_a_host_name():
    import platform

    told = json.dumps(hardware())
    assert hardware()["memory_gb"] > 0
    assert hardware()["cores"] >= 1
    assert "torch" in versions()
    assert platform.node() == "" or platform.node() not in told

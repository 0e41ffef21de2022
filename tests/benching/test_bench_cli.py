"""The command's words: what it refuses, and the camera's answer."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from livestain.cli.app import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def command(capfd):
    def call(*arguments):
        capfd.readouterr()
        code = run(["bench", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-model",), "No model is called 'no-such-model'"),
        (("demo-mitochondria", "--all"), "--all and 'demo-mitochondria' were both given"),
        (("--seconds", "0"), "'seconds': Input should be greater than 0"),
        (("--interval-ms", "-1"), "'intervals_ms.0': Input should be greater than 0"),
        (("live", "no-such-model"), "No model is called 'no-such-model'"),
        (("live", "--folder", "no/such/folder"), "is no folder"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(command, arguments, words):
    code, out, err = command(*arguments)
    assert code == 2
    assert words in err
    assert out == ""
    assert "Traceback" not in err


def test_the_result_folder_is_looked_at_before_anything_is_measured(command, tmp_path):
    (tmp_path / "bench.json").write_text("{}")
    code, _, err = command("--out", tmp_path)
    assert code == 2
    assert "there already" in err


def test_both_forms_explain_themselves(command):
    assert "--minutes" in command("--help")[1]
    assert "demo camera" in command("live", "--help")[1]


def test_the_process_that_asks_others_loads_no_torch():
    code = (
        "import sys, livestain.benching.bench, livestain.benching.writing, livestain.benching.table\n"
        "print([name for name in ('torch', 'tensorstore', 'pymmcore_plus') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_run_with_the_demo_camera_is_answered_in_one_sentence(command, tiny_bundle, tmp_path):
    code, out, err = command(
        *("live", tiny_bundle, "--size", 64, "--interval-ms", 150, "--planes", 8, "--threads", 1),
        *("--folder", tmp_path, "--json"),
    )
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    assert told["sentence"].startswith("64² at 150 ms: ")
    assert (told["planes"], told["lost"], told["missing"]) == (8, 0, 0)
    assert told["fps"] == pytest.approx(1e3 / 150, rel=0.5)
    assert told["late_max_ms"] >= told["late_p95_ms"]
    assert set(told["stage_ms"]) == {"read", "model", "write"}
    assert str(tiny_bundle.parent) not in out
    assert_empty(tmp_path)


@pytest.mark.slow
def test_a_camera_without_such_frames_is_told(command, tiny_bundle):
    code, _, err = command("live", tiny_bundle, "--size", 10**7, "--planes", 8)
    assert code == 2
    assert "The demo camera cannot have frames of 10000000 x 10000000 pixels" in err


@pytest.mark.slow
def test_a_model_of_two_sources_is_refused_before_the_camera_runs(command, bundle_of):
    code, _, err = command("live", bundle_of(more_kinds=("phase",)), "--planes", 4)
    assert code == 2
    assert "needs 2 source channels" in err


def assert_empty(folder: Path) -> None:
    assert not list(folder.iterdir()), "the store that was measured stays"

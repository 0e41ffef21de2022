"""The command answers at once: what is heavy is loaded by the verbs that need it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    *("torch", "lightning", "kornia", "torchmetrics", "onnx", "bioimageio"),
    *("onnxruntime", "openvino"),
    *("pymmcore_plus", "pymmcore", "useq", "tensorstore", "zarr", "yaozarrs", "tifffile", "scipy"),
    *("numpy", "PIL", "pydantic", "qtpy", "PySide6"),
]

VERBS = ("demo", "run", "status", "train", "export", "evaluate", "models", "verify", "bench")


def loaded_by(code):
    """The heavy packages that some code loads in a process of its own, and what it printed."""
    report = f"import json, sys; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    *printed, last = ended.stdout.splitlines()
    return json.loads(last), "\n".join(printed)


@pytest.mark.parametrize("module", ["livestain", "livestain.cli", "livestain.cli.app"])
def test_importing_loads_nothing_heavy(module):
    loaded, _ = loaded_by(f"import {module}")
    assert set(loaded) <= {"numpy", "pydantic"}


def test_help_loads_nothing_heavy_and_names_every_verb():
    loaded, help_text = loaded_by("from livestain.cli.app import run; run(['--help'])")
    assert set(loaded) <= {"numpy", "pydantic"}
    for verb in VERBS:
        assert verb in help_text


def test_every_verb_has_help(livestain):
    for verb in VERBS:
        ended = livestain(verb, "--help")
        assert ended.code == 0
        assert "Usage" in ended.out


def test_the_version_is_told(livestain):
    from livestain import __version__

    ended = livestain("--version")
    assert (ended.code, ended.out.strip()) == (0, f"livestain {__version__}")


def test_a_raw_run_loads_no_torch(sequence_file, tmp_path):
    # A raw run writes its pyramids in a thread; torch would cost seconds at its start.
    sequence = sequence_file(channels=[{"group": "Channel", "config": "Brightfield"}])
    arguments = ["run", str(sequence), "--out", str(tmp_path / "run.ome.zarr"), "--json"]
    loaded, _ = loaded_by(f"from livestain.cli.app import run; assert run({arguments!r}) == 0")
    assert "torch" not in loaded
    assert "pymmcore_plus" in loaded

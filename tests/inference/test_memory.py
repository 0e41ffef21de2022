"""What a prediction of a large camera's plane needs beyond the loaded model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="tells a process's peak since a moment")
def test_a_large_plane_needs_little_memory_beyond_the_model():
    done = subprocess.run(
        [sys.executable, "-P", SCRIPT, "--size", "2048", "--backend", "folded"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    found = told["backends"]["folded"]
    assert found["backend"] == "folded"
    # At least the plane in float32 and its features; promised are 400 MB.
    assert 30 < found["above_mb"] < 400, done.stdout

"""The command line, run in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

A_SEQUENCE = {
    "axis_order": "tpgcz",
    "time_plan": {"interval": 0, "loops": 2},
    "channels": [
        {"group": "Channel", "config": "Brightfield", "exposure": 5},
        {"group": "Virtual", "config": "mitochondria"},
    ],
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def livestain(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process, as `main` does."""
    from livestain.cli.app import run

    def call(*arguments: object) -> Ended:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        return Ended(code, *capfd.readouterr())

    return call


@pytest.fixture
def livestain_process() -> Callable[..., Ended]:
    """Run the real command in a process of its own."""

    def call(*arguments: object, **options: object) -> Ended:
        command = [sys.executable, "-m", "livestain", *map(str, arguments)]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, **options
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return call


@pytest.fixture
def sequence_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a sequence file; what is given replaces keys of a small one, None takes them out."""

    def write(name: str = "sequence.yaml", **changes: object) -> Path:
        values = {k: v for k, v in {**A_SEQUENCE, **changes}.items() if v is not None}
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values))
        return path

    return write

"""How the study is run, and where its files are."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from livestain.files import replacing
from study.cell import REAL, SCALES, Cell
from study.data import make_set

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "RECALIBRATED",
    "Options",
    "cell_lock",
    "livestain",
    "recalibrated_file",
    "result_file",
    "write_result",
]

RECALIBRATED = "recalibrated"
"""Folder of the results of that kind, beside the studies'."""


@dataclass(frozen=True)
class Options:
    """How the study is run.

    Attributes
    ----------
    scale : {"cpu", "cuda"}
    runs : Path
        Folder of data and trainings, of this scale.
    results : Path
        Folder of the result files.
    real : Path
        Folder of the real data.
    device : str
        "cpu", "cuda" or "cuda:N".
    command : str
        That made the results.
    """

    scale: str
    runs: Path
    results: Path
    real: Path
    device: str
    command: str

    @property
    def threads(self) -> int:
        """Threads of a training: one on a CPU, so that two run beside each other and cost what they say."""
        return 1 if self.device == "cpu" else 4

    def run(self, cell: Cell) -> Path:
        """Return the folder of a cell's training."""
        return self.runs / cell.study / cell.name

    def bundle(self, cell: Cell) -> Path:
        """Return the folder of a cell's model."""
        return self.runs / cell.study / f"{cell.name}-bundle"

    def part(self, name: str, part: str) -> Path:
        """Return the folder of a part of a data set, such as ``z`` and ``test``; made if it is not there."""
        if name == REAL:
            return self.real
        return make_set(name, self.runs / "data", SCALES[self.scale].data) / part


def result_file(cell: Cell, options: Options) -> Path:
    """Return where a cell's result is."""
    return options.results / options.scale / cell.study / f"{cell.name}.json"


def recalibrated_file(cell: Cell, options: Options) -> Path:
    """Return where the scores of a cell's model are, with its batch normalisation recalibrated."""
    folder = options.results / options.scale / RECALIBRATED / cell.study
    return folder / f"{cell.name}.json"


def write_result(file: Path, result: dict[str, Any]) -> None:
    """Write what came of a cell, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def cell_lock(cell: Cell, options: Options) -> FileLock:
    """Return the lock that a process holds while it is at a cell; `filelock.Timeout` where another does."""
    folder = options.run(cell).parent
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{cell.name}.lock", timeout=0)


def livestain(*words: str) -> str:
    """Run a verb; what it says to the terminal goes there, what it prints is returned.

    Raises
    ------
    RuntimeError
        If it did not end well.
    """
    command = [sys.executable, "-m", "livestain", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with exit code {done.returncode}")
    return done.stdout

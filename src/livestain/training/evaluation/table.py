"""The numbers of every image as CSV, and files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from livestain.errors import SettingsError
from livestain.files import replacing
from livestain.training.evaluation.results import SUBJECTS

if TYPE_CHECKING:
    from livestain.training.evaluation.results import Evaluation

__all__ = ["check_place", "csv_text", "write_whole"]


def check_place(path: Path | str | None, *, overwrite: bool) -> Path | None:
    """Return the path of a file that can be written; known before anything is computed.

    Raises
    ------
    SettingsError
        If it is there already and may not be overwritten, is a folder, or its folder is not there.
    """
    if path is None:
        return None
    path = Path(path)
    if path.is_dir():
        raise SettingsError(f"{path} is a folder. Expected the name of a file to write.")
    if path.exists() and not overwrite:
        raise SettingsError(f"{path} is there already. Name another file, or give --overwrite.")
    if not path.parent.is_dir():
        raise SettingsError(
            f"There is no folder {path.parent} to write {path.name} in. Make it first."
        )
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that `path` is the old file or the whole new one, never half of one."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def csv_text(evaluation: Evaluation) -> str:
    """Return a line for each image: where it is from, then each number of prediction and controls.

    Columns of the controls end in `_control` and `_shuffled`; numbers that are not defined are empty.
    """
    names = list(evaluation.by_metric)
    columns = [
        name if subject == "prediction" else f"{name}_{subject}"
        for subject in SUBJECTS
        for name in names
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["movie", "image", "frame", "z", *columns])
    for image in evaluation.images:
        numbers = [_cell(getattr(image, subject)[name]) for subject in SUBJECTS for name in names]
        z = "" if image.z is None else image.z
        writer.writerow([image.movie, image.pair, image.frame, z, *numbers])
    return text.getvalue()


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"

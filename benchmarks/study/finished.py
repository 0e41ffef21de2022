"""Finished cells of the study, read from their result files, and the numbers that tables are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from livestain.errors import DataError
from livestain.settings import describe_validation_error
from study.estimate import Estimate, mean_of_folds
from study.options import RECALIBRATED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "SCALES",
    "CellResult",
    "Finished",
    "Invented",
    "Score",
    "read_finished",
]

SCALES = ("cuda", "cpu")
"""In the order in which the page has them."""

STATISTICS = {"mean": None, "q5": 0, "q25": 1, "median": 2, "q75": 3, "q95": 4}
"""What can be asked of a score: its mean, or the place of a quantile."""

_OF_FIELDS = ("objects_a_field", "missed_a_field", "unspecific")
"""Numbers that stand in `invented`."""

_OF_THE_CELL = (
    "parameters",
    "inference_ms",
    "steps",
    "batch_size",
    "wall_seconds",
    "training_sets",
)
"""Numbers that are no estimates."""


class _Read(BaseModel):
    """What is read of a result file; other keys may stand there."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Score(_Read):
    """One metric of one cell on one set of images."""

    mean: float | None
    interval: tuple[float, float] | None = None
    control: float | None = None
    n: int = 0
    quantiles: tuple[float | None, ...] | None = None


class Invented(_Read):
    """What a filter drew, missed and left; see benchmarks/study/invented.py."""

    objects_a_field: float | None = None
    missed_a_field: float | None = None
    unspecific: float | None = None
    objects_a_field_of_the_input: float | None = None
    true_objects_a_field: float | None = None
    pearson_of_the_input: float | None = None
    ssim_of_the_input: float | None = None
    intervals: dict[str, tuple[float, float] | None] = Field(default_factory=dict)
    fields: int = 0

    def of_the_input(self, metric: str) -> float | None:
        """Return what the input itself has, which a filter must beat."""
        if metric == "unspecific":
            return 1.0
        value: float | None = getattr(self, f"{metric}_of_the_input", None)
        return value


class CellResult(_Read):
    """One result file; see benchmarks/study/running.py, which writes it."""

    cell: str
    study: str
    scale: str
    recipe: str
    about: str
    fold: str | None
    data: str
    training_sets: int | None
    steps: int
    batch_size: int
    samples: int
    budget_seconds: float | None
    wall_seconds: float
    owed_seconds: float = 0.0
    looks: tuple[tuple[int, float], ...]
    plateau: str
    schedule: str | None = None
    parameters: int
    inference_ms: float | None
    inference_of: str | None
    changes: dict[str, Any] = Field(default_factory=dict)
    reduced: dict[str, Any]
    scores: dict[str, dict[str, Score]]
    recalibrated: dict[str, dict[str, Score]] | None = None
    """`scores` with batch normalisation recalibrated, from another file: none of a network without it, None
    where that was not tried."""

    by_time: dict[str, float] | None = None
    invented: Invented | None = None
    hardware: dict[str, Any]
    versions: dict[str, str]
    when: str
    commit: str | None
    """None where livestain was not run from a checkout."""

    command: str


class _Recalibrated(_Read):
    cell: str
    study: str
    scale: str
    as_trained: dict[str, float | None]
    """Pearson without recalibration, by what was predicted on: as the result of the same training has it."""

    scores: dict[str, dict[str, Score]]


_Kind = TypeVar("_Kind", bound=_Read)


@dataclass(frozen=True)
class Finished:
    """All finished cells of one scale."""

    scale: str
    cells: tuple[CellResult, ...]

    @cached_property
    def recalibrated(self) -> Finished:
        """The same with batch normalisation recalibrated; only recipes all of whose cells were tried."""
        untried = {(c.study, c.recipe) for c in self.cells if c.recalibrated is None}
        return Finished(
            self.scale,
            tuple(
                cell.model_copy(update={"scores": cell.recalibrated or cell.scores})
                for cell in self.cells
                if (cell.study, cell.recipe) not in untried
            ),
        )

    def of(self, study: str, recipe: str | None = None) -> tuple[CellResult, ...]:
        """Return the cells of a study, or of one of its recipes, by fold."""
        return tuple(
            cell
            for cell in self.cells
            if cell.study == study and (recipe is None or cell.recipe == recipe)
        )

    def estimate(
        self, study: str, recipe: str, metric: str, *, on: str = "held-out", statistic: str = "mean"
    ) -> Estimate | None:
        """Return a number of a recipe, the mean over its folds where it has several.

        Parameters
        ----------
        study, recipe : str
        metric : str
            Of `scores`, or a number of the cell as a whole such as "parameters", "objects_a_field".
        on : str
            What was predicted on: a key of `scores`.
        statistic : str
            Of `STATISTICS`. A quantile is given the half widths of the mean's interval, since it has none
            of its own.

        Returns
        -------
        Estimate or None
            None where no cell has it.
        """
        folds = {}
        for cell in self.of(study, recipe):
            found = _estimate(cell, metric, on, statistic)
            if found is not None:
                folds[cell.fold] = found
        return mean_of_folds(folds) if folds else None


def read_finished(results: Path) -> list[Finished]:
    """Read all result files, scale by scale.

    Parameters
    ----------
    results : Path
        Folder of ``SCALE/STUDY/CELL.json``.

    Returns
    -------
    list of Finished
        Of scales that have a cell, in the order of `SCALES`.

    Raises
    ------
    DataError
        If a file is not a result of a cell.
    """
    found = []
    for scale in SCALES:
        files = sorted((results / scale).glob("*/*.json"))
        if files:
            found.append(Finished(scale, tuple(_read(files, scale))))
    return found


def _read(files: Iterable[Path], scale: str) -> Iterable[CellResult]:
    for file in files:
        cell = _parsed(file, CellResult)
        if (cell.scale, cell.study, cell.cell) != (scale, file.parent.name, file.stem):
            raise DataError(
                f"{file} holds the cell {cell.scale}/{cell.study}/{cell.cell}; expected the one that its "
                "name says. Move it there."
            )
        again = file.parents[1] / RECALIBRATED / cell.study / file.name
        scores = _read_recalibrated(again, cell) if again.is_file() else None
        yield cell.model_copy(update={"recalibrated": scores})


def _read_recalibrated(file: Path, cell: CellResult) -> dict[str, dict[str, Score]]:
    found = _parsed(file, _Recalibrated)
    then = {label: cell.scores.get(label, {}).get("pearson") for label in found.as_trained}
    known = {label: None if score is None else score.mean for label, score in then.items()}
    theirs = (found.scale, found.study, found.cell)
    if theirs != (cell.scale, cell.study, cell.cell) or known != found.as_trained:
        raise DataError(
            f"{file} is not of the training whose result is {cell.scale}/{cell.study}/{cell.cell}. "
            "Remove it, and run `papers.py recalibrate` again."
        )
    return found.scores


def _parsed(file: Path, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        words = (
            describe_validation_error(error, kind)
            if isinstance(error, ValidationError)
            else str(error)
        )
        verb = "run" if issubclass(kind, CellResult) else "recalibrate"
        raise DataError(
            f"{file} is not the result of a cell: {words}. Remove it, and make it again by "
            f"`papers.py {verb}`."
        ) from error


def _estimate(cell: CellResult, metric: str, on: str, statistic: str) -> Estimate | None:
    if metric in _OF_THE_CELL:
        value = getattr(cell, metric)
        return None if value is None else Estimate(float(value))
    if metric in _OF_FIELDS:
        return None if cell.invented is None else _of_fields(cell.invented, metric)
    scores = cell.scores.get(on, {})
    score = scores.get(metric)
    if score is None and metric == "pearson_plane":
        # Of models of single planes, Pearson is of planes anyway.
        score = scores.get("pearson")
    if score is None or score.mean is None:
        return None
    value, place = score.mean, STATISTICS[statistic]
    if place is not None:
        quantile = None if score.quantiles is None else score.quantiles[place]
        if quantile is None:
            return None
        value = quantile
    control = score.control if cell.invented is None else cell.invented.of_the_input(metric)
    if score.interval is None:
        return Estimate(value, control=control)
    low, high = score.interval
    return Estimate(value, value - (score.mean - low), value + (high - score.mean), control)


def _of_fields(invented: Invented, metric: str) -> Estimate | None:
    value: float | None = getattr(invented, metric)
    if value is None:
        return None
    found = Estimate(value, control=invented.of_the_input(metric))
    ends = invented.intervals.get(metric)
    if ends is None:
        return found
    # No field has fewer objects than none.
    low = ends[0] if metric == "unspecific" else max(ends[0], 0.0)
    return replace(found, low=low, high=ends[1])

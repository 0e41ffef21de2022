"""Train a cell of the study, score it, and write what came of it."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from filelock import FileLock

from livestain.bundle import find_bundle
from livestain.files import replacing
from livestain.training.recipe import Recipe
from study.cell import REAL, Cell
from study.data import VALIDATION, movie_names
from study.invented import invented
from study.options import Options, livestain, result_file, write_result
from study.scoring import inference, scored
from study.steps import affordable_steps, plateau

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["licence_of", "run_cell", "training_data", "write_variant"]

BENCHMARKS = Path(__file__).parent.parent

LOOKS = 5
"""Looks at the watched movie, a training; each costs a prediction of all of it."""

_TN = ("scope", "floor", "clamp", "normalise")
"""Keys of `loss.tn` that are not filled in from the data."""

_SAME = ("network", "loss", "crop", "crop_depth", "batch_size", "normalisation", "augmentation")
"""Keys of a recipe that a training which is there already must share with its cell."""


def run_cell(cell: Cell, options: Options, teacher: Cell | None = None) -> dict[str, Any]:
    """Train, score and time a cell; what is finished of it is not done again.

    Parameters
    ----------
    cell : Cell
    options : Options
    teacher : Cell, optional
        The cell that `cell.after` names.

    Returns
    -------
    dict
        What is written to `options.result_file`.

    Raises
    ------
    RuntimeError
        If a verb of livestain did not end well, the teacher is not there yet, or the training that is
        there is of another recipe.
    """
    run, bundle = options.run(cell), options.bundle(cell)
    if teacher is not None and not options.bundle(teacher).is_dir():
        raise RuntimeError(f"its teacher {teacher.name} is not trained yet")
    variant = write_variant(cell, options)
    data = training_data(cell, options)
    if not (run / "finished.json").exists():
        _train(cell, variant, data, affordable_steps(cell, variant, data, options), options)
    _check_same(run, variant)
    if not bundle.exists():
        # Times are compared over all runtimes for planes of the camera alone.
        more = ["--no-onnx"] if cell.study != "real" else []
        more += ["--licence", licence_of(cell)]
        livestain("export", str(run), "--out", str(bundle), "--name", cell.name, *more)
    result = _told(cell, options, teacher)
    result["scores"] = {}
    for scoring in cell.scorings:
        result["scores"][scoring.label], by_time = scored(cell, scoring, options)
        if by_time is not None:
            result["by_time"] = by_time
    if cell.counts_invented:
        result["invented"] = invented(bundle, options.part("labels", "truth"), options.device)
    write_result(result_file(cell, options), result)
    return result


def licence_of(cell: Cell) -> str:
    """Return the licence of a cell's model: that of the data decides."""
    return "GPL-3.0-only" if REAL in cell.data else "BSD-3-Clause"


def write_variant(cell: Cell, options: Options) -> Path:
    """Write the cell's recipe, as a variant of its base, and return the file."""
    base = BENCHMARKS / cell.base
    given: dict[str, Any] = {"base": str(base) if base.is_file() else cell.base, "name": cell.name}
    for key, value in (cell.changes | cell.reduced).items():
        *parents, last = key.split(".")
        at = given
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    if REAL not in cell.data:
        # Brightfield is focused elsewhere than fluorescence, as the profile says and as users do it.
        given["checks"] = {"registration": "off"}
    if cell.validates:
        given["split"] = {"by": "movie", "validation": [cell.watched]}
    if cell.after:
        teacher = options.runs / cell.study / f"{cell.after}-bundle"
        given.setdefault("loss", {})["teacher"] = str(teacher)
    file = options.run(cell).with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return file


def training_data(cell: Cell, options: Options) -> Path:
    """Return the folder to train on; several sets are brought together in one, as many movies of each."""
    folders = {name: options.part(name, "train") for name in cell.data}
    if len(folders) == 1:
        return next(iter(folders.values()))
    together = options.runs / "data" / f"{'-'.join(cell.data)}-{cell.sets or 'all'}"
    with FileLock(f"{together}.lock"):
        if not together.exists():
            part = together.with_name(f"{together.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            _bring_together(folders, cell.sets, part)
            part.rename(together)
    return together


def _bring_together(folders: dict[str, Path], sets: int | None, together: Path) -> None:
    together.mkdir()
    for place, (name, folder) in enumerate(folders.items()):
        # The same seeds are in several sets; here names must differ. The first set's movie is watched.
        chosen = movie_names(folder)[:sets]
        movies = {n: f"{name}-{n}" for n in chosen} | (
            {} if place else {str(VALIDATION): str(VALIDATION)}
        )
        for old, new in movies.items():
            found = next(p for p in folder.glob(f"movie-{old}*") if p.is_dir())
            shutil.copytree(found, together / found.name.replace(f"movie-{old}", f"movie-{new}"))


def _train(cell: Cell, variant: Path, data: Path, steps: int, options: Options) -> None:
    run = options.run(cell)
    every = -(-steps // LOOKS)
    words = ["train", str(variant), "--data", str(data), "--out", str(run), "--steps", str(steps)]
    words += ["--threads", str(options.threads), "--device", options.device]
    words += ["--set", f"selection.every_steps={every}"]
    if cell.sets is not None and len(cell.data) == 1:
        for name in movie_names(data)[: cell.sets]:
            words += ["--movies", name]
        if cell.validates:
            words += ["--movies", cell.watched]
    if not cell.validates and not (REAL in cell.data and cell.fold is None):
        words += ["--monitor" if cell.watches else "--leave-out", cell.watched]
    if (run / "recipe.yaml").is_file():
        words.append("--resume")
    livestain(*words)


def _check_same(run: Path, variant: Path) -> None:
    """Refuse a training that is there already and was of another recipe."""
    theirs, ours = Recipe.from_yaml(run / "recipe.yaml"), Recipe.from_yaml(variant)
    for key in _SAME:
        a, b = (one.model_dump(mode="json")[key] for one in (theirs, ours))
        if key == "loss":
            # Statistics of the data are filled in by the training; a teacher is known by its folder's name.
            for side in (a, b):
                side["tn"] = {k: v for k, v in side["tn"].items() if k in _TN}
                side["teacher"] = Path(str(side["teacher"])).name
        if a != b:
            raise RuntimeError(
                f"{run} is a training with {key}: {a}; the cell has {b}. Move it away."
            )


def _told(cell: Cell, options: Options, teacher: Cell | None) -> dict[str, Any]:
    from training import hardware

    run = options.run(cell)
    finished = json.loads((run / "finished.json").read_text(encoding="utf-8"))
    recipe = Recipe.from_yaml(run / "recipe.yaml")
    looks = _looks(run)
    module = find_bundle(options.bundle(cell)).load_module()
    assert module.network is not None
    ms, of = inference(cell, options)
    return {
        "cell": cell.name,
        "study": cell.study,
        "scale": options.scale,
        "recipe": cell.recipe,
        "about": cell.about,
        "fold": cell.fold,
        "data": "+".join(cell.data),
        "training_sets": None if REAL in cell.data else _sets(cell, options),
        "steps": finished["steps"],
        "batch_size": recipe.batch_size,
        "samples": finished["steps"] * recipe.batch_size,
        "budget_seconds": cell.seconds(options.scale),
        "wall_seconds": finished["seconds"],
        "resumed_at": finished.get("resumed_at"),
        "owed_seconds": cell.owed_seconds + _owed_to(teacher, options),
        "looks": looks,
        "schedule": recipe.optimiser.schedule,
        "plateau": plateau(looks, finished["steps"], recipe.optimiser.schedule),
        "parameters": sum(p.numel() for p in module.network.parameters()),
        "inference_ms": ms,
        "inference_of": of,
        "changes": cell.changes,
        "reduced": cell.reduced,
        "hardware": hardware(torch.device(options.device)),
        "versions": {name: version(name) for name in ("livestain", "torch", "numpy")},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": finished["commit"],
        "command": options.command,
    }


def _sets(cell: Cell, options: Options) -> int:
    return sum(len(movie_names(options.part(name, "train"))[: cell.sets]) for name in cell.data)


def _owed_to(teacher: Cell | None, options: Options) -> float:
    if teacher is None:
        return 0.0
    finished = json.loads((options.run(teacher) / "finished.json").read_text(encoding="utf-8"))
    return float(finished["seconds"]) + teacher.owed_seconds


def _looks(run: Path) -> list[tuple[int, float]]:
    """Return step and Pearson of each look at the watched movie, whether it validated or not."""
    with (run / "logs" / "metrics.csv").open(encoding="utf-8", newline="") as opened:
        return list(_seen(csv.DictReader(opened)))


def _seen(rows: Iterable[dict[str, str]]) -> Iterable[tuple[int, float]]:
    for row in rows:
        score = row.get("monitor_pearson") or row.get("validation_pearson")
        if score:
            yield int(row["step"]), float(score)

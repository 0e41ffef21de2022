"""How many steps a training gets, and whether it had arrived after them."""

from __future__ import annotations

import gc
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from livestain.files import replacing
from livestain.training.recipe import Recipe
from study.cell import REAL, Cell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from study.options import Options

__all__ = ["GAIN", "UNSTEADY", "affordable_steps", "cost_key", "plateau"]

GAIN = 0.005
"""A training is at its plateau when its last third has gained less Pearson correlation than this,"""

UNSTEADY = 0.03
"""and its second half has moved by less than this: a curve that still jumps or falls has not arrived."""

_CALIBRATION = (3, 8)
"""Steps that are left out and made, to learn what a step costs."""

_ENDING = ("cosine", "linear")
"""Schedules whose learning rate goes to 0, so that any curve is flat at its end."""


def plateau(looks: Iterable[tuple[int, float]], steps: int, schedule: str = "constant") -> str:
    """Say whether a training had arrived.

    Parameters
    ----------
    looks : iterable of (step, Pearson)
        Of the movie that was looked at.
    steps : int
        Of the whole training.
    schedule : str
        Of its learning rate.

    Returns
    -------
    {"reached", "schedule ended", "not reached", "not looked at"}
    """
    seen = list(looks)
    early = [score for step, score in seen if step <= steps * 2 / 3]
    late = [score for step, score in seen if step > steps * 2 / 3]
    half = [score for step, score in seen if step > steps / 2]
    if not early or not late:
        return "not looked at"
    if max(half) - min(half) >= UNSTEADY or max(late) >= max(early) + GAIN:
        return "not reached"
    return "schedule ended" if schedule in _ENDING else "reached"


def affordable_steps(cell: Cell, variant: Path, data: Path, options: Options) -> int:
    """Return the steps that the cell's seconds buy, on this computer.

    No more than the recipe's own, but for real data, where equal time is the question.
    """
    seconds = cell.seconds(options.scale)
    if seconds is None:
        assert cell.steps is not None
        return cell.steps
    known = options.runs / "steps.json"
    key = cost_key(variant, cell)
    with FileLock(f"{known}.lock"):
        costs = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
        if key not in costs:
            costs[key] = _seconds_a_step(variant, data, options)
            with replacing(known) as part:
                part.write_text(json.dumps(costs, indent=1), encoding="utf-8")
    n = max(10, round(seconds / costs[key]))
    return n if cell.study == "real" else min(Recipe.from_yaml(variant).steps, n)


def cost_key(variant: Path, cell: Cell) -> str:
    """Return what trainings have in common whose steps cost the same."""
    recipe = Recipe.from_yaml(variant)
    told = {
        "network": recipe.network_spec().model_dump(mode="json"),
        "batch_size": recipe.batch_size,
        "crop": [recipe.crop, recipe.crop_depth if recipe.dims == 3 else 0],
        "ms_ssim": recipe.loss.ms_ssim > 0,
        "adversarial": recipe.adversarial and recipe.adversarial.model_dump(mode="json"),
        "cycle": recipe.cycle and recipe.cycle.model_dump(mode="json"),
        "real": REAL in cell.data,
    }
    name = f"{recipe.network.name}, {recipe.batch_size} x {recipe.crop}"
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return f"{name}, {digest}"


def _seconds_a_step(variant: Path, data: Path, options: Options) -> float:
    """Return what a step costs: of the processor on a CPU, of the wall clock on a GPU."""
    import training
    from livestain.training.preparing import prepare
    from livestain.training.sampling import Crops

    torch.set_num_threads(options.threads)
    skipped, made = _CALIBRATION
    training.SKIPPED = skipped
    recipe = Recipe.from_yaml(variant)
    with (
        tempfile.TemporaryDirectory() as scratch,
        prepare(recipe, data, monitor=None, progress=False) as prepared,
    ):
        clock = training.Clock(torch.device(options.device), made)
        crops = Crops(prepared.train, prepared.recipe)
        training.livestain_loop(prepared.recipe, crops, Path(scratch), clock)
    if options.device != "cpu":
        # The training itself is another process, and needs the memory.
        gc.collect()
        torch.cuda.empty_cache()
    kind = "processor" if options.device == "cpu" else "wall"
    return clock.seconds[kind] / (made - skipped)

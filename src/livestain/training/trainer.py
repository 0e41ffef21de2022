"""A training from recipe and data to a folder with the weights."""

from __future__ import annotations

import platform
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from livestain._version import __version__
from livestain.inference import resolve_device
from livestain.training.bar import Bar
from livestain.training.checkpoint import load_checkpoint, save_checkpoint
from livestain.training.extra import needs_train_extra
from livestain.training.fitting import fit
from livestain.training.logs import RunLog
from livestain.training.losses.total import RecipeLoss, check_loss
from livestain.training.modes import check_networks, training_of
from livestain.training.preparing import Prepared, prepare
from livestain.training.ranks import Ranks, joined
from livestain.training.run_folder import (
    BEST,
    CHECKPOINT,
    FINISHED,
    WEIGHTS,
    StoppedError,
    check_out,
    commit_of_checkout,
    open_run,
    write_json,
)
from livestain.training.sampling import Crops, WholePairs
from livestain.training.schedule import autocast_dtype
from livestain.training.selection import Chosen
from livestain.training.teacher import check_teacher
from livestain.training.watching import Watch

with needs_train_extra():
    import lightning

if TYPE_CHECKING:
    from livestain.training.modes import StainTraining
    from livestain.training.recipe import Recipe

__all__ = ["train"]


def train(
    recipe: Recipe,
    data: Path | str,
    out: Path | str,
    *,
    device: str = "auto",
    monitor: str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train by a recipe; the running average of the weights is the result.

    By default no score chooses a checkpoint or ends the training early: with a few movies, whatever a
    score chose by would no longer be held out. `selection` of the recipe says otherwise.

    Started by torchrun, the processes share every batch, and the first one writes. Their losses are those
    of one process with the same batches, but for dropout and, on CPUs, batch normalisation, whose
    statistics are then those of each process's share.

    Parameters
    ----------
    recipe : Recipe
        Says also which movies are trained on, and which are left out.
    data : Path or str
        Folder of movies; see `livestain.training.find_pairs`.
    out : Path or str
        The run's folder: recipe.yaml, data.json (movies, hashes, split), checks.json, logs/ (CSV,
        TensorBoard), panels/latest.png, checkpoints/last.ckpt (and best.ckpt), at the end weights.pt
        and finished.json. Must not exist, or be empty.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    monitor : str, optional
        A movie that is not trained on, whose Pearson is logged from time to time; it chooses nothing.
    resume : bool
        Go on with the unfinished training in `out`, of the same recipe and data.
    progress : bool
        Whether to show a bar, and to tell on standard error what was found in the data.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    DataError
        If the data cannot be used, or `out` is not what is expected or cannot be written.
    SettingsError
        If the recipe's networks, crop, loss or precision do not fit.
    StoppedError
        If the training began, and its folder can no longer be written; it can be resumed.
    MissingExtraError
        If the extra `train` is not installed.
    """
    out = Path(out)
    where = _device(device, Ranks.of_environment())
    autocast_dtype(recipe, where)
    check_networks(recipe)
    check_loss(recipe)
    check_teacher(recipe)
    with joined(where) as ranks:
        ranks.share(recipe.batch_size)
        if ranks.first:
            check_out(out, resume=resume)
        shown = progress and ranks.first
        with prepare(recipe, data, monitor=monitor, progress=shown) as prepared:
            if ranks.first:
                check_out(out, resume=resume)  # again, since reading the data took a while
                open_run(out, prepared.recipe, prepared.facts, prepared.checks, resume=resume)
            ranks.wait()
            start = time.perf_counter()
            try:
                training, chosen, first = _run(prepared, out, where, ranks, shown)
                if ranks.first:
                    finished = {
                        "steps": training.done,
                        **_outcome(training, chosen),
                        "seconds": round(time.perf_counter() - start, 1),
                        "resumed_at": first or None,
                        "device": str(where),
                        "processes": ranks.world,
                        "threads": torch.get_num_threads(),
                        "commit": commit_of_checkout(),
                        "versions": {
                            "livestain": __version__,
                            "torch": torch.__version__,
                            "lightning": lightning.__version__,
                            "python": platform.python_version(),
                        },
                    }
                    save_checkpoint(_weights(training, chosen, out), out / WEIGHTS)
                    write_json(out / FINISHED, finished)
            except OSError as error:
                raise StoppedError(_told(out, error)) from error
            ranks.wait()
    return out


def _device(device: str, ranks: Ranks) -> torch.device:
    where = torch.device(resolve_device(device))
    if where.type == "cuda" and ranks.world > 1:
        return torch.device("cuda", ranks.local)
    return where


def _run(
    prepared: Prepared, out: Path, where: torch.device, ranks: Ranks, progress: bool
) -> tuple[StainTraining, Chosen, int]:
    """Make the steps that are still to be made; return also the number of those that were done."""
    recipe = prepared.recipe
    training, chosen = training_of(recipe, ranks), Chosen()
    if (out / CHECKPOINT).is_file():
        state = load_checkpoint(out / CHECKPOINT)
        training.resume(state)
        chosen.load_state_dict(state["chosen"])
    first = training.done
    ranks.wait()  # all have read the checkpoint before it can be another
    if chosen.ended:
        return training, chosen, first
    teacher = prepared.teach(out, where, ranks, progress=progress)
    crops = Crops(prepared.train, recipe, teacher=teacher)
    log = RunLog(out, first) if ranks.first else nullcontext()
    whole = [
        WholePairs(pairs, recipe) if pairs is not None else None
        for pairs in (prepared.validation, prepared.monitored)
    ]
    loss = RecipeLoss(recipe) if recipe.cycle is None else None
    with log as opened:
        watch = Watch(out, opened, chosen, validation=whole[0], monitored=whole[1], loss=loss)
        fit(training, crops, where, [watch, Bar(watch)] if progress else [watch])
    return training, chosen, first


def _outcome(training: StainTraining, chosen: Chosen) -> dict[str, Any]:
    """Say which step's weights are the result, and why."""
    recipe = training.recipe
    if recipe.selection.weights == "last":
        return {"weights_of_step": training.done, "why": "the last step, fixed beforehand"}
    why = f"the best Pearson on the validation data, {chosen.pearson:.4f}"
    if chosen.ended:
        why += f"; ended at step {training.done}, after {chosen.waited} looks without a better one"
    return {"weights_of_step": chosen.step, "why": why}


def _weights(training: StainTraining, chosen: Chosen, out: Path) -> dict[str, torch.Tensor]:
    average = training.average.state_dict()
    if training.recipe.selection.weights == "best" and chosen.step:
        average = load_checkpoint(out / BEST)["average"]
    return {key: value.cpu().contiguous() for key, value in average.items()}


def _told(out: Path, error: OSError) -> str:
    kept = out / CHECKPOINT
    if not kept.is_file():
        what = "Nothing is lost but the steps since the start. Make space, and start again with --resume."
        return f"Cannot write to {out}: {error.strerror or error}. {what}"
    step = load_checkpoint(kept)["step"]
    return (
        f"Cannot write to {out}: {error.strerror or error}. The checkpoint of step {step} is as it was. Make "
        "space, and go on with --resume."
    )

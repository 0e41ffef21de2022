"""A training from recipe and data to a folder with the averaged weights."""

from __future__ import annotations

import json
import logging
import platform
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from livestain._version import __version__
from livestain.bundle.normalisation import Normalise
from livestain.errors import DataError
from livestain.inference import resolve_device
from livestain.training.ema import AverageWeights
from livestain.training.extra import needs_train_extra
from livestain.training.find import find_pairs
from livestain.training.module import StainTraining
from livestain.training.pairs import PairSpec
from livestain.training.run_folder import (
    CHECKPOINT,
    DATA,
    FINISHED,
    RECIPE,
    WEIGHTS,
    commit_of_checkout,
)
from livestain.training.sampling import Crops, normalise_pair
from livestain.training.survey import survey

with needs_train_extra():
    import lightning
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livestain.training.pairs import PairSet
    from livestain.training.recipe import Recipe

__all__ = ["train"]

_CHECKPOINTS = 10
"""Checkpoints a run, each in the place of the one before."""

_MONITORINGS = 10
"""How often a run looks at its monitored movie."""


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
    """Train by a recipe for its fixed number of steps; the running average of the weights is the result.

    No score chooses a checkpoint or ends the training early: with a few movies, whatever a score
    chose by would no longer be held out.

    Parameters
    ----------
    recipe : Recipe
        Says also which movies are trained on, and which are left out.
    data : Path or str
        Folder of movies; see `livestain.training.find_pairs`.
    out : Path or str
        The run's folder: recipe.yaml, data.json (movies, hashes), logs/ (CSV, TensorBoard),
        checkpoints/last.ckpt, at the end weights.pt and finished.json. Must not exist, or be empty.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    monitor : str, optional
        A movie that is not trained on, whose Pearson is logged from time to time; it chooses nothing.
    resume : bool
        Go on with the unfinished training in `out`, of the same recipe and data.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    DataError
        If the data cannot be used, or `out` is not what is expected or cannot be written.
    SettingsError
        If the recipe's network or crop does not fit.
    MissingExtraError
        If the extra `train` is not installed.
    """
    out = Path(out)
    _check_out(out, resume=resume)
    where = torch.device(resolve_device(device))
    module = StainTraining(recipe)
    with find_pairs(data, PairSpec.of_recipe(recipe)) as found:
        chosen = found.select(
            recipe.movies, leave_out=(*recipe.leave_out, *([monitor] if monitor else []))
        )
        watched = found.select([monitor]) if monitor else None
        reference = survey(chosen, crop=recipe.crop)
        hashes = chosen.sha256()
        facts = {
            "movies": {
                movie.name: {"pairs": len(movie.pairs), "sha256": hashes[movie.name]}
                for movie in chosen.movies
            },
            "left_out": sorted(set(found.names) - set(chosen.names)),
            "monitored": watched.names[0] if watched else None,
            "reference": reference.model_dump(mode="json"),
        }
        # From here on the recipe names the movies, so that it trains the same again wherever the
        # data has grown.
        recipe = recipe.model_copy(update={"movies": chosen.names, "leave_out": ()})
        module.recipe = recipe
        first = _open_run(out, recipe, facts, resume=resume)
        start = time.perf_counter()
        _fit(module, chosen, watched, out, where, first=first, progress=progress)
    torch.save(
        {key: value.cpu().contiguous() for key, value in module.average.state_dict().items()},
        out / WEIGHTS,
    )
    finished = {
        "steps": recipe.steps,
        "seconds": round(time.perf_counter() - start, 1),
        "resumed_at": first or None,
        "device": str(where),
        "threads": torch.get_num_threads(),
        "commit": commit_of_checkout(),
        "versions": {
            "livestain": __version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
        },
    }
    _write_json(out / FINISHED, finished)
    return out


def _check_out(out: Path, *, resume: bool) -> None:
    """Refuse a folder that this training cannot go into, before all the data is read; touch nothing."""
    with _told(out):
        if not resume:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise DataError(
                    f"{out} exists. Choose another folder, or go on with the training in it by "
                    "--resume."
                )
            above = next(place for place in (out, *out.absolute().parents) if place.exists())
            if not above.is_dir():
                raise DataError(
                    f"{out} cannot be made, since {above} is a file. Choose another folder."
                )
            return
        if not all((out / name).is_file() for name in (RECIPE, DATA)):
            raise DataError(f"There is no training to resume in {out}. Leave --resume out.")
        if (out / FINISHED).is_file():
            raise DataError(f"The training in {out} is finished; there is nothing to resume.")


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Tell in a sentence why a folder cannot be used."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Cannot use the folder {out}: {error.strerror or error}. Expected one that can be written "
            "to, on a disk with space."
        ) from error


def _open_run(out: Path, recipe: Recipe, facts: dict[str, Any], *, resume: bool) -> int:
    """Make the folder, or check that it is of this training; return the number of steps done."""
    _check_out(out, resume=resume)  # again, since reading the data took a while
    if not resume:
        with _told(out):
            out.mkdir(parents=True, exist_ok=True)
            (out / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
            _write_json(out / DATA, facts)
        return 0
    for name, now in ((RECIPE, recipe.to_yaml()), (DATA, json.dumps(facts, indent=2) + "\n")):
        if (out / name).read_text(encoding="utf-8") != now:
            what = "recipe" if name == RECIPE else "data"
            raise DataError(
                f"The {what} differs from what the training in {out} began with (see {out / name}). "
                f"Give the same {what}, or start anew in another folder."
            )
    if not (out / CHECKPOINT).is_file():
        return 0
    return int(torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)["global_step"])


def _fit(
    module: StainTraining,
    pairs: PairSet,
    watched: PairSet | None,
    out: Path,
    where: torch.device,
    *,
    first: int,
    progress: bool,
) -> None:
    recipe = module.recipe
    size = recipe.batch_size
    crops = Crops(pairs, recipe)
    loader = DataLoader(
        crops, batch_size=size, sampler=_Order(first * size, recipe.steps * size), drop_last=True
    )
    watch = DataLoader(_Planes(watched, recipe), batch_size=1) if watched is not None else None
    callbacks: list[Any] = [
        AverageWeights(recipe.ema_decay),
        ModelCheckpoint(
            dirpath=out / CHECKPOINT.parent,
            filename=CHECKPOINT.stem,
            every_n_train_steps=max(recipe.steps // _CHECKPOINTS, 1),
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        ),
    ]
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=max(recipe.steps // 200, 1)))
    with _quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if where.type == "cuda" else "cpu",
            devices=[where.index] if where.type == "cuda" else 1,
            max_steps=recipe.steps,
            max_epochs=1,
            precision="32-true",
            gradient_clip_val=recipe.optimiser.clip_norm,
            logger=[
                CSVLogger(out, name="logs", version="", flush_logs_every_n_steps=50),
                TensorBoardLogger(out, name="logs", version=""),
            ],
            callbacks=callbacks,
            val_check_interval=max(recipe.steps // _MONITORINGS, 1) if watch else None,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        try:
            trainer.fit(
                module,
                loader,
                watch,
                ckpt_path=out / CHECKPOINT if first else None,
                weights_only=True,
            )
        except SystemExit as end:
            # Lightning ends the whole process when the user interrupts; ours to decide.
            if trainer.interrupted:
                raise KeyboardInterrupt from end
            raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep back advice that does not apply, such as loader processes for planes that lie in memory."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", module=r"torch\.utils\.tensorboard")
            yield
    finally:
        logger.setLevel(level)


class _Order(Sampler[int]):
    """The samples' numbers from where a resumed run goes on; its length is that of the whole run."""

    def __init__(self, first: int, stop: int) -> None:
        self._first = first
        self._stop = stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._first, self._stop))

    def __len__(self) -> int:
        # Lightning counts the batches before the checkpoint as fetched.
        return self._stop


class _Planes(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Whole planes of a monitored movie: raw counts and normalised targets."""

    def __init__(self, pairs: PairSet, recipe: Recipe) -> None:
        self._pairs = pairs
        self._recipe = recipe

    def __len__(self) -> int:
        return len(self._pairs.pairs)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        source, target = self._pairs.read(self._pairs.pairs[item])
        normalise = Normalise(self._recipe.normalisation)
        _, y = normalise_pair(source, target, normalise, self._recipe.targets)
        return torch.from_numpy(source.astype(np.float32)), y


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

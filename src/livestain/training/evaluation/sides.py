"""The part of the data that a training held back, found again for evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from livestain.errors import DataError, SettingsError

if TYPE_CHECKING:
    from livestain.training.pair import Pair
    from livestain.training.pairs import PairSet
    from livestain.training.recipe import Recipe

__all__ = ["Side", "choose_side"]

Side = Literal["train", "validation", "test"]
"""A part of a split."""


def choose_side(
    pairs: PairSet, side: str, *, run: Path | str | None = None, recipe: Recipe | None = None
) -> PairSet:
    """Return the pairs of one side of a training's split.

    Parameters
    ----------
    pairs : PairSet
        Of the data that was trained on, or of a part of it.
    side : str
        "train", "validation" or "test".
    run : Path or str, optional
        The training's folder, whose data.json names the groups of each side.
    recipe : Recipe, optional
        The one that travels with the model: enough where it splits by movie.

    Raises
    ------
    DataError
        If that run is none, has nothing on that side, or none of it is in the data.
    SettingsError
        If there is no such side, or nothing says what was held back.
    """
    if side not in ("train", "validation", "test"):
        raise SettingsError(
            f"There is no side {side!r} of a split. Expected train, validation or test."
        )
    by, groups = _from_run(Path(run), side) if run is not None else _from_recipe(recipe, side)
    chosen = [pair for pair in pairs.pairs if _names(pair, by) & groups]
    if not chosen:
        raise DataError(
            f"None of what was held back for {side} is in the data: {', '.join(sorted(groups)[:5])}. Give "
            "the folder that the model was trained on."
        )
    return pairs.only(chosen)


def _from_run(run: Path, side: str) -> tuple[str, frozenset[str]]:
    file = run / "data.json"
    try:
        split: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["split"]
        by = str(split["by"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{run} does not say how its data was split. Expected the folder that `livestain train … --out` "
            "wrote, with data.json."
        ) from error
    if "leaks" in split:
        raise DataError(
            f"The training in {run} was split by {by}: all sides are of the same images, so there is "
            "nothing to score apart. Leave --split out."
        )
    if side not in split:
        there = ", ".join(name for name in ("train", "validation", "test") if name in split)
        raise DataError(f"The training in {run} has nothing on the side {side}; it has: {there}.")
    return by, frozenset(split[side]["groups"])


def _from_recipe(recipe: Recipe | None, side: str) -> tuple[str, frozenset[str]]:
    if recipe is not None and recipe.split.by == "movie":
        held = {"validation": recipe.split.validation, "test": recipe.split.test}
        names = {key: frozenset(value) for key, value in held.items() if isinstance(value, tuple)}
        names["train"] = frozenset(recipe.movies or ()).difference(*names.values())
        if names.get(side):
            return "movie", names[side]
    raise SettingsError(
        f"The model does not say what was held back for {side}. Give its training's folder with --run RUN."
    )


def _names(pair: Pair, by: str) -> frozenset[str]:
    """Return the names of the groups that a pair can be in: a run that held nothing back names movies."""
    own = pair.position if by == "position" else pair.frame
    return frozenset((pair.movie, f"{pair.movie}/{own}"))

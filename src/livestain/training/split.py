"""What is held back of the data: by movie, position or file, and nothing on two sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.training.pairs import LeakingCrops

if TYPE_CHECKING:
    from livestain.training.pairs import Pair, PairSet
    from livestain.training.recipe import Recipe

__all__ = ["LEAK", "SplitPairs", "split_pairs"]

LEAK = (
    "Training, validation and test are random crops of the same images and show the same cells: scores "
    "say how well the images are remembered, and nothing of other cells."
)
"""Written into every run that is split like this."""

_CROPS_A_PAIR = 25
"""Of which a share is held back, where crops leak: Somani 2021 cut 25 of a frame."""

_STREAMS = {"validation": 2, "test": 3}
"""Tell random crops of the sides apart; 1 is the augmentation's."""


@dataclass(frozen=True)
class SplitPairs:
    """The sides of a split.

    Attributes
    ----------
    train : PairSet
    validation, test : PairSet or None
    by : str
        What stays together.
    groups : dict of str to tuple of str
        The groups of each side, by their names.
    leaks : str or None
        What is wrong with it, in a sentence, if it leaks.
    """

    train: PairSet
    validation: PairSet | None
    test: PairSet | None
    by: str
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    leaks: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the split as plain JSON types, to be written into the run."""
        sides = {}
        for name in ("train", "validation", "test"):
            pairs: PairSet | None = getattr(self, name)
            if pairs is None:
                continue
            sides[name] = {"pairs": len(pairs.pairs), "groups": list(self.groups[name])}
            if pairs.crops is not None:
                sides[name]["crops"] = pairs.crops.number
        told = {"by": self.by, **sides}
        return told if self.leaks is None else {**told, "leaks": self.leaks}


def split_pairs(pairs: PairSet, recipe: Recipe) -> SplitPairs:
    """Hold back what the recipe says.

    Shares are of the number of groups, rounded, and at least one group; they are drawn by the recipe's
    seed from the groups' sorted names, so that the same data gives the same split.

    Parameters
    ----------
    pairs : PairSet
        Those that the recipe's `movies` and `leave_out` leave.
    recipe : Recipe

    Returns
    -------
    SplitPairs

    Raises
    ------
    DataError
        If there is no such group, one is named twice, none is left to train on, or the data does not
        say what it is to be split by.
    """
    split = recipe.split
    if split.by == "random_crops_that_leak":
        return _leaking(pairs, recipe)
    groups = _groups(pairs, recipe)
    wanted = {"validation": split.validation, "test": split.test}
    sides: dict[str, tuple[str, ...]] = {}
    for side, what in wanted.items():
        sides[side] = () if isinstance(what, float) else _named(what, side, groups, recipe)
    twice = sorted(set(sides["validation"]) & set(sides["test"]))
    if twice:
        raise DataError(
            f"The recipe {recipe.name} holds {twice[0]} back both for validation and for test. Name it once."
        )
    free = sorted(set(groups) - set(sides["validation"]) - set(sides["test"]))
    free = [free[i] for i in np.random.default_rng([recipe.seed, len(free)]).permutation(len(free))]
    for side, what in wanted.items():
        if isinstance(what, float) and what > 0:
            number = max(1, round(what * len(groups)))
            sides[side], free = tuple(sorted(free[:number])), free[number:]
            if len(sides[side]) < number:
                free = []
    if not free:
        raise DataError(_none_left(groups, recipe))
    sides["train"] = tuple(sorted(free))
    sets = {
        side: pairs.only(pair for name in names for pair in groups[name]) if names else None
        for side, names in sides.items()
    }
    train = sets["train"]
    assert train is not None  # noqa: S101 - it has groups
    return SplitPairs(train, sets["validation"], sets["test"], split.by, sides)


def _groups(pairs: PairSet, recipe: Recipe) -> dict[str, list[Pair]]:
    by = recipe.split.by
    nothing_held_back = all(
        what in (0.0, ()) for what in (recipe.split.validation, recipe.split.test)
    )
    if by == "movie" or nothing_held_back:
        return {movie.name: list(movie.pairs) for movie in pairs.movies}
    groups: dict[str, list[Pair]] = {}
    for pair in pairs.pairs:
        if by == "position" and pair.position is None:
            raise DataError(
                f"The images of movie {pair.movie} do not say at which position they were taken, so the "
                f"recipe {recipe.name} cannot split by position. Split by movie or by file."
            )
        own = pair.position if by == "position" else pair.frame
        groups.setdefault(f"{pair.movie}/{own}", []).append(pair)
    window = recipe.window
    if by == "file" and (
        window.past or window.future or any(p.axis == "t" or p.lag for p in pairs.pairs)
    ):
        raise DataError(
            f"The recipe {recipe.name} looks at several time points at once, so a split by file would "
            "put the same images on both sides. Split by movie or by position."
        )
    return groups


def _named(
    names: tuple[str, ...], side: str, groups: dict[str, list[Pair]], recipe: Recipe
) -> tuple[str, ...]:
    found = []
    for name in names:
        known = next((one for one in (name, name.removeprefix("movie-")) if one in groups), None)
        if known is None:
            there = list(groups)[:5]
            raise DataError(
                f"There is no {recipe.split.by} {name!r} in the data to hold back for {side}; there are: "
                f"{', '.join(there)}{' …' if len(groups) > len(there) else ''}."
            )
        found.append(known)
    return tuple(sorted(set(found)))


def _none_left(groups: dict[str, list[Pair]], recipe: Recipe) -> str:
    by = recipe.split.by
    if len(groups) == 1:
        return (
            f"The recipe {recipe.name} holds back a part by {by}, but there is one {by} only, "
            f"{next(iter(groups))}. Record another, or split by what there is more than one of."
        )
    return (
        f"The recipe {recipe.name} holds back all {len(groups)} groups by {by}, so that none is left to "
        "train on. Hold back fewer."
    )


def _leaking(pairs: PairSet, recipe: Recipe) -> SplitPairs:
    """Put other random crops of the same pairs on the other sides."""
    sets: dict[str, PairSet | None] = {"validation": None, "test": None}
    names = {"train": pairs.names}
    for side, what in (("validation", recipe.split.validation), ("test", recipe.split.test)):
        if not isinstance(what, float):
            if what:
                raise DataError(
                    f"The recipe {recipe.name} names groups for {side}, but random crops have no names. "
                    "Give a share, or split by movie."
                )
            continue
        if what > 0:
            number = max(1, round(what * _CROPS_A_PAIR * len(pairs.pairs)))
            sets[side] = pairs.only(pairs.pairs, crops=LeakingCrops(number, _STREAMS[side]))
            names[side] = pairs.names
    return SplitPairs(pairs, sets["validation"], sets["test"], recipe.split.by, names, leaks=LEAK)

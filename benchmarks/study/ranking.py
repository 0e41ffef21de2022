"""The recipes on real cells, the best first, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from study.finished import CellResult, Finished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from study.chart import Kind
    from study.estimate import Estimate

__all__ = ["Ranked", "kind_of", "others", "ranked", "recalibrated_rows"]

_PAPERS = ("fnet2d", "pix2pix", "care2d")
"""The papers' recipes."""

_AFTER = ("fnet2d-b4", "fnet2d-b4-long", "gvtnet2d", "unext2")
"""Built after a paper's, or a later network, with settings that are ours; all others are ours."""


@dataclass(frozen=True)
class Ranked:
    """One recipe of the real data.

    Attributes
    ----------
    name, recipe : str
        `name` also says how it predicts where that is not the plain way.
    about : str
    cells : tuple of CellResult
        By movie.
    by_movie : dict of str to Estimate
        Pearson of each movie that was left out.
    mean : Estimate or None
        Over the movies; None where one is not there.
    """

    name: str
    recipe: str
    about: str
    cells: tuple[CellResult, ...]
    by_movie: Mapping[str, Estimate]
    mean: Estimate | None


def kind_of(recipe: str) -> Kind:
    """Return whose a recipe is."""
    if recipe in _PAPERS:
        return "the papers'"
    return "after the papers" if recipe in _AFTER else "ours"


def ranked(finished: Finished, recipes: Mapping[str, str], movies: tuple[str, ...]) -> list[Ranked]:
    """Return the recipes that have a result, best mean first, those with movies missing last.

    Parameters
    ----------
    finished : Finished
    recipes : mapping of str to str
        Planned ones, and what they are; others that have results are added.
    movies : tuple of str
        Each is left out once.
    """
    about = dict(recipes)
    for cell in finished.of("real"):
        about.setdefault(cell.recipe, cell.about)
    found = []
    for recipe, text in about.items():
        cells = finished.of("real", recipe)
        looks = sorted(
            {label for cell in cells for label in cell.scores if label.startswith("held-out")}
        )
        for label in looks:
            name = recipe + label.removeprefix("held-out")
            scored = tuple(cell for cell in cells if label in cell.scores)
            by_movie = {}
            for cell in scored:
                one = Finished(finished.scale, (cell,)).estimate(
                    "real", recipe, "pearson", on=label
                )
                if one is not None and cell.fold is not None:
                    by_movie[cell.fold] = one
            whole = set(by_movie) == set(movies)
            mean = finished.estimate("real", recipe, "pearson", on=label) if whole else None
            found.append(Ranked(name, recipe, text, scored, by_movie, mean))
    return sorted(found, key=_best_first)


def recalibrated_rows(finished: Finished, movies: tuple[str, ...]) -> list[Ranked]:
    """Return the recipes whose batch normalisation was recalibrated, as `ranked` does."""
    rows = ranked(finished.recalibrated, {}, movies)
    return [row for row in rows if any(cell.recalibrated for cell in row.cells)]


def others(finished: Finished, movies: tuple[str, ...]) -> list[Ranked]:
    """Return the recipes that are not ours and have all movies, best mean first.

    Each once more with batch normalisation recalibrated, where that was tried: they are held against ours at
    their best.
    """
    again = [
        replace(row, name=f"{row.name}, recalibrated")
        for row in recalibrated_rows(finished, movies)
    ]
    rows = [*ranked(finished, {}, movies), *again]
    theirs = [row for row in rows if kind_of(row.recipe) != "ours" and row.mean is not None]
    return sorted(theirs, key=_best_first)


def _best_first(row: Ranked) -> tuple[bool, float, str]:
    return row.mean is None, -(row.mean.value if row.mean else 0.0), row.name

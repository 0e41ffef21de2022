"""The data of a finished training, opened again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from livestain.errors import DataError
from livestain.training.checks import run_checks
from livestain.training.find import find_pairs
from livestain.training.pair import PairSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from livestain.training.pairs import PairSet
    from livestain.training.run_folder import RunFolder

__all__ = ["pairs_trained_on"]


@contextmanager
def pairs_trained_on(run: RunFolder, data: Path | str, *, otherwise: str) -> Iterator[PairSet]:
    """Open the pairs that a run was trained and validated on, as it had them; they are closed at the end.

    Bad pairs are dropped and displacements corrected again where the run's recipe says so.

    Parameters
    ----------
    run : RunFolder
    data : Path or str
        Folder of movies.
    otherwise : str
        What can be left out of the export where there is no such data.

    Raises
    ------
    DataError
        If a movie is missing, or has other pixels.
    """
    movies = run.data["movies"]
    instead = f"Give the data of that training, or export without {otherwise}."
    with find_pairs(data, PairSpec.of_recipe(run.recipe)) as found:
        if missing := [name for name in movies if name not in found.names]:
            raise DataError(
                f"{data} is not what {run.path} was trained on: there is no movie {', '.join(missing)}, but "
                f"{', '.join(found.names)}. {instead}"
            )
        pairs = found.select([*movies])
        checks = run.recipe.checks
        if checks.bad_pairs == "drop" or checks.registration in ("shift", "affine"):
            pairs = run_checks(pairs, run.recipe).pairs
        hashes = pairs.sha256()
        if other := [name for name, told in movies.items() if hashes.get(name) != told["sha256"]]:
            raise DataError(
                f"{data} is not what {run.path} was trained on: the movie {other[0]} has other planes. "
                f"{instead}"
            )
        yield pairs

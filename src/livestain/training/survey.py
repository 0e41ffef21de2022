"""Looking at all pairs once before a training: what cannot be learnt from is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livestain.bundle.description import ReferenceStatistics
from livestain.errors import DataError

if TYPE_CHECKING:
    from livestain.training.pairs import PairSet

__all__ = ["survey"]


def survey(pairs: PairSet, *, crop: int) -> ReferenceStatistics:
    """Read every pair once and return the statistics of the sources.

    Parameters
    ----------
    pairs : PairSet
        What is to be trained on.
    crop : int
        Side of the crops that will be cut, in pixels.

    Raises
    ------
    DataError
        If an image cannot be used, shapes differ within a pair, a plane is smaller than a crop, or a
        target is constant.
    """
    means: list[float] = []
    stds: list[float] = []
    for pair in pairs.pairs:
        for row in range(pair.depth):
            data = pairs.read(pair, slice(row, row + 1))
            height, width = data.source.shape[-2:]
            if min(height, width) < crop:
                raise DataError(
                    f"{pair.name} in movie {pair.movie} has {height} x {width} pixels, less than the "
                    f"recipe's crop of {crop}. Choose a smaller crop, or leave the movie out."
                )
            for plane in data.target[data.present]:
                if plane.min() == plane.max():
                    raise DataError(
                        f"A target plane of {pair.name} in movie {pair.movie} is constant (all "
                        f"{plane.flat[0]}), so there is nothing to learn from it. Remove the pair."
                    )
            planes = data.source.reshape(-1, height, width)
            means.extend(float(plane.mean()) for plane in planes)
            stds.extend(float(plane.std()) for plane in planes)
    return ReferenceStatistics(
        planes=len(means),
        mean=float(np.mean(means)),
        mean_spread=float(np.std(means)),
        std=float(np.mean(stds)),
        std_spread=float(np.std(stds)),
    )

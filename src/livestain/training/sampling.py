"""Which crop comes when: a pure function of the seed and the sample's number.

So the order does not depend on how many processes load, and a resumed run goes on where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from livestain.bundle.normalisation import Normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.training.pairs import Pair, PairSet
    from livestain.training.parts import Target
    from livestain.training.recipe import Recipe

__all__ = ["Crops", "normalise_pair"]

_SD_FLOOR = 1e-6
"""Against division by nothing; constant targets were refused before."""


def normalise_pair(
    source: NDArray[np.uint16],
    target: NDArray[np.uint16],
    normalise: Normalise,
    targets: tuple[Target, ...],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network sees and what it should say, float32, of whole planes.

    Parameters
    ----------
    source : array of uint16, (planes, y, x)
    target : array of uint16, (targets, y, x)
    normalise : Normalise
        The module that also runs live.
    targets : tuple of Target
        How each target plane is normalised.
    """
    x = normalise(torch.from_numpy(source.astype(np.float32))[None])[0]
    y = torch.from_numpy(target.astype(np.float32))
    for place, settings in enumerate(targets):
        if settings.normalisation == "plane":
            plane = y[place] - y[place].mean()
            y[place] = plane / plane.square().mean().sqrt().clamp_min(_SD_FLOOR)
    return x, y


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random crops of normalised pairs: sample `n`, without end.

    Parameters
    ----------
    pairs : PairSet
        What is trained on.
    recipe : Recipe
        Crop, balance, normalisation and seed.
    """

    def __init__(self, pairs: PairSet, recipe: Recipe) -> None:
        self._pairs = pairs
        self._recipe = recipe
        self._normalise = Normalise(recipe.normalisation)

    def choose(self, number: int) -> tuple[Pair, NDArray[np.float64]]:
        """Return the pair of sample `number` and its place as fractions (y, x) of the free way."""
        rng = np.random.default_rng([self._recipe.seed, number])
        if self._recipe.balance == "movie":
            movie = self._pairs.movies[rng.integers(len(self._pairs.movies))]
            pair = movie.pairs[rng.integers(len(movie.pairs))]
        else:
            pair = self._pairs.pairs[rng.integers(len(self._pairs.pairs))]
        return pair, rng.random(2)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return source (planes, crop, crop) and target (targets, crop, crop), float32."""
        pair, place = self.choose(item)
        # The whole plane first: live, the statistics are those of the whole frame too.
        x, y = normalise_pair(*self._pairs.read(pair), self._normalise, self._recipe.targets)
        crop = self._recipe.crop
        top, left = (int(f * (side - crop + 1)) for f, side in zip(place, x.shape[1:], strict=True))
        rows, columns = slice(top, top + crop), slice(left, left + crop)
        return x[:, rows, columns], y[:, rows, columns]

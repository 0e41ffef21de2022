"""Statistics of whole planes, so that a crop is normalised as its plane would be.

Whole planes are what the live path normalises; computing their statistics once costs less than normalising
a plane for every crop that is cut from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.bundle.normalisation import Normalise
from livestain.training.foreground import otsu_threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.training.pairs import Pair, PairSet
    from livestain.training.recipe import Recipe

__all__ = ["PlaneStatistics"]

_Key = tuple["Pair", bool]


class PlaneStatistics:
    """Statistics of the planes of pairs, each computed when it is first asked for.

    Of the sources those that `Normalise` takes: mean and standard deviation, or percentiles; of the
    targets always mean and standard deviation.

    Parameters
    ----------
    pairs : PairSet
    recipe : Recipe
        Says how sources and targets are normalised.
    """

    def __init__(self, pairs: PairSet, recipe: Recipe) -> None:
        self._pairs = pairs
        settings = recipe.normalisation
        self._joint = settings.kind == "frame" and settings.scope == "window"
        self._running = settings.kind == "running"
        self._normalise = Normalise(settings, len(recipe.sources), recipe.window)
        self._by_plane = Normalise(
            settings
            if settings.kind == "frozen"
            else settings.model_copy(
                update={
                    "kind": "frame",
                    "scope": "plane",
                    "sees_past": 0,
                    "subsample": settings.step,
                }
            )
        )
        # Percentiles of a window do not follow from those of its planes: pixels are put together.
        self._pooled = self._joint and settings.statistic == "percentile"
        self._source: dict[_Key, NDArray[np.float64]] = {}
        self._target: dict[_Key, NDArray[np.float64]] = {}
        self._together: dict[
            tuple[Pair, bool, range], tuple[NDArray[np.float64], NDArray[np.float64]]
        ] = {}
        self._otsu: dict[tuple[Pair, int], float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was computed behind."""
        return {**self.__dict__, "_source": {}, "_together": {}, "_target": {}, "_otsu": {}}

    def source(
        self, pair: Pair, rows: range, *, swapped: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `Normalise.apply` takes, such as mean and std: float32, (1, sources * planes, 1, 1).

        Parameters
        ----------
        pair : Pair
        rows : range
            Planes of its depth, for 3-D networks; ignored for 2-D networks, which take the whole window.
        swapped : bool
            As for `PairSet.read`.
        """
        needed = range(pair.depth) if pair.axis != "t" and self._joint else rows
        if self._pooled:
            centre, spread = self._put_together(pair, needed, swapped=swapped)
        else:
            found = self._planes(pair, needed, swapped=swapped)
            centre, spread = found[:, 0], found[:, 1]
            if self._joint:
                each, centre = centre, centre.mean(axis=1, keepdims=True)
                squares = spread**2 + (each - centre) ** 2
                spread = np.sqrt(squares.mean(axis=1, keepdims=True))
        if self._joint:
            planes = len(rows) if pair.axis else self._pairs.spec.window.n_planes
            centre, spread = (np.repeat(one, planes, axis=1) for one in (centre, spread))
        mean, std = (
            torch.from_numpy(one.astype(np.float32).reshape(1, -1, 1, 1))
            for one in (centre, spread)
        )
        return self._normalise.averaged(mean, std) if self._running else (mean, std)

    def _put_together(
        self, pair: Pair, rows: range, *, swapped: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what percentiles of the pixels of several planes give, (sources, 1) each."""
        key = (pair, swapped, rows if pair.axis else range(0))
        if key not in self._together:
            # Plane by plane: of a stack the pixels that are looked at are a sixteenth.
            parts = [slice(row, row + 1) for row in rows] if pair.axis else [None]
            read = (
                self._pairs.read(pair, part, swapped=swapped, only="source").source
                for part in parts
            )
            looked_at = [
                self._normalise.sample(torch.from_numpy(planes.astype(np.float32)))
                for planes in read
            ]
            low, high = self._normalise.of_groups(torch.cat(looked_at, dim=1), sampled=True)
            both = (one.numpy().astype(np.float64)[:, None] for one in (low, high))
            self._together[key] = (next(both), next(both))
        return self._together[key]

    def _planes(self, pair: Pair, rows: range, *, swapped: bool) -> NDArray[np.float64]:
        """Return mean and std by plane, (sources, 2, planes)."""
        key = (pair, swapped)
        if not pair.axis:
            if key not in self._source:
                data = self._pairs.read(pair, swapped=swapped, only="source").source
                self._source[key] = self._of(data)
            return self._source[key]
        if key not in self._source:
            n = len(self._pairs.spec.sources)
            self._source[key] = np.full((n, 2, pair.depth), np.nan)
        kept = self._source[key]
        for row in rows:
            if np.isnan(kept[0, 0, row]):
                data = self._pairs.read(
                    pair, slice(row, row + 1), swapped=swapped, only="source"
                ).source
                kept[:, :, row] = self._of(data)[:, :, 0]
        return kept[:, :, rows.start : rows.stop]

    def _of(self, planes: NDArray[Any]) -> NDArray[np.float64]:
        sources, n = planes.shape[:2]
        counts = torch.from_numpy(
            planes.reshape(1, sources * n, *planes.shape[2:]).astype(np.float32)
        )
        mean, std = self._by_plane.statistics(counts)
        both = torch.stack((mean.reshape(sources, n), std.reshape(sources, n)), dim=1)
        return both.numpy().astype(np.float64)

    def target(
        self, pair: Pair, rows: range, *, swapped: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and std of the targets, (targets, rows) each; NaN or 0 where there is none.

        For stacks those of the whole stack; for time series and 2-D networks of each plane by itself.
        """
        key = (pair, swapped)
        if key not in self._target:
            n = len(self._pairs.spec.targets)
            self._target[key] = np.full((n, 2, pair.depth), np.nan)
        kept = self._target[key]
        present = self._pairs.present(pair)
        for row in range(pair.depth) if pair.axis == "z" else rows:
            if present[:, row].any() and np.isnan(kept[:, 0, row]).all():
                data = self._pairs.read(pair, slice(row, row + 1), swapped=swapped, only="target")
                for k in np.flatnonzero(data.present[:, 0]):
                    plane = data.target[k, 0].astype(np.float64)
                    kept[k, :, row] = plane.mean(), plane.std()
        mean, std = kept[:, 0], kept[:, 1]
        if pair.axis != "z":
            return mean[:, rows.start : rows.stop], std[:, rows.start : rows.stop]
        weight = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
        mean, std = np.nan_to_num(mean), np.nan_to_num(std)
        centre = (mean * weight).sum(axis=1, keepdims=True)
        spread = np.sqrt(((std**2 + (mean - centre) ** 2) * weight).sum(axis=1, keepdims=True))
        return np.repeat(centre, len(rows), axis=1), np.repeat(spread, len(rows), axis=1)

    def threshold(self, pair: Pair, row: int, *, swapped: bool = False) -> float:
        """Return the Otsu threshold of the first target's plane, in counts."""
        key = (pair, row + pair.depth * swapped)
        if key not in self._otsu:
            data = self._pairs.read(pair, slice(row, row + 1), swapped=swapped, only="target")
            self._otsu[key] = otsu_threshold(data.target[0, 0])
        return self._otsu[key]

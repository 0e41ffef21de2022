"""Which crop comes when: a pure function of the seed and the sample's number.

So the order does not depend on how many processes load, and a resumed run goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from livestain.bundle.normalisation import Normalise
from livestain.errors import DataError
from livestain.training.batch import Batch
from livestain.training.statistics import PlaneStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.training.pairs import Pair, PairData, PairSet
    from livestain.training.parts import Target
    from livestain.training.recipe import Recipe

__all__ = ["Crops", "Teacher", "Whole", "WholePairs", "normalise_target"]

_SD_FLOOR = 1e-6
"""Against division by nothing; constant targets are refused before."""

_FOREGROUND_TRIES = 20
"""How often a crop is drawn again that its target covers too little."""


class Teacher(Protocol):
    """What has predicted pairs before, for distillation."""

    def read(self, pair: Pair) -> NDArray[np.float32]:
        """Return the prediction of a whole pair, (targets, depth, y, x)."""


def normalise_target(
    target: NDArray[Any] | torch.Tensor,
    settings: tuple[Target, ...],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    present: NDArray[np.bool_],
) -> torch.Tensor:
    """Return what the network should say, float32; zeros where there is no target.

    Parameters
    ----------
    target : array, (targets, depth, y, x)
        Counts, of whole planes or of crops of them.
    settings : tuple of Target
        How each is normalised.
    mean, std : array, (targets, depth)
        Of the whole planes or stacks: see `PlaneStatistics.target`.
    present : array of bool, (targets, depth)
    """
    counts = torch.as_tensor(np.asarray(target).astype(np.float32))
    found = torch.zeros_like(counts)
    for k, one in enumerate(settings):
        for row in np.flatnonzero(present[k]):
            plane = counts[k, row]
            if one.normalisation == "plane":
                plane = (plane - float(mean[k, row])) / max(float(std[k, row]), _SD_FLOOR)
            found[k, row] = plane
    return found


class Whole(TypedDict):
    """A whole pair for validation; `[depth]` only for models of whole stacks."""

    counts: torch.Tensor
    """float32, (sources * planes, y, x): raw, as `StainModule` takes them."""

    target: torch.Tensor
    """float32, (targets, [depth], y, x): normalised; zeros where there is none."""

    mask: torch.Tensor
    """float32, (targets, [depth]): 1 where there is one."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a crop lies: planes of the depth, top and left."""

    rows: range
    top: int
    left: int
    side: int

    @property
    def depth(self) -> slice:
        return slice(self.rows.start, self.rows.stop)

    @property
    def part(self) -> tuple[slice, slice]:
        return (
            slice(self.top, self.top + self.side),
            slice(self.left, self.left + self.side),
        )


class Crops(Dataset[Batch]):
    """Random crops of normalised pairs: sample `n`, without end.

    Parameters
    ----------
    pairs : PairSet
        What is trained on.
    recipe : Recipe
        Crop, balance, normalisation and seed.
    teacher : Teacher, optional
        Whose predictions go with the samples.
    """

    def __init__(self, pairs: PairSet, recipe: Recipe, teacher: Teacher | None = None) -> None:
        self._pairs = pairs
        self._recipe = recipe
        self._teacher = teacher
        self._normalise = Normalise(recipe.normalisation, len(recipe.sources), recipe.window)
        self._statistics = PlaneStatistics(pairs, recipe)
        # By what the depth is, and in each by movie: what is drawn with equal chances.
        self._sources = _grouped(pairs, "has_source")
        self._targets = _grouped(pairs, "has_target")

    def choose(self, number: int) -> tuple[Pair, NDArray[np.float64]]:
        """Return the pair of sample `number` and its place as fractions (y, x) of the free way.

        For unpaired data the pair of the source.
        """
        rng = np.random.default_rng([self._recipe.seed, number])
        return self._draw(rng, self._sources), rng.random(2)

    def __getitem__(self, item: int) -> Batch:
        """Return source, target and mask of a crop; see `livestain.training.batch`."""
        rng = np.random.default_rng([self._recipe.seed, item])
        pair = self._draw(rng, self._sources)
        cut = self._cut(rng, pair, "source")
        if self._recipe.pairing == "unpaired":
            source = self._source(pair, cut)
            other = self._draw(rng, self._targets)
            cut = self._cut(rng, other, "target")
            return self._batch(source, *self._target(other, cut))
        swapped = self._recipe.pairing == "noise2noise" and bool(rng.random() < 0.5)
        if self._recipe.foreground > 0:
            for _ in range(_FOREGROUND_TRIES):
                if self._covered(pair, cut, swapped=swapped) >= self._recipe.foreground:
                    break
                cut = self._cut(rng, pair, "source")
        batch = self._batch(
            self._source(pair, cut, swapped=swapped), *self._target(pair, cut, swapped=swapped)
        )
        if self._teacher is not None:
            ys, xs = cut.part
            said = torch.from_numpy(self._teacher.read(pair)[:, cut.depth, ys, xs].copy())
            batch["teacher"] = self._shaped(said)
        return batch

    # -- drawing ---------------------------------------------------------------------------------

    def _draw(self, rng: np.random.Generator, groups: list[list[tuple[Pair, ...]]]) -> Pair:
        movies = groups[0] if len(groups) == 1 else groups[rng.integers(len(groups))]
        if self._recipe.balance == "movie":
            pairs = movies[rng.integers(len(movies))]
            return pairs[rng.integers(len(pairs))]
        place = int(rng.integers(sum(map(len, movies))))
        for pairs in movies:
            if place < len(pairs):
                return pairs[place]
            place -= len(pairs)
        raise AssertionError("unreachable: the place is one of a pair")

    def _cut(self, rng: np.random.Generator, pair: Pair, half: Any) -> _Cut:
        crop = self._recipe.crop
        shape = self._pairs.shape(pair, only=half)
        if min(shape) < crop:
            raise DataError(
                f"{pair.name} in movie {pair.movie} has {shape[0]} x {shape[1]} pixels, less than the "
                f"recipe's crop of {crop}. Choose a smaller crop, or leave the movie out."
            )
        top, left = (
            int(f * (side - crop + 1)) for f, side in zip(rng.random(2), shape, strict=True)
        )
        return _Cut(self._run(rng, pair, half), top, left, crop)

    def _run(self, rng: np.random.Generator, pair: Pair, half: str) -> range:
        """Draw a run of planes; where fluorescence is sparse, one with at least a target."""
        if not pair.axis:
            return range(1)
        free = pair.depth - self._recipe.crop_depth
        if free <= 0:
            return range(pair.depth)
        starts = np.arange(free + 1)
        if half == "target" or pair.has_target:
            there = np.concatenate(([0], np.cumsum(self._pairs.present(pair).any(axis=0))))
            starts = starts[there[starts + self._recipe.crop_depth] > there[starts]]
        start = int(starts[rng.integers(len(starts))])
        return range(start, start + self._recipe.crop_depth)

    def _covered(self, pair: Pair, cut: _Cut, *, swapped: bool) -> float:
        """Return the share of a crop that its first target covers; 1 where it has none to say so."""
        data = self._pairs.read(pair, cut.depth, part=cut.part, swapped=swapped, only="target")
        shares = [
            float(
                (data.target[0, k] > self._statistics.threshold(pair, row, swapped=swapped)).mean()
            )
            for k, row in enumerate(cut.rows)
            if data.present[0, k]
        ]
        return float(np.mean(shares)) if shares else 1.0

    # -- cutting ---------------------------------------------------------------------------------

    def _source(self, pair: Pair, cut: _Cut, *, swapped: bool = False) -> torch.Tensor:
        """Return the normalised source, (sources * planes, y, x) or (sources, depth, y, x)."""
        data = self._pairs.read(
            pair, cut.depth, part=cut.part, swapped=swapped, only="source"
        ).source
        counts = torch.from_numpy(data.reshape(1, -1, *data.shape[2:]).astype(np.float32))
        # Live, the statistics are those of the whole frame too.
        statistics = self._statistics.source(pair, cut.rows, swapped=swapped)
        x = self._normalise.apply(self._normalise.seen(counts), *statistics)[0]
        return self._padded(x.reshape(data.shape)) if pair.axis else x

    def _target(
        self, pair: Pair, cut: _Cut, *, swapped: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normalised target (targets, depth, y, x) and where it is there (targets, depth)."""
        data = self._pairs.read(pair, cut.depth, part=cut.part, swapped=swapped, only="target")
        y = _normalised(self._recipe, self._statistics, pair, cut.rows, data, swapped=swapped)
        return y, torch.from_numpy(data.present.astype(np.float32))

    def _batch(self, source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> Batch:
        missing = source.shape[1] - mask.shape[1] if source.ndim == 4 else 0
        return Batch(
            source=source,
            target=self._shaped(target),
            mask=functional.pad(mask, (0, missing)) if source.ndim == 4 else mask[:, 0],
        )

    def _shaped(self, target: torch.Tensor) -> torch.Tensor:
        return target[:, 0] if self._pairs.spec.dims == 2 else self._padded(target)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        """Repeat the last plane of (channels, depth, y, x) until the crop is deep enough."""
        missing = self._recipe.crop_depth - x.shape[1]
        if missing <= 0:
            return x
        return torch.cat((x, x[:, -1:].expand(-1, missing, -1, -1)), dim=1)


class WholePairs(Dataset[Whole]):
    """Whole pairs, in their order, for validation; without pairs that have no source or no target.

    Of time series every time point with a target is an item, seen through the recipe's window, as live.

    Parameters
    ----------
    pairs : PairSet
        With `crops`, so many random crops of the pairs are the items.
    recipe : Recipe
    """

    def __init__(self, pairs: PairSet, recipe: Recipe) -> None:
        self._pairs = pairs
        self._recipe = recipe
        self._statistics = PlaneStatistics(pairs, recipe)
        self._axis = "" if recipe.dims == 2 else "z" if recipe.window.z == "all" else "t"
        self._items = [
            (pair, own)
            for pair in pairs.pairs
            if pair.has_source and pair.has_target and pair.axis == self._axis
            for own in (self._own_planes(pair) if self._axis == "t" else (None,))
        ]

    def __len__(self) -> int:
        """Return the number of items."""
        crops = self._pairs.crops
        return len(self._items) if crops is None or not self._items else crops.number

    def pair(self, item: int) -> Pair:
        """Return the pair that an item is of."""
        return self._choose(item)[0]

    def __getitem__(self, item: int) -> Whole:
        """Return counts, target and mask."""
        pair, own, part = self._choose(item)
        if own is None:
            data = self._pairs.read(pair, part=part)
            rows = range(pair.depth)
            source = data.source
        else:
            rows = range(own, own + 1)
            planes = [
                self._pairs.read(pair, slice(k, k + 1), part=part, only="source").source
                for k in self._window(pair, own)
            ]
            source = np.concatenate(planes, axis=1)
            data = self._pairs.read(pair, slice(own, own + 1), part=part, only="target")
        y = _normalised(self._recipe, self._statistics, pair, rows, data)
        mask = torch.from_numpy(data.present.astype(np.float32))
        stack = self._axis == "z"
        return Whole(
            counts=torch.from_numpy(source.reshape(-1, *source.shape[2:]).astype(np.float32)),
            target=y if stack else y[:, 0],
            mask=mask if stack else mask[:, 0],
        )

    def _choose(self, item: int) -> tuple[Pair, int | None, tuple[slice, slice] | None]:
        if not 0 <= item < len(self):
            raise IndexError(f"there are {len(self)} items; asked for number {item}")
        crops = self._pairs.crops
        if crops is None:
            return *self._items[item], None
        rng = np.random.default_rng([self._recipe.seed, item, crops.stream])
        pair, own = self._items[rng.integers(len(self._items))]
        side = self._recipe.crop
        top, left = (
            int(f * (length - side + 1))
            for f, length in zip(rng.random(2), self._pairs.shape(pair), strict=True)
        )
        return pair, own, (slice(top, top + side), slice(left, left + side))

    def _own_planes(self, pair: Pair) -> list[int]:
        """Return the time points with a target whose window does not reach over missing planes."""
        first, last = self._pairs.ends(pair)
        window = self._recipe.window
        low = 0 if first else window.past
        high = pair.depth - (0 if last else window.future)
        there = self._pairs.present(pair).any(axis=0)
        return [int(k) for k in np.flatnonzero(there) if low <= k < high]

    def _window(self, pair: Pair, own: int) -> list[int]:
        """Return the planes of the depth that the window around one takes, edges repeated."""
        window = self._recipe.window
        return [
            min(max(k, 0), pair.depth - 1)
            for k in range(own - window.past, own + window.future + 1)
        ]


def _normalised(
    recipe: Recipe,
    statistics: PlaneStatistics,
    pair: Pair,
    rows: range,
    data: PairData,
    *,
    swapped: bool = False,
) -> torch.Tensor:
    mean, std = statistics.target(pair, rows, swapped=swapped)
    return normalise_target(data.target, recipe.targets, mean, std, data.present)


def _grouped(pairs: PairSet, half: str) -> list[list[tuple[Pair, ...]]]:
    """Return the pairs with a half, by movie, and that for each kind of depth there is."""
    groups = []
    for axis in ("", "z", "t"):
        movies = [
            tuple(pair for pair in movie.pairs if pair.axis == axis and getattr(pair, half))
            for movie in pairs.movies
        ]
        if any(movies):
            groups.append([pairs_ for pairs_ in movies if pairs_])
    return groups

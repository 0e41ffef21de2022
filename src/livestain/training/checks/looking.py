"""The one pass over the data before a training: displacement, quality, counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.training.checks.correction import Correction, Margins, without_small
from livestain.training.checks.quality import (
    EMPTY_SIGNAL,
    SATURATED_SHARE,
    BadPair,
    Kind,
    PlaneQuality,
    blurred_ones,
    quality_of,
)
from livestain.training.checks.registration import Registrar, Registration
from livestain.training.checks.report import CheckReport, PairFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from livestain.training.pairs import Movie, Pair, PairData, PairSet
    from livestain.training.recipe import Recipe

__all__ = ["correction_of", "run_checks"]

_CHUNK_BYTES = 2**29
"""Of a stack that is read at once."""

_TILE_PLANES = 512
"""Parts of source planes of a movie that are correlated, of 256 pixels a side: about half a minute."""

_STACK_PLANES = 6
"""Target planes of a stack or series that are correlated: those with most contrast."""

_QUALITY_PLANES = 6
"""Planes of a stack or series whose quality is looked at."""

_Z_REACH_UM = 3.0
"""How far in z the same focus is sought."""

_Z_REACH = 10
"""... and at most so many planes."""

_LEAST_SHIFT_PX = 0.5
"""Smaller shifts are not corrected: interpolation costs more than they do."""


def run_checks(
    pairs: PairSet,
    recipe: Recipe,
    *,
    progress: Callable[[int, int], None] | None = None,
    refuse: bool = True,
) -> CheckReport:
    """Look at all pairs once, before a training.

    Every pair is read once, a stack in parts. Its displacement is looked at in at most `checks.pairs`
    pairs a movie, spread evenly.

    Parameters
    ----------
    pairs : PairSet
        As recorded.
    recipe : Recipe
        Says what is checked and what follows (`checks`), crops, pixel size.
    progress : callable, optional
        Called with the number of pairs that are done, and of all.
    refuse : bool
        Whether to refuse at once what the recipe refuses; the report has it otherwise.

    Raises
    ------
    DataError
        If an image cannot be used, or shapes differ within a pair; and see `CheckReport.refuse`.
    """
    look = _Looking(pairs, recipe, refuse=refuse)
    done = 0
    for movie in pairs.movies:
        for _ in look.movie(movie):
            done += 1
            if progress is not None:
                progress(done, len(pairs.pairs))
    report = look.report()
    if refuse:
        report.refuse()
    return report


class _Looking:
    """What is found meanwhile."""

    def __init__(self, pairs: PairSet, recipe: Recipe, *, refuse: bool) -> None:
        self._pairs = pairs
        self._recipe = recipe
        self._refuse = refuse
        self._figures: dict[Pair, PairFigures] = {}
        self._registration: list[Registration] = []
        self._bad: list[BadPair] = []
        self._problems: list[str] = []
        self._corrections: dict[str, tuple[Correction, ...]] = {}
        self._targets = tuple(target.channel for target in recipe.targets)
        self._channels = (*(source.channel for source in recipe.sources), *self._targets)

    def report(self) -> CheckReport:
        return CheckReport(
            recipe=self._recipe,
            recorded=self._pairs,
            registration=tuple(self._registration),
            bad=tuple(self._bad),
            problems=tuple(self._problems),
            figures=self._figures,
            corrections=self._corrections,
        )

    def movie(self, movie: Movie) -> Iterator[None]:
        registrars = self._registrars(movie)
        sampled = set(_spread(movie.pairs, self._most(movie))) if registrars else set()
        seen: list[tuple[Pair, list[PlaneQuality | None]]] = []
        for pair in movie.pairs:
            seen.append((pair, self._pair(pair, registrars if pair in sampled else ())))
            yield
        found = [registrar.result() for registrar in registrars]
        self._registration.extend(found)
        self._correct(movie, found)
        self._judge(movie, seen)

    # -- one pair ----------------------------------------------------------------------------------

    def _pair(self, pair: Pair, registrars: tuple[Registrar, ...]) -> list[PlaneQuality | None]:
        """Look at a pair; return the figures of its channels, None where there is none."""
        figures = PairFigures(target=[[] for _ in self._targets])
        best: list[PlaneQuality | None] = [None] * len(self._channels)
        looked = set(_spread(range(pair.depth), _QUALITY_PLANES))
        parts = self._parts(pair)
        stacks: list[list[tuple[float, float, float, float, float]]] = [[] for _ in self._targets]
        for number, rows in enumerate(parts):
            data = self._pairs.read(pair, slice(rows.start, rows.stop))
            self._check_size(pair, data)
            counts = data.source.reshape(-1, *data.source.shape[2:])
            figures.source.extend((float(p.mean()), float(p.std())) for p in counts)
            for k in range(len(data.target)):
                stacks[k].extend(_counts(p) for p in data.target[k][data.present[k]])
            self._quality(data, [row - rows.start for row in rows if row in looked], best)
            if number == len(parts) // 2:
                for k, registrar in enumerate(registrars):
                    self._register(registrar, pair, data, k)
        for k, planes in enumerate(stacks):
            figures.target[k] = [_together(planes)] if pair.axis == "z" and planes else planes
        self._figures[pair] = figures
        self._check_constant(pair, figures)
        return best

    def _parts(self, pair: Pair) -> list[range]:
        if pair.depth == 1:
            return [range(1)]
        height, width = self._pairs.shape(pair, only="source" if pair.has_source else "target")
        step = max(8, _CHUNK_BYTES // (4 * len(self._channels) * height * width))
        return [range(first, min(first + step, pair.depth)) for first in range(0, pair.depth, step)]

    def _quality(self, data: PairData, rows: list[int], best: list[PlaneQuality | None]) -> None:
        sources = len(data.source)
        for n, planes in enumerate((*data.source, *data.target)):
            if n >= sources:
                kept = planes[[row for row in rows if data.present[n - sources, row]]]
            else:
                kept = planes[rows] if len(planes) == data.target.shape[1] else _spread(planes, 1)
            if len(kept) and rows:
                here = n if sources else n + len(self._recipe.sources)
                new, old = quality_of(np.asarray(kept)), best[here]
                best[here] = new if old is None else PlaneQuality(*map(max, new, old))

    def _register(self, registrar: Registrar, pair: Pair, data: PairData, k: int) -> None:
        there = [int(row) for row in np.flatnonzero(data.present[k])]
        if not there or not len(data.source):
            return
        contrast = {row: float(data.target[k, row].std()) for row in there}
        rows = sorted(sorted(there, key=lambda row: -contrast[row])[:_STACK_PLANES])
        if pair.axis:
            own = rows
        else:
            # The window is time-major, then z; the own plane is in the middle of its stack.
            window = self._recipe.window
            stack = 1 if window.z == "all" else window.z
            own = [window.past * stack + stack // 2] * len(rows)
        if pair.axis != "t":
            first, last = own[0], own[-1]
            reach = registrar.z_reach
            planes = data.source[0, max(first - reach, 0) : last + reach + 1]
            own = [row - max(first - reach, 0) for row in own]
        else:
            planes, own = data.source[0, rows], list(range(len(rows)))
        registrar.add(pair.name, pair.frame, planes, data.target[k, rows], own)

    # -- what must not be --------------------------------------------------------------------------

    def _problem(self, sentence: str) -> None:
        if self._refuse:
            raise DataError(sentence)
        self._problems.append(sentence)

    def _check_size(self, pair: Pair, data: PairData) -> None:
        height, width = data.source.shape[2:] if len(data.source) else data.target.shape[2:]
        if min(height, width) < self._recipe.crop:
            self._problem(
                f"{pair.name} in movie {pair.movie} has {height} x {width} pixels, less than the recipe's "
                f"crop of {self._recipe.crop}. Choose a smaller crop, or leave the movie out."
            )

    def _check_constant(self, pair: Pair, figures: PairFigures) -> None:
        for channel, planes in zip(self._targets, figures.target, strict=True):
            for _, mean, _, low, high in planes:
                if low == high and self._recipe.checks.bad_pairs == "drop":
                    why = f"The target {channel} is constant (all {mean:g})."
                    self._bad.append(
                        BadPair(pair.movie, pair.name, channel, "constant", mean, mean, why)
                    )
                elif low == high:
                    self._problem(
                        f"A target plane ({channel}) of {pair.name} in movie {pair.movie} is constant (all "
                        f"{mean:g}), so there is nothing to learn from it. Remove the pair, or let the "
                        "recipe drop such pairs (checks.bad_pairs: drop)."
                    )

    # -- one movie ---------------------------------------------------------------------------------

    def _registrars(self, movie: Movie) -> tuple[Registrar, ...]:
        recipe = self._recipe
        if recipe.checks.registration == "off" or recipe.pairing == "unpaired":
            return ()
        spec = self._pairs.spec
        if spec.same_channel:
            return ()  # two takes of one channel
        reach = self._z_reach(movie)
        share = self._most(movie) * (1 if not reach else _STACK_PLANES + 2 * reach)
        tiles = max(4 if recipe.checks.registration == "affine" else 1, _TILE_PLANES // share)
        return tuple(
            Registrar(
                movie.name,
                target,
                tiles=min(tiles, 16),
                z_reach=reach,
                fine=recipe.checks.registration == "affine",
            )
            for target in self._targets
        )

    def _most(self, movie: Movie) -> int:
        most = self._recipe.checks.pairs
        return min(most if not self._z_reach(movie) else max(most // 4, 1), len(movie.pairs))

    def _z_reach(self, movie: Movie) -> int:
        axes = {pair.axis for pair in movie.pairs}
        if axes == {"z"}:
            step = self._recipe.z_step_um or 1.0
            depth = min(pair.depth for pair in movie.pairs)
            return max(0, min(_Z_REACH, math.ceil(_Z_REACH_UM / step), depth - 1))
        window = self._recipe.window
        return window.z // 2 if axes == {""} and window.z != "all" else 0

    def _correct(self, movie: Movie, found: list[Registration]) -> None:
        how = self._recipe.checks.registration
        if how not in ("shift", "affine"):
            return
        corrections = tuple(correction_of(one, stretch=how == "affine") for one in found)
        if all(one == Correction() for one in corrections):
            return
        self._corrections[movie.name] = corrections
        pair = movie.pairs[0]
        shape = self._pairs.shape(pair, only="source" if pair.has_source else "target")
        margins = Margins()
        for one in corrections:
            margins = margins.union(one.margins(shape))
        height, width = margins.inside(shape)
        if min(height, width) < self._recipe.crop:
            self._problem(
                f"After the correction of the displacement, {height} x {width} pixels of the planes in movie "
                f"{movie.name} show both channels, less than the recipe's crop of {self._recipe.crop}. "
                "Choose a smaller crop, or checks.registration: report."
            )

    def _judge(self, movie: Movie, seen: list[tuple[Pair, list[PlaneQuality | None]]]) -> None:
        """List the movie's bad pairs."""
        for n, channel in enumerate(self._channels):
            there = [(pair, each[n]) for pair, each in seen]
            known = [(pair, one) for pair, one in there if one is not None]
            blurred, limit = blurred_ones([one.focus for _, one in known])
            for (pair, one), is_blurred in zip(known, blurred, strict=True):
                for kind, value, bound, why in _faults(one, limit, is_blurred=bool(is_blurred)):
                    self._bad.append(
                        BadPair(
                            movie.name, pair.name, channel, kind, value, bound, f"{channel} {why}"
                        )
                    )


def _faults(
    one: PlaneQuality, limit: float, *, is_blurred: bool
) -> Iterator[tuple[Kind, float, float, str]]:
    """Give what is wrong with planes: kind, figure, limit, words."""
    if one.signal < EMPTY_SIGNAL:
        told = f"structures of {max(one.signal, 0.0):.2g} times the noise's power"
        yield "empty", one.signal, EMPTY_SIGNAL, f"has nothing but noise: {told}."
    elif is_blurred:
        told = f"{math.exp(one.focus - limit):.2g} times the fine structure that its movie allows"
        yield "defocused", one.focus, limit, f"is out of focus: {told}."
    if one.saturated > SATURATED_SHARE:
        told = f"{one.saturated:.1%} of its pixels lie at its highest value"
        yield "saturated", one.saturated, SATURATED_SHARE, f"is saturated: {told}."


def correction_of(one: Registration, *, stretch: bool) -> Correction:
    """Return how a recipe's `shift` or `affine` corrects what was found."""
    if not one.told:
        return Correction()
    dz = round(one.dz_planes or 0.0)
    if stretch and one.affine is not None:
        return Correction.of_affine(one.affine, dz)
    # Bright and dark ridges disagree by the relief; the estimate is half-way, and the truth between them.
    least_px = max(_LEAST_SHIFT_PX, one.relief_px / 2)
    return without_small(Correction(dy=one.dy_px, dx=one.dx_px, dz=dz), least_px)


def _spread(items: Any, most: int) -> Any:
    """Return at most so many of a sequence's items, spread evenly."""
    if len(items) <= most:
        return items
    step = len(items) / most
    return [items[int((i + 0.5) * step)] for i in range(most)]


def _counts(plane: NDArray[Any]) -> tuple[float, float, float, float, float]:
    values = plane.astype(np.float64)
    return (
        float(values.size),
        float(values.mean()),
        float(np.mean(values**2)),
        float(values.min()),
        float(values.max()),
    )


def _together(
    planes: list[tuple[float, float, float, float, float]],
) -> tuple[float, float, float, float, float]:
    count, mean, square, low, high = np.array(planes).T
    weight = count / count.sum()
    return (
        float(count.sum()),
        float(weight @ mean),
        float(weight @ square),
        float(low.min()),
        float(high.max()),
    )

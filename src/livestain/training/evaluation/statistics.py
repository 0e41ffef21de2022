"""Numbers of images become tables: quantiles, means, intervals, and partners for the shuffled control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from livestain.metrics import frame_bootstrap, interval95

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["QUANTILES", "Summary", "partners", "summarise", "summarise_movies"]

QUANTILES = (5, 25, 50, 75, 95)
"""In per cent, as the papers' tables have them."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """One number over many images.

    Attributes
    ----------
    n : int
        Images on which it is defined.
    mean : float or None
        Over a movie: the mean over its images. Over movies: the mean over movies of that. None of no image.
    quantiles : tuple of float, or None
        At 5, 25, 50, 75 and 95 per cent, over images; infinite ones are counted as they are.
    interval : (float, float) or None
        95 % bootstrap interval of `mean`, over frames within the movies.
    interval_movies : (float, float) or None
        95 % bootstrap interval of `mean` over movies, and frames within them; None of fewer than 2 movies.
        With few movies it is rough, and rather too narrow.
    """

    n: int
    mean: float | None
    quantiles: tuple[float, ...] | None
    interval: Interval | None
    interval_movies: Interval | None = None


_NOTHING = Summary(0, None, None, None)


def partners(frames: Sequence[Hashable], *, seed: int = 0) -> list[int | None]:
    """Return another pair for each pair, at random but fixed: nobody is its own, all are once.

    Partners are of other frames where no frame has more than half of the pairs, since crops of one frame
    show the same cells.

    Parameters
    ----------
    frames : sequence of hashable
        The frame of each pair.
    seed : int
        Of the drawing.

    Returns
    -------
    list of int or None
        Place of the partner; None for a pair that is alone.
    """
    n = len(frames)
    if n < 2:
        return [None] * n
    rng = np.random.default_rng(seed)
    by_frame: dict[Hashable, list[int]] = {}
    for place in rng.permutation(n).tolist():
        by_frame.setdefault(frames[place], []).append(place)
    # Frames lie one after the other; a shift by the largest leads out of every frame.
    order = [place for members in by_frame.values() for place in members]
    shift = max(map(len, by_frame.values()))
    shift = shift if shift < n else 1
    found: list[int | None] = [None] * n
    for i, place in enumerate(order):
        found[place] = order[(i + shift) % n]
    return found


def summarise(values: NDArray[np.float64], frames: Sequence[Hashable]) -> Summary:
    """Return the summary of one number over the images of a movie, (images,); NaN is left out."""
    valid = ~np.isnan(values)
    if not valid.any():
        return _NOTHING
    kept = values[valid]
    finite = bool(np.isfinite(kept).all())
    chosen = [frame for frame, is_valid in zip(frames, valid, strict=True) if is_valid]
    return Summary(
        n=int(valid.sum()),
        mean=float(kept.mean()),
        quantiles=_quantiles(kept),
        interval=interval95(frame_bootstrap(kept, chosen)) if finite else None,
    )


def summarise_movies(
    values: Mapping[str, NDArray[np.float64]], frames: Mapping[str, Sequence[Hashable]]
) -> Summary:
    """Return the summary of one number over the images of several movies; NaN is left out.

    Parameters
    ----------
    values : dict of str to array of float64, (images,)
        By movie.
    frames : dict of str to sequence of hashable
        The frame of each image, by movie.
    """
    means, drawn, every = [], [], []
    for place, (movie, column) in enumerate(values.items()):
        valid = ~np.isnan(column)
        if valid.any():
            kept = column[valid]
            chosen = [f for f, is_valid in zip(frames[movie], valid, strict=True) if is_valid]
            means.append(float(kept.mean()))
            every.append(kept)
            # Each movie is drawn independently of the others.
            drawn.append(frame_bootstrap(kept, chosen, seed=place))
    if not means:
        return _NOTHING
    kept = np.concatenate(every)
    finite = bool(np.isfinite(kept).all())
    table = np.array(drawn)
    return Summary(
        n=len(kept),
        mean=float(np.mean(means)),
        quantiles=_quantiles(kept),
        interval=interval95(table.mean(axis=0)) if finite else None,
        interval_movies=_over_movies(table) if finite and len(means) > 1 else None,
    )


def _over_movies(drawn: NDArray[np.float64]) -> Interval:
    """Return the interval with movies drawn anew, and frames within each; `drawn` is (movies, draws)."""
    rng = np.random.default_rng(0)
    movies, draws = drawn.shape
    which = rng.integers(movies, size=(draws, movies))
    # A movie that is drawn twice brings other frames the second time.
    draw = rng.integers(draws, size=(draws, movies))
    return interval95(drawn[which, draw].mean(axis=1))


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    # "lower" never takes the mean of infinities of different sign, nor of one and a number.
    if np.isfinite(values).all():
        found = np.percentile(values, QUANTILES)
    else:
        found = np.percentile(values, QUANTILES, method="lower")
    return tuple(float(q) for q in found)

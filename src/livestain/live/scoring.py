"""How well a run's predictions agree with the truth, where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.metrics import no_learning_control, pearson

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from livestain.planes import PlaneIndex
    from livestain.store import Store

__all__ = ["ChannelScore", "bootstrap_interval", "score_store"]


@dataclass(frozen=True)
class ChannelScore:
    """Scores of one virtual channel against the truth.

    Attributes
    ----------
    planes : list of PlaneIndex
        Those that were scored: predicted, and with a known truth.
    pearson, control : list of float
        Pearson of prediction and of the no-learning control against the truth, by plane.
    """

    planes: list[PlaneIndex] = field(default_factory=list)
    pearson: list[float] = field(default_factory=list)
    control: list[float] = field(default_factory=list)


def score_store(
    store: Store, truth: Callable[[str, PlaneIndex], NDArray[Any] | None]
) -> dict[str, ChannelScore]:
    """Score every virtual plane of a store whose truth is known.

    Parameters
    ----------
    store : Store
        Open for reading.
    truth : callable
        ``truth(channel_name, index)`` gives the true plane (y, x), or None where nobody knows it.

    Returns
    -------
    dict
        By virtual channel; channels without any known truth are left out.
    """
    scores: dict[str, ChannelScore] = {}
    for c, channel in enumerate(store.plan.channels):
        if channel.virtual is None:
            continue
        source_c = store.plan.c_of(channel.virtual.source)
        there = store.present(c)
        score = ChannelScore()
        for index in store.plan.planned_indices(c):
            if not there[index.t, index.z]:
                continue
            true = truth(channel.name, index)
            if true is None:
                continue
            score.planes.append(index)
            score.pearson.append(pearson(store.read_decoded(index), true))
            control = no_learning_control(store.read(index.at(c=source_c)))
            score.control.append(pearson(control, true))
        if score.planes:
            scores[channel.name] = score
    return scores


def bootstrap_interval(
    values: list[float], *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean, after Efron 1979.

    Parameters
    ----------
    values : list of float
        Independent observations; at least one.
    draws : int
        Number of resamples.
    level : float
        Coverage.
    seed : int
        Of the resampling, so that a report can be repeated.
    """
    rng = np.random.default_rng(seed)
    sample = np.asarray(values)
    means = sample[rng.integers(0, len(sample), (draws, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)

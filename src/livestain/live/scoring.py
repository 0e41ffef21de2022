"""How well a run's predictions agree with the truth, where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.live.replay import ReplaySource
from livestain.metrics import (
    frame_bootstrap,
    frame_of_file,
    interval95,
    no_learning_control,
    pearson,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from livestain.planes import PlaneIndex
    from livestain.store import Store

__all__ = ["ChannelScore", "frames_of", "score_store"]


@dataclass(frozen=True)
class ChannelScore:
    """Scores of one virtual channel against the truth.

    Attributes
    ----------
    planes : list of PlaneIndex
        Those that were scored: predicted, and with a known truth.
    pearson, control : list of float
        Pearson of prediction and of the no-learning control against the truth, by plane.
    frames : list of hashable
        The frame of each plane: planes of one frame are not independent.
    """

    planes: list[PlaneIndex] = field(default_factory=list)
    pearson: list[float] = field(default_factory=list)
    control: list[float] = field(default_factory=list)
    frames: list[Hashable] = field(default_factory=list)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return 95 % bootstrap intervals over frames, as `livestain evaluate` has them.

        Returns
        -------
        dict
            (low, high) of the mean ``pearson`` and of the mean ``gain``, which is its difference from
            the control. With a single frame both ends are the mean itself.
        """
        means = frame_bootstrap(np.column_stack((self.pearson, self.control)), self.frames)
        return {
            "pearson": interval95(means[:, 0]),
            "gain": interval95(means[:, 0] - means[:, 1]),
        }


def score_store(
    store: Store,
    truth: Callable[[str, PlaneIndex], NDArray[Any] | None],
    *,
    frame_of: Callable[[PlaneIndex], Hashable] | None = None,
) -> dict[str, ChannelScore]:
    """Score every virtual plane of a store whose truth is known.

    Parameters
    ----------
    store : Store
        Open for reading.
    truth : callable
        ``truth(channel_name, index)`` gives the true plane (y, x), or None where nobody knows it.
    frame_of : callable, optional
        ``frame_of(index)`` gives the frame of a plane; its time point where left out. See `frames_of`.

    Returns
    -------
    dict
        By virtual channel; channels without any known truth are left out.
    """
    frame_of = frame_of or _time_point
    scores: dict[str, ChannelScore] = {}
    for c, channel in enumerate(store.plan.channels):
        if channel.virtual is None:
            continue
        source_c = store.plan.c_of(channel.virtual.source)
        there = store.present(c)
        score = ChannelScore()
        for index in store.plan.planned_indices(c):
            if not there[index.p, index.t, index.z]:
                continue
            true = truth(channel.name, index)
            if true is None:
                continue
            score.planes.append(index)
            score.frames.append(frame_of(index))
            score.pearson.append(pearson(store.read_decoded(index), true))
            control = no_learning_control(store.read(index.at(c=source_c)))
            score.control.append(pearson(control, true))
        if score.planes:
            scores[channel.name] = score
    return scores


def frames_of(core: CMMCorePlus) -> Callable[[PlaneIndex], Hashable]:
    """Return what says the frame of a run's plane, for `score_store`.

    Position and time point, since all z of one time point show the same cells; where the camera shows image
    files, the frame in the file's name, since crops of one frame do so too.
    """
    source = getattr(core, "source", None)
    if not isinstance(source, ReplaySource):
        return _time_point
    channel = source.channels[0]

    def of_file(index: PlaneIndex) -> Hashable:
        file = source.file(channel, index.t)
        # A store is one file for all time points.
        return _time_point(index) if file == source.path else frame_of_file(file.stem)

    return of_file


def _time_point(index: PlaneIndex) -> Hashable:
    return index.p, index.t

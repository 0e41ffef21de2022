"""One prediction from eight views of the same planes: mirrored, turned, turned back, averaged."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["VIEWS", "check_views", "stain_views"]

VIEWS = (1, 8)
"""How many views can be averaged: the planes as they are, or all ways to lay a rectangle down."""

_AXES: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))
"""Mirrored about none, y, x, or both, which is half a turn."""


def check_views(views: int) -> None:
    """Refuse a number of views that there is not.

    Raises
    ------
    SettingsError
        If it is neither 1 nor 8.
    """
    if views not in VIEWS:
        raise SettingsError(
            f"The number of views is {views}; expected 1, the planes as they are, or 8, with those mirrored "
            "and turned by quarters."
        )


def stain_views(
    predict: Callable[[NDArray[Any]], NDArray[np.float32]], planes: NDArray[Any], views: int = 1
) -> NDArray[np.float32]:
    """Predict from the planes of one window, in several views that are averaged.

    The geometric self-ensemble of Lim et al. 2017 (EDSR, arXiv 1707.02921), one kind of test-time
    augmentation (Wang et al. 2019, doi 10.1016/j.neucom.2019.01.103). It takes eight times as long. What
    lies mirrored or turned must look as cells may look: not so where the contrast has a direction, as that
    of DIC and of oblique light has, whose shadows all fall to one side.

    Parameters
    ----------
    predict : callable
        `Stainer.stain`, or the like: takes counts (planes, y, x) and gives float32 (outputs, [z], y, x), in
        the outputs' units, of the same sides. With 8 views it is given planes of (x, y) too, which differ
        in shape where the planes are not square.
    planes : array of uint8 or uint16, (planes, y, x)
        All planes are mirrored and turned alike, in y and x alone.
    views : {1, 8}
        1: what `predict` gives, untouched.

    Returns
    -------
    array of float32, (outputs, [z], y, x)

    Raises
    ------
    SettingsError
        If `views` is neither 1 nor 8.
    LivestainError
        As `predict`.
    """
    check_views(views)
    if views == 1:
        return predict(planes)
    # All of one shape first: where the sides differ, buffers and plans of the device change once.
    found = (
        _seen_back(predict(_seen(planes, axes, turned)), axes, turned)
        for turned, axes in itertools.product((False, True), _AXES)
    )
    total: NDArray[np.float32] = next(found).astype(np.float32)
    for one in found:
        total += one
    total /= np.float32(views)
    return total


def _seen(planes: NDArray[Any], axes: tuple[int, ...], turned: bool) -> NDArray[Any]:
    """Return planes mirrored about some axes, then, where `turned`, with y and x exchanged."""
    mirrored = np.flip(planes, axes)
    return np.ascontiguousarray(mirrored.swapaxes(-2, -1) if turned else mirrored)


def _seen_back(predicted: NDArray[Any], axes: tuple[int, ...], turned: bool) -> NDArray[Any]:
    """Undo `_seen`, in the opposite order."""
    return np.flip(predicted.swapaxes(-2, -1) if turned else predicted, axes)

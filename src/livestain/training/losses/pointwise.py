"""Losses that compare pixel with pixel, and the correlation of planes.

Shapes and masks: see `livestain.training.losses.masked`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.training.losses.masked import masked_mean, plane_mean, prepare, stacked

if TYPE_CHECKING:
    import torch

__all__ = ["l1", "mse", "one_minus_pearson", "pearson_by_plane"]

_TINY = 1e-8
"""Variance below which a plane counts as constant, in squared units of the target."""


def mse(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean squared error, a scalar."""
    prediction, target = prepare(prediction, target, mask)
    return plane_mean((prediction - target).square(), mask)


def l1(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean absolute error, a scalar."""
    prediction, target = prepare(prediction, target, mask)
    return plane_mean((prediction - target).abs(), mask)


def pearson_by_plane(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the Pearson correlation of each plane, or of each stack, over its pixels.

    Parameters
    ----------
    prediction, target : tensor, (n, outputs, [depth], y, x)
    mask : tensor, (n, outputs, [depth]), optional
        A stack is correlated over the planes that are there.

    Returns
    -------
    tensor, (n, outputs)
        float32, or float64 if one of the two is. Near 0, with a finite gradient, where either is constant
        or nothing is there.
    """
    prediction, target = prepare(prediction, target, mask)
    a, present = stacked(prediction, mask)
    b, _ = stacked(target, mask)
    pixels = present.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1) * a.shape[-2] * a.shape[-1]
    share = present / pixels
    a = a - (a * share).sum(dim=(2, 3, 4), keepdim=True)
    b = b - (b * share).sum(dim=(2, 3, 4), keepdim=True)
    covariance = (a * b * share).sum(dim=(2, 3, 4))
    variance_a = (a.square() * share).sum(dim=(2, 3, 4))
    variance_b = (b.square() * share).sum(dim=(2, 3, 4))
    # The tiny number lies inside the root, since the root's slope at 0 is infinite.
    return covariance / ((variance_a + _TINY) * (variance_b + _TINY)).sqrt()


def one_minus_pearson(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return 1 - Pearson correlation, the mean over planes or stacks, a scalar between 0 and 2."""
    by_plane = pearson_by_plane(prediction, target, mask)
    if mask is not None and mask.ndim == 3:
        mask = (mask > 0).any(dim=2)
    return masked_mean(1 - by_plane, mask)

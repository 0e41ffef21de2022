"""Losses: pure functions of prediction and target, both (n, outputs, y, x)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from livestain.training.losses.settings import LossWeights

__all__ = ["l1", "loss_terms", "mse", "one_minus_pearson", "pearson_by_plane"]

_TINY = 1e-8
"""Variance below which a plane counts as constant, in squared units of the target."""


def mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error, a scalar."""
    return (prediction - target).square().mean()


def l1(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error, a scalar."""
    return (prediction - target).abs().mean()


def pearson_by_plane(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the Pearson correlation of each plane over its pixels.

    Parameters
    ----------
    prediction, target : tensor, (n, outputs, y, x)

    Returns
    -------
    tensor, (n, outputs)
        Near 0, with a finite gradient, where either plane is constant.
    """
    a = prediction - prediction.mean(dim=(2, 3), keepdim=True)
    b = target - target.mean(dim=(2, 3), keepdim=True)
    covariance = (a * b).mean(dim=(2, 3))
    # The tiny number lies inside the root, since the root's slope at 0 is infinite.
    spread = ((a.square().mean(dim=(2, 3)) + _TINY) * (b.square().mean(dim=(2, 3)) + _TINY)).sqrt()
    return covariance / spread


def one_minus_pearson(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return 1 - Pearson correlation, the mean over planes, a scalar between 0 and 2."""
    return 1 - pearson_by_plane(prediction, target).mean()


_TERMS = {"mse": mse, "l1": l1, "pearson": one_minus_pearson}


def loss_terms(
    prediction: torch.Tensor, target: torch.Tensor, weights: LossWeights
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the weighted sum and each term by itself, unweighted; terms of weight 0 are left out.

    Parameters
    ----------
    prediction, target : tensor, (n, outputs, y, x)
        Of any floating dtype; computed in float32 at least.
    weights : LossWeights
        From the recipe.
    """
    prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
    target = target.to(prediction.dtype)
    terms = {
        name: term(prediction, target)
        for name, term in _TERMS.items()
        if getattr(weights, name) > 0
    }
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return total, terms

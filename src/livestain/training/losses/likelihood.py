"""Losses of networks that also say how far they may be off (Kendall and Gal 2017; Weigert 2018, CARE).

The network predicts the logarithm of the spread beside each target: of a Gaussian's standard deviation, or
of a Laplace distribution's mean absolute deviation.
"""

from __future__ import annotations

import math

import torch

from livestain.bundle.module import LOG_SPREAD_MAX, LOG_SPREAD_MIN
from livestain.training.losses.masked import plane_mean, prepare

__all__ = ["LOG_SPREAD_MAX", "LOG_SPREAD_MIN", "gaussian_nll", "laplace_nll"]


def gaussian_nll(
    prediction: torch.Tensor,
    log_spread: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean negative log-likelihood of the target under ``Normal(prediction, spread)``.

    Parameters
    ----------
    prediction, log_spread, target : tensor, (n, targets, [depth], y, x)
        The log-spread is clamped to `LOG_SPREAD_MIN` and `LOG_SPREAD_MAX`; its excess, squared, is added to
        the loss of the pixel, so that a gradient leads back between them.
    mask : tensor, (n, targets, [depth]), optional

    Returns
    -------
    tensor, scalar
        In nats a pixel; below 0 where the spread is small and right.
    """
    error, log_spread, excess = _parts(prediction, log_spread, target, mask)
    nll = 0.5 * (error * torch.exp(-log_spread)).square() + log_spread + 0.5 * math.log(2 * math.pi)
    return plane_mean(nll + excess, mask)


def laplace_nll(
    prediction: torch.Tensor,
    log_spread: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean negative log-likelihood of the target under ``Laplace(prediction, spread)``.

    Parameters and result as of `gaussian_nll`.
    """
    error, log_spread, excess = _parts(prediction, log_spread, target, mask)
    nll = error.abs() * torch.exp(-log_spread) + log_spread + math.log(2)
    return plane_mean(nll + excess, mask)


def _parts(
    prediction: torch.Tensor,
    log_spread: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the error, the clamped log-spread, and the square of what was clamped away."""
    log_spread, _ = prepare(log_spread, target, mask)
    prediction, target = prepare(prediction, target, mask)
    clamped = log_spread.clamp(LOG_SPREAD_MIN, LOG_SPREAD_MAX)
    return target - prediction, clamped, (log_spread - clamped).square()

"""The thresholding-normalised (TN) loss of Somani et al. 2021: an L1 that heeds bright pixels more.

Equation 1 of the paper, with what it leaves open as `TNSettings`. No public code of the authors uses it as
printed, so there is no other implementation to agree with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from livestain.errors import SettingsError
from livestain.training.losses.masked import plane_mean, prepare, promote, stacked

if TYPE_CHECKING:
    from livestain.training.losses.settings import TNSettings

__all__ = ["TNStatistics", "tn_l1", "tn_statistics", "tn_weight"]


class TNStatistics(NamedTuple):
    """What the weight is made of; each broadcasts against (n, targets, depth, y, x)."""

    mean: torch.Tensor
    std: torch.Tensor
    """Of the population: divided by the number of pixels."""

    minimum: torch.Tensor
    maximum: torch.Tensor


def tn_statistics(
    target: torch.Tensor, mask: torch.Tensor | None, settings: TNSettings
) -> TNStatistics:
    """Return mean, spread, minimum and maximum of the target over the scope of the settings.

    Parameters
    ----------
    target : tensor, (n, targets, [depth], y, x)
    mask : tensor, (n, targets, [depth]), or None
        Statistics are over the planes that are there; 0 where there are none.
    settings : TNSettings
        The scope `plane` gives a value for each n and target (over the whole stack for 3-D networks),
        `batch` and `data` for each target.

    Raises
    ------
    SettingsError
        If the scope is `data` and the statistics are not in the settings, or not for so many targets.
    """
    stack, present = stacked(target, mask)
    if settings.scope == "data":
        return _of_data(stack, settings)
    stack = torch.where(present > 0, stack, 0)
    over = (2, 3, 4) if settings.scope == "plane" else (0, 2, 3, 4)
    present = present.expand_as(stack)
    pixels = present.sum(dim=over, keepdim=True).clamp(min=1)
    mean = (stack * present).sum(dim=over, keepdim=True) / pixels
    variance = ((stack - mean).square() * present).sum(dim=over, keepdim=True) / pixels
    there = present > 0
    some = there.any(dim=2, keepdim=True).any(dim=3, keepdim=True).any(dim=4, keepdim=True)
    if settings.scope == "batch":
        some = some.any(dim=0, keepdim=True)
    low = torch.where(there, stack, torch.inf).amin(dim=over, keepdim=True)
    high = torch.where(there, stack, -torch.inf).amax(dim=over, keepdim=True)
    return TNStatistics(
        mean, variance.sqrt(), torch.where(some, low, 0), torch.where(some, high, 0)
    )


def _of_data(stack: torch.Tensor, settings: TNSettings) -> TNStatistics:
    values = []
    for name in TNStatistics._fields:
        given = getattr(settings, name)
        if given is None:
            raise SettingsError(
                f"loss.tn has the scope `data` without {name}. The training fills it in from all training "
                "data; give mean, std, minimum and maximum where you use the loss by itself."
            )
        numbers = torch.as_tensor(given, dtype=stack.dtype, device=stack.device).reshape(-1)
        if len(numbers) not in (1, stack.shape[1]):
            raise SettingsError(
                f"loss.tn.{name} has {len(numbers)} values for {stack.shape[1]} targets. Give one for all, "
                "or one for each."
            )
        values.append(numbers.view(1, -1, 1, 1, 1))
    return TNStatistics(*values)


def tn_weight(
    target: torch.Tensor, mask: torch.Tensor | None, settings: TNSettings
) -> torch.Tensor:
    """Return the weight of each pixel, from the target alone.

    Between the minimum and ``M1 = mean + std`` it rises from 0 to 0.2, up to ``M2 = mean + 3 std`` to 0.7,
    up to the maximum to 1. Values beyond minimum and maximum (under the scope `data`) weigh as these do.
    Where M2 lies beyond the maximum, as on bright patches, the weight of the maximum stays below 0.7;
    `TNSettings.clamp` draws M2 (and M1) to the maximum, so that it is 0.7 (or 0.2). A constant target
    weighs as its minimum does.

    Parameters
    ----------
    target : tensor, (n, targets, [depth], y, x)
    mask : tensor, (n, targets, [depth]), or None
    settings : TNSettings

    Returns
    -------
    tensor like the target
        In ``[floor, 1]``; or, with `TNSettings.normalise`, divided by its mean: of each plane (or stack)
        under the scope `plane`, else of all planes of a target in the batch. Without a gradient.
    """
    (target,) = promote(target.detach())
    mean, std, low, high = tn_statistics(target, mask, settings)
    stack, present = stacked(target, mask)
    # At least the minimum: rounding puts the mean of a constant plane beside its minimum.
    first, second = (mean + std).maximum(low), (mean + 3 * std).maximum(low)
    if settings.clamp:
        first, second = first.minimum(high), second.minimum(high)
    value = torch.where(present > 0, stack, low).clamp(low, high)
    # Each piece rises over its own interval alone and stays at its height beyond: the sum is
    # equation 1 without a case distinction, and the pieces meet by construction.
    weight = (
        0.2 * _way(value, low, first)
        + 0.5 * _way(value, first, second)
        + 0.3 * _way(value, second, high)
    )
    weight = weight.clamp(min=settings.floor)
    if settings.normalise:
        over = (2, 3, 4) if settings.scope == "plane" else (0, 2, 3, 4)
        share = present.expand_as(weight)
        average = (weight * share).sum(dim=over, keepdim=True)
        average = average / share.sum(dim=over, keepdim=True).clamp(min=1)
        # Equal weights are equal weights, also where the formula makes all of them 0.
        weight = torch.where(average > 0, weight / average, 1.0)
    return weight.view_as(target)


def _way(value: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Return how far a value is from start to end, 0 to 1; 0 where the interval is empty."""
    length = end - start
    there = length > 0
    way = (value - start) / torch.where(there, length, 1.0)
    return torch.where(there, way.clamp(0, 1), 0.0)


def tn_l1(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None,
    settings: TNSettings,
) -> torch.Tensor:
    """Return the mean of ``weight * |prediction - target|``, a scalar (Somani 2021, section 3)."""
    prediction, target = prepare(prediction, target, mask)
    return plane_mean(tn_weight(target, mask, settings) * (prediction - target).abs(), mask)

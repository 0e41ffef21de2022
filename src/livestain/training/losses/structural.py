"""Multi-scale structural similarity (Wang, Simoncelli, Bovik, Asilomar 2003) as a loss.

Our own and not that of torchmetrics: as a loss that one has an infinite gradient where a scale's
contrast-structure is 0, mirrors the border at the coarsest scale alone, and knows no mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from livestain.training.losses.gaussian import filter_axis, gaussian_kernel
from livestain.training.losses.masked import masked_mean, prepare

if TYPE_CHECKING:
    from livestain.training.losses.settings import SSIMSettings

__all__ = ["ms_ssim_by_plane", "one_minus_ms_ssim", "smallest_side"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang 2003, section 3.2)."""

_RADIUS, _SIGMA = 5, 1.5
"""The window: 11 x 11 pixels, Gaussian (Wang 2004)."""

_C1, _C2 = 0.01**2, 0.03**2
"""Against division by 0, for a data range of 1 (Wang 2004)."""

_FLOOR = 1e-3
"""Least similarity of a scale: its power to a broken number has no value below 0 and no finite slope at 0."""


def smallest_side(scales: int) -> int:
    """Return the side, in pixels, on whose coarsest scale one window still fits."""
    return int((2 * _RADIUS + 1) * 2 ** (scales - 1))


def ms_ssim_by_plane(
    prediction: torch.Tensor,
    target: torch.Tensor,
    settings: SSIMSettings,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the multi-scale structural similarity of each plane; planes of stacks one by one.

    Both are mapped so that ``low`` becomes 0 and ``high`` 1, and are not clipped: beyond the range the
    gradient goes on. Windows that stick out of the image are left out. Halving is the mean of 2 x 2 pixels.

    Parameters
    ----------
    prediction, target : tensor, (n, targets, [depth], y, x)
    settings : SSIMSettings
    mask : tensor, (n, targets, [depth]), optional

    Returns
    -------
    tensor, (n, targets, [depth])
        1 for equal planes; at least 0.001. Of no meaning where the mask is 0.

    Raises
    ------
    ValueError
        If a side is shorter than `smallest_side`; `check_loss` says so beforehand.
    """
    prediction, target = prepare(prediction, target, mask)
    least = smallest_side(settings.scales)
    if min(target.shape[-2:]) < least:
        raise ValueError(
            f"MS-SSIM of {settings.scales} scales takes sides of {least} pixels and more; given "
            f"{tuple(target.shape[-2:])}."
        )
    scale = 1 / (settings.high - settings.low)
    shape = target.shape
    x, y = (
        ((image - settings.low) * scale).reshape(-1, *shape[-2:]) for image in (prediction, target)
    )
    weights = _WEIGHTS[: settings.scales]
    similarity = torch.ones(len(x), dtype=x.dtype, device=x.device)
    for n, weight in enumerate(weights):
        if n:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        luminance, structure = _ssim_maps(x, y)
        last = n == len(weights) - 1
        of_scale = (luminance * structure if last else structure).mean(dim=(1, 2))
        similarity = similarity * of_scale.clamp(min=_FLOOR) ** (weight / sum(weights))
    return similarity.view(shape[:-2])


def _ssim_maps(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return luminance, and contrast times structure, of each whole window of (n, y, x)."""
    # Variances do not depend on a constant, but as differences of squares they lose their digits to it.
    middle = y.mean(dim=(1, 2), keepdim=True)
    x, y = x - middle, y - middle
    mean_x, mean_y, xx, yy, xy = _window(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    variances = xx - mean_x.square() + yy - mean_y.square()
    structure = (2 * (xy - mean_x * mean_y) + _C2) / (variances + _C2)
    mean_x, mean_y = mean_x + middle, mean_y + middle
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    return luminance, structure


def _window(images: torch.Tensor) -> torch.Tensor:
    kernel = gaussian_kernel(_SIGMA, _RADIUS, images)
    return filter_axis(filter_axis(images, kernel, 1), kernel, 2)


def one_minus_ms_ssim(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None,
    settings: SSIMSettings,
) -> torch.Tensor:
    """Return 1 - multi-scale structural similarity, the mean over planes, a scalar between 0 and 1."""
    return masked_mean(1 - ms_ssim_by_plane(prediction, target, settings, mask), mask)

"""Fitting frames of any size and pixel size to a network, and its predictions back to the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    import torch

__all__ = ["pad_to_grid", "resample", "resample_depth"]


def pad_to_grid(x: torch.Tensor, divisor: int) -> torch.Tensor:
    """Reflect at the bottom and the right until both sides are multiples of `divisor`.

    Parameters
    ----------
    x : torch.Tensor, (n, channels, y, x) or (n, channels, z, y, x)
        Any real dtype; sides of 1 and more. At the top and the left nothing is added, so that the
        network's pooling grid lies where it lay in training.
    divisor : int
        Of both sides, in pixels.
    """
    while True:
        height, width = x.shape[-2:]
        down, right = -height % divisor, -width % divisor
        if not down and not right:
            return x
        # One reflection gives at most side - 1 new pixels, so a tiny frame needs several.
        down, right = min(down, max(height - 1, 1)), min(right, max(width - 1, 1))
        mode = "reflect" if (height > 1 or not down) and (width > 1 or not right) else "replicate"
        sides = (0, right, 0, down) if x.ndim == 4 else (0, right, 0, down, 0, 0)
        x = functional.pad(x, sides, mode=mode)


def resample(x: torch.Tensor, shape_yx: tuple[int, int]) -> torch.Tensor:
    """Resample float32 (n, …, y, x) bilinearly in y and x; what shrinks is averaged, not skipped."""
    planes = functional.interpolate(
        x.flatten(1, -3), size=shape_yx, mode="bilinear", align_corners=False, antialias=True
    )
    return planes.reshape(*x.shape[:-2], *shape_yx)


def resample_depth(x: torch.Tensor, depth: int) -> torch.Tensor:
    """Resample (n, channels, z, y, x) float32 along z, linearly; what shrinks is averaged."""
    planes = x.flatten(3)
    resampled = resample(planes, (depth, planes.shape[3]))
    return resampled.reshape(*x.shape[:2], depth, *x.shape[3:])

"""Fitting frames of any size and pixel size to a network, and its predictions back to the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    import torch

__all__ = ["pad_to_grid", "resample"]


def pad_to_grid(x: torch.Tensor, divisor: int) -> torch.Tensor:
    """Reflect at the bottom and the right until both sides are multiples of `divisor`.

    Parameters
    ----------
    x : torch.Tensor, (n, channels, y, x)
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
        x = functional.pad(x, (0, right, 0, down), mode=mode)


def resample(x: torch.Tensor, shape_yx: tuple[int, int]) -> torch.Tensor:
    """Resample (n, channels, y, x) float32 bilinearly; what shrinks is averaged, not skipped."""
    return functional.interpolate(
        x, size=shape_yx, mode="bilinear", align_corners=False, antialias=True
    )

"""A plain 2-D U-Net with batch normalisation, after Ronneberger et al. 2015 (arXiv:1505.04597)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["UNet2d"]


class _DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU; size-preserving."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UNet2d(nn.Module):
    """U-Net: `depth` max-poolings by 2, nearest-neighbour upsampling, concatenating skips.

    Parameters
    ----------
    in_channels : int
        Input planes (the window's planes of one source channel).
    out_channels : int
        Predicted channels.
    width : int
        Feature maps at full resolution; doubled at each level.
    depth : int
        Number of poolings; the sides of an input must be multiples of ``2 ** depth``.
    dropout : float
        Probability of dropping a whole feature map at the bottom, while training.
    """

    dims = 2

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 16,
        depth: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.divisor = 2**depth
        # The two 3x3 convolutions of a level see 2 of its pixels on either side, on the way down and
        # on the way up. Adding these, and the pixels that pooling and nearest upsampling shift by,
        # over all levels gives, at the worst place on the pooling grid:
        self.halo = 7 * 2**depth - 5
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _DoubleConv(a, b) for a, b in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(
            _DoubleConv(widths[level + 1] + widths[level], widths[level])
            for level in reversed(range(depth))
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, y, x) to (n, out_channels, y, x)."""
        skips: list[torch.Tensor] = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.drop(self.down[-1](x))
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat((self.upsample(x), skip), dim=1))
        head: torch.Tensor = self.head(x)
        return head

"""The generator of pix2pix, U-Net-256: Isola et al. 2017 (arXiv:1611.07004)."""

from __future__ import annotations

import torch
from torch import nn

from livestain.networks.layers import normal_weights
from livestain.networks.reach import Step, halo

__all__ = ["Pix2PixUNet"]


class Pix2PixUNet(nn.Module):
    """U-Net of stride-2 convolutions of 4x4, down to one pixel of a 256 px crop and up again.

    54.41 million parameters. Somani et al. 2021 train it without dropout for OMP25 in H9c2, with a
    70 px PatchGAN as the other player. The innermost convolution has no batch normalisation:
    with one 256 px crop in the batch it would be left with a single value a feature map.

    Isola et al. end with tanh on images scaled to -1 ... 1; our targets are normalised otherwise and
    have no bounds, so tanh is an option.

    Parameters
    ----------
    in_channels : int
        Input planes.
    out_channels : int
        Predicted channels.
    width : int
        Feature maps of the outermost convolution; doubled at each level up to eight times.
    depth : int
        Number of halvings; the sides of an input must be multiples of ``2 ** depth``. At least 2.
    dropout : float
        Probability of dropping a value in the three (at most) innermost levels on the way up where
        the feature maps are widest, while training; Isola et al. 0.5, Somani et al. none.
    tanh : bool
        Whether the output is squeezed into -1 ... 1.

    Raises
    ------
    ValueError
        If `depth` is below 2.
    """

    dims = 2

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        depth: int = 8,
        dropout: float = 0.0,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is {depth}; it must be at least 2.")
        maps = [width * min(2**level, 8) for level in range(depth)]
        down: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1, bias=False)]
        up: list[nn.Module] = []
        for level in range(1, depth):
            before, after = maps[level - 1], maps[level]
            innermost = level == depth - 1
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
            norm = [] if innermost else [nn.BatchNorm2d(after)]
            down.append(nn.Sequential(nn.LeakyReLU(0.2), convolution, *norm))
            # The skip comes in beside what rises from below; the innermost level has no skip.
            rising = after if innermost else 2 * after
            drops = depth - 4 <= level < depth - 1
            up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(rising, before, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(before),
                    *([nn.Dropout(dropout)] if drops and dropout else []),
                )
            )
        self.down = nn.ModuleList(down)
        self.up = nn.ModuleList(reversed(up))
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, out_channels, 4, stride=2, padding=1),
            *([nn.Tanh()] if tanh else []),
        )
        normal_weights(self)

        self.divisor = 2**depth
        self.halo = halo(
            [Step(4, 2, padding=1)] * depth + [Step(4, 2, padding=1, transposed=True)] * depth
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, y, x) to (n, out_channels, y, x)."""
        skips: list[torch.Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = skips.pop()
        for block in self.up:
            x = torch.cat((skips.pop(), block(x)), dim=1)
        head: torch.Tensor = self.head(x)
        return head

"""The discriminator of pix2pix: Isola et al. 2017 (arXiv:1611.07004)."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from livestain.networks.layers import normal_weights

__all__ = ["PatchGAN70"]


class PatchGAN70(nn.Module):
    """Judge each patch of 70x70 px: (n, in_channels, y, x) to (n, 1, y', x') logits.

    A side of 256 px gives 30 logits. The input of a conditional discriminator is source and target,
    concatenated; 2.76 million parameters with one of each. The sigmoid is left to the loss.

    Parameters
    ----------
    in_channels : int
        Channels judged together: source planes and targets.
    out_channels : int
        Logits for each patch.
    width : int
        Feature maps of the first convolution.
    layers : int
        Convolutions of stride 2; 3 give the 70 px of the name.
    """

    dims = 2
    divisor = 1

    def __init__(
        self, in_channels: int = 2, out_channels: int = 1, width: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        maps = [width * min(2**layer, 8) for layer in range(layers + 1)]
        blocks: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for layer, (before, after) in enumerate(itertools.pairwise(maps), start=1):
            blocks += [
                nn.Conv2d(
                    before, after, 4, stride=2 if layer < layers else 1, padding=1, bias=False
                ),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(maps[-1], out_channels, 4, padding=1))
        normal_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, y, x) to logits (n, out_channels, y', x')."""
        logits: torch.Tensor = self.blocks(x)
        return logits

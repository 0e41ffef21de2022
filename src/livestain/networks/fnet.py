"""fnet, the U-Net of label-free prediction: Ounkomol et al. 2018 (10.1038/s41592-018-0111-2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from livestain.networks.layers import BATCH_NORM, CONV, TRANSPOSED, conv_norm_relu, normal_weights
from livestain.networks.reach import Step, halo, shrink, stretch

__all__ = ["FNet", "FNet2d", "FNet3d"]


class FNet(nn.Module):
    """U-Net with strided convolutions down, transposed ones up, and concatenating skips.

    Every convolution has a bias, batch normalisation and ReLU, apart from the bare 3-pixel one at
    the end; the bias is useless beside the normalisation, but the published count includes it.

    Parameters
    ----------
    in_channels : int
        Input channels (2-D: sources times planes; 3-D: sources).
    out_channels : int
        Predicted channels.
    width : int
        Feature maps at full resolution; doubled at each level.
    depth : int
        Number of halvings; every side of an input must be a multiple of ``2 ** depth``.
    convolutions : int
        Convolutions of kernel 3 a level, on the way down and on the way up.
    """

    dims: ClassVar[int]

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 4,
        convolutions: int = 2,
    ) -> None:
        super().__init__()
        dims = self.dims
        maps = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            conv_norm_relu(dims, [before] + [after] * convolutions, bias=True)
            for before, after in zip([in_channels, *maps], maps, strict=False)
        )
        self.halve = nn.ModuleList(
            nn.Sequential(
                CONV[dims](each, each, 2, stride=2), BATCH_NORM[dims](each), nn.ReLU(inplace=True)
            )
            for each in maps[:-1]
        )
        self.rise = nn.ModuleList(
            nn.Sequential(
                TRANSPOSED[dims](2 * each, each, 2, stride=2),
                BATCH_NORM[dims](each),
                nn.ReLU(inplace=True),
            )
            for each in reversed(maps[:-1])
        )
        self.up = nn.ModuleList(
            conv_norm_relu(dims, [2 * each] + [each] * convolutions, bias=True)
            for each in reversed(maps[:-1])
        )
        self.head = CONV[dims](width, out_channels, 3, padding=1)
        normal_weights(self)

        level = [Step(3, padding=1)] * convolutions
        path = [*level, shrink(2)] * depth + level + [stretch(2), *level] * depth
        self.divisor: int = 2**depth
        self.halo = halo([*path, Step(3, padding=1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, [z,] y, x) to (n, out_channels, [z,] y, x)."""
        skips: list[torch.Tensor] = []
        for block, halve in zip(self.down, self.halve, strict=False):
            skips.append(block(x))
            x = halve(skips[-1])
        x = self.down[-1](x)
        for rise, block in zip(self.rise, self.up, strict=True):
            x = block(torch.cat((skips.pop(), rise(x)), dim=1))
        head: torch.Tensor = self.head(x)
        return head


class FNet2d(FNet):
    """fnet for single planes, 8.1 million parameters: (n, c, y, x) in and out.

    A pixel sees at least 188 px of each side, the figure that its authors state.
    """

    dims = 2


class FNet3d(FNet):
    """fnet for stacks, 23,280,769 parameters: (n, c, z, y, x) in and out.

    Ounkomol et al. train it on patches of 32x64x64 voxels of 0.3 um.
    """

    dims = 3

    @property
    def divisor_z(self) -> int:
        """The planes of an input must be a multiple of this."""
        return self.divisor

    @property
    def halo_z(self) -> int:
        """Planes of context beyond which a voxel's value does not depend on the input."""
        return self.halo

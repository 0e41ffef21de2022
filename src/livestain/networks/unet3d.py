"""The 3-D form of the plain U-Net, after Çiçek et al. 2016 (arXiv:1606.06650)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from livestain.networks.layers import conv_norm_relu
from livestain.networks.reach import Step, halo, shrink, stretch

__all__ = ["UNet3d"]


class UNet3d(nn.Module):
    """U-Net: max-pooling, nearest-neighbour upsampling, concatenating skips; z pooled last.

    A voxel of most stacks is longer in z than in y and x, and many stacks have few planes: only the
    coarsest `depth_z` of the `depth` poolings halve z as well. In a movie z is time.

    Parameters
    ----------
    in_channels : int
        Sources.
    out_channels : int
        Predicted channels.
    width : int
        Feature maps at full resolution; doubled at each level.
    depth : int
        Number of poolings; y and x of an input must be multiples of ``2 ** depth``.
    depth_z : int
        How many of them pool z too; its planes must be a multiple of ``2 ** depth_z``.

    Raises
    ------
    ValueError
        If `depth_z` is not between 0 and `depth`.
    """

    dims = 3

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 16,
        depth: int = 4,
        depth_z: int = 2,
    ) -> None:
        super().__init__()
        if not 0 <= depth_z <= depth:
            raise ValueError(f"depth_z is {depth_z}; it must be between 0 and depth, {depth}.")
        maps = [width * 2**level for level in range(depth + 1)]
        factors = [(2 if level >= depth - depth_z else 1, 2, 2) for level in range(depth)]
        self.down = nn.ModuleList(
            conv_norm_relu(3, [before, after, after], bias=False)
            for before, after in zip([in_channels, *maps], maps, strict=False)
        )
        self.pool = nn.ModuleList(nn.MaxPool3d(factor) for factor in factors)
        self.upsample = nn.ModuleList(
            nn.Upsample(scale_factor=tuple(map(float, factor)), mode="nearest")
            for factor in reversed(factors)
        )
        self.up = nn.ModuleList(
            conv_norm_relu(3, [below + here, here, here], bias=False)
            for here, below in reversed(list(pairwise(maps)))
        )
        self.head = nn.Conv3d(width, out_channels, 1)

        level = [Step(3, padding=1)] * 2
        self.divisor = 2**depth
        self.halo = halo([*level, shrink(2)] * depth + level + [stretch(2), *level] * depth)
        flat, deep = level * (depth - depth_z), depth_z
        down, up = [*level, shrink(2)] * deep, [stretch(2), *level] * deep
        self.divisor_z = 2**depth_z
        self.halo_z = halo(flat + down + level + up + flat)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, z, y, x) to (n, out_channels, z, y, x)."""
        skips: list[torch.Tensor] = []
        for block, pool in zip(self.down, self.pool, strict=False):
            skips.append(block(x))
            x = pool(skips[-1])
        x = self.down[-1](x)
        for upsample, block in zip(self.upsample, self.up, strict=True):
            x = block(torch.cat((upsample(x), skips.pop()), dim=1))
        head: torch.Tensor = self.head(x)
        return head

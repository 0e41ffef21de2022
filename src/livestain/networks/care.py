"""The U-Net of CARE, Weigert et al. 2018 (10.1038/s41592-018-0216-7), as label2label uses it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from livestain.networks.layers import CONV, MAX_POOL
from livestain.networks.reach import Step, halo, shrink, stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Care", "Care2d", "Care3d"]


class Care(nn.Module):
    """A shallow U-Net without normalisation whose output is a correction of its input.

    Two convolutions with ReLU a level, max-pooling, nearest-neighbour upsampling, concatenating
    skips; the last convolution of the bottom and of each level upwards already halves the feature
    maps. A bare 1-pixel convolution ends it, to which the input is added.

    Parameters
    ----------
    in_channels : int
        Input channels (2-D: sources times planes; 3-D: sources).
    out_channels : int
        Predicted channels; twice the targets where a spread is predicted too (the paper's
        probabilistic head, whose likelihood lives with the losses).
    width : int
        Feature maps at full resolution; doubled at each level.
    depth : int
        Number of poolings; every side of an input must be a multiple of ``2 ** depth``.
    kernel : int, optional
        Side of a convolution, odd; by default the papers', 5 in 2-D and 3 in 3-D.
    residual : sequence of int, optional
        Input channel i = ``residual[k]`` is added to output k; outputs beyond the sequence get
        nothing. By default every input is added to its output where there are as many outputs as
        inputs, and none is otherwise. ``[0]`` fits one source with a spread, ``[2]`` a window
        of five planes around the predicted one, ``[]`` a target unlike the source.

    Raises
    ------
    ValueError
        If `kernel` is even, or `residual` names more outputs or other inputs than there are.
    """

    dims: ClassVar[int]
    default_kernel: ClassVar[int]

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 2,
        kernel: int | None = None,
        residual: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        side = self.default_kernel if kernel is None else kernel
        if side % 2 == 0:
            raise ValueError(f"The kernel is {side}; it must be odd.")
        if residual is None:
            residual = range(in_channels if in_channels == out_channels else 0)
        self.residual = tuple(residual)
        if len(self.residual) > out_channels or not set(self.residual) <= set(range(in_channels)):
            raise ValueError(
                f"residual is {list(self.residual)}; it must name at most {out_channels} of the "
                f"input channels 0 to {in_channels - 1}, one for each output from the first."
            )
        dims = self.dims
        maps = [width * 2**level for level in range(depth + 1)]

        def block(*each: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    layer
                    for before, after in pairwise(each)
                    for layer in (CONV[dims](before, after, side, padding=side // 2), nn.ReLU())
                )
            )

        self.down = nn.ModuleList(
            block(before, after, after)
            for before, after in zip([in_channels, *maps], maps[:-1], strict=False)
        )
        # What leaves a level upwards has the feature maps of the level above.
        ends = [width, *maps[:-1]]
        self.bottom = block(maps[-2] if depth else in_channels, maps[-1], ends[-1])
        self.up = nn.ModuleList(
            block(2 * maps[level], maps[level], ends[level]) for level in reversed(range(depth))
        )
        self.pool = MAX_POOL[dims](2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = CONV[dims](width, out_channels, 1)

        level = [Step(side, padding=side // 2)] * 2
        self.divisor: int = 2**depth
        self.halo = halo([*level, shrink(2)] * depth + level + [stretch(2), *level] * depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, [z,] y, x) to (n, out_channels, [z,] y, x)."""
        sources = [x[:, channel : channel + 1] for channel in self.residual]
        skips: list[torch.Tensor] = []
        for block in self.down:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for block in self.up:
            x = block(torch.cat((self.upsample(x), skips.pop()), dim=1))
        head: torch.Tensor = self.head(x)
        if not sources:
            return head
        corrected = head[:, : len(sources)] + torch.cat(sources, dim=1)
        return torch.cat((corrected, head[:, len(sources) :]), dim=1)


class Care2d(Care):
    """CARE for planes, 0.92 million parameters, kernel 5: (n, c, y, x) in and out."""

    dims = 2
    default_kernel = 5


class Care3d(Care):
    """CARE for stacks, 1.0 million parameters, kernel 3: (n, c, z, y, x) in and out."""

    dims = 3
    default_kernel = 3

    @property
    def divisor_z(self) -> int:
        """The planes of an input must be a multiple of this."""
        return self.divisor

    @property
    def halo_z(self) -> int:
        """Planes of context beyond which a voxel's value does not depend on the input."""
        return self.halo

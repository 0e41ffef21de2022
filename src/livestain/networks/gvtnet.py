"""GVTNet, a U-Net with linear attention: Wang et al. 2021 (10.1038/s42256-020-00283-x)."""

from __future__ import annotations

import itertools
from typing import ClassVar, Literal

import torch
from torch import nn

from livestain.networks.layers import BATCH_NORM, CONV, TRANSPOSED

__all__ = ["GVTNet", "GVTNet2d", "GVTNet3d", "GlobalVoxelTransformer", "linear_attention"]

_MOMENTUM = 1 - 0.997  # the published momentum weighs the old statistics, torch's the new


def linear_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend without softmax: for each query, the mean over places of (query . key) * value.

    Without a softmax the product is associative, so the (places x places) matrix is never made, and
    the cost grows with the number of places instead of its square.

    Parameters
    ----------
    query : torch.Tensor, (n, heads, d, queries)
        Scaled here by ``d ** -0.5``.
    key, value : torch.Tensor, (n, heads, d, places)
        What is attended to.

    Returns
    -------
    torch.Tensor, (n, heads, d, queries)
    """
    # Half of the division by the number of places on either side of the sum: float16 then neither
    # overflows in the sum nor underflows before it.
    share: float = key.shape[-1] ** -0.5
    mixed = (value * share) @ (key * share).transpose(-1, -2)
    attended: torch.Tensor = mixed @ (query * query.shape[-2] ** -0.5)
    return attended


def _before(dims: int, maps: int) -> nn.Sequential:
    """Return what comes before a convolution in a pre-activated network."""
    return nn.Sequential(BATCH_NORM[dims](maps, momentum=_MOMENTUM), nn.ReLU6(inplace=True))


def _resample(dims: int, before: int, after: int, kind: Literal["down", "up"]) -> nn.Module:
    """Halve by a strided or double by a transposed convolution of kernel 3."""
    if kind == "down":
        return CONV[dims](before, after, 3, stride=2, padding=1)
    return TRANSPOSED[dims](before, after, 3, stride=2, padding=1, output_padding=1)


class GlobalVoxelTransformer(nn.Module):
    """The global voxel transformer operator: every output voxel sees every input voxel.

    Queries, keys and values come from the pre-activated input by 1-pixel convolutions with bias;
    a down or up operator takes its queries and its residual path through a strided or a transposed
    convolution of kernel 3 instead, so that the output has the new size.

    Parameters
    ----------
    dims : int
        2 or 3.
    before, after : int
        Feature maps of input and output; equal for kind "same".
    kind : {"same", "down", "up"}
        Whether the sides are kept, halved or doubled.
    heads : int
        Attention heads; must divide `after`.
    """

    def __init__(
        self,
        dims: int,
        before: int,
        after: int,
        kind: Literal["same", "down", "up"] = "same",
        heads: int = 1,
    ) -> None:
        super().__init__()
        if after % heads:
            raise ValueError(f"{heads} heads do not divide {after} feature maps.")
        self.heads = heads
        self.before = _before(dims, before)
        self.query: nn.Module
        self.residual: nn.Module | None
        if kind == "same":
            self.query, self.residual = CONV[dims](before, after, 1), None
        else:
            self.query = _resample(dims, before, after, kind)
            self.residual = _resample(dims, before, after, kind)
        self.key = CONV[dims](before, after, 1)
        self.value = CONV[dims](before, after, 1)
        self.out = CONV[dims](after, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, before, [z,] y, x) to (n, after, [z,] y, x), the sides by kind."""
        active = self.before(x)
        query = self.query(active)
        attended = linear_attention(
            self._by_head(query), self._by_head(self.key(active)), self._by_head(self.value(active))
        )
        kept = x if self.residual is None else self.residual(active)
        result: torch.Tensor = kept + self.out(attended.reshape(query.shape))
        return result

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        return torch.unflatten(x.flatten(2), 1, (self.heads, x.shape[1] // self.heads))


class _Residual(nn.Module):
    """Pre-activated residual block; the shortcut is a 1-pixel convolution where shapes change."""

    def __init__(self, dims: int, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.before = _before(dims, before)
        self.body = nn.Sequential(
            CONV[dims](before, after, 3, stride=stride, padding=1, bias=False),
            *_before(dims, after),  # side by side with the convolution, so that it can be folded
            CONV[dims](after, after, 3, padding=1, bias=False),
        )
        changes = stride > 1 or before != after
        self.shortcut = CONV[dims](before, after, 1, bias=False) if changes else None
        # The stride is taken by slicing: in torch 2.13 on CPUs, the backward pass of a strided 1-pixel
        # convolution of a few channels-last feature maps writes beyond its memory.
        self.kept = (..., *[slice(None, None, stride)] * dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = self.before(x)
        kept = x if self.shortcut is None else self.shortcut(active[self.kept])
        result: torch.Tensor = kept + self.body(active)
        return result


class GVTNet(nn.Module):
    """Residual U-Net with additive skips and global voxel transformer operators.

    The label-free configuration of the paper is the default: `depth` resolutions, of which a
    strided residual block makes each next, one residual block a level upwards, and a single
    size-preserving operator at the bottom. Attention reaches the whole frame: `halo` is None.

    Parameters
    ----------
    in_channels : int
        Input channels (2-D: sources times planes; 3-D: sources).
    out_channels : int
        Predicted channels.
    width : int
        Feature maps at full resolution; doubled at each level.
    depth : int
        Number of resolutions; every side of an input must be a multiple of ``2 ** (depth - 1)``.
    heads : int
        Attention heads of each operator.
    bottom, down, up : bool
        Whether an operator is used at the bottom, in place of each strided block, and in place of
        each transposed convolution.
    """

    dims: ClassVar[int]
    halo = None

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 4,
        heads: int = 1,
        bottom: bool = True,
        down: bool = False,
        up: bool = False,
    ) -> None:
        super().__init__()
        dims = self.dims
        maps = [width * 2**level for level in range(depth)]
        self.divisor: int = 2 ** (depth - 1)
        self.stem = CONV[dims](in_channels, width, 3, padding=1, bias=False)
        self.first = _Residual(dims, width, width)
        self.down = nn.ModuleList(
            GlobalVoxelTransformer(dims, above, below, "down", heads)
            if down
            else _Residual(dims, above, below, stride=2)
            for above, below in itertools.pairwise(maps)
        )
        self.bottom = (
            GlobalVoxelTransformer(dims, maps[-1], maps[-1], "same", heads)
            if bottom
            else nn.Identity()
        )
        self.up = nn.ModuleList(
            GlobalVoxelTransformer(dims, below, above, "up", heads)
            if up
            else _resample(dims, below, above, "up")
            for above, below in reversed(list(itertools.pairwise(maps)))
        )
        self.mix = nn.ModuleList(_Residual(dims, each, each) for each in reversed(maps[:-1]))
        self.head = nn.Sequential(
            _before(dims, width), CONV[dims](width, out_channels, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, [z,] y, x) to (n, out_channels, [z,] y, x)."""
        x = self.first(self.stem(x))
        skips: list[torch.Tensor] = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, mix in zip(self.up, self.mix, strict=True):
            x = mix(up(x) + skips.pop())
        head: torch.Tensor = self.head(x)
        return head


class GVTNet2d(GVTNet):
    """GVTNet for planes: (n, c, y, x) in and out."""

    dims = 2


class GVTNet3d(GVTNet):
    """GVTNet for stacks, 6.17 million parameters: (n, c, z, y, x) in and out."""

    dims = 3
    halo_z = None

    @property
    def divisor_z(self) -> int:
        """The planes of an input must be a multiple of this."""
        return self.divisor

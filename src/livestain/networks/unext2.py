"""An encoder-decoder of UNeXt2's kind, Liu et al. 2025 (10.1038/s42256-025-01046-2), our own code."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn

from livestain.networks.layers import equal_subpixels
from livestain.networks.reach import Step, halo, shrink, stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UNeXt2"]

_PATCH = 4  # side of the square of pixels that the stem makes one, as in ConvNeXt


class _LayerNorm(nn.LayerNorm):
    """Layer normalisation over the feature maps of each pixel of (n, c, y, x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = super().forward(x.permute(0, 2, 3, 1))
        return last.permute(0, 3, 1, 2)


class _ResponseNorm(nn.Module):
    """Global response normalisation: a map's strength over the frame against the other maps'."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, maps, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, maps, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The published form takes the root of the sum; the mean gives the same ratio, whatever the
        # size of the frame, and does not overflow in float16.
        strength = x.float().square().mean(dim=(2, 3), keepdim=True).add(1e-12).sqrt()
        share = strength / (strength.mean(dim=1, keepdim=True) + 1e-6)
        factor = 1 + self.gamma * share
        return x * factor.to(x.dtype) + self.beta.to(x.dtype)


class _Block(nn.Module):
    """ConvNeXt V2's block: depthwise 7x7, layer norm, wide 1x1, GELU, response norm, 1x1, added."""

    def __init__(self, maps: int, *, response_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(maps, maps, 7, padding=3, groups=maps),
            _LayerNorm(maps, eps=1e-6),
            nn.Conv2d(maps, 4 * maps, 1),
            nn.GELU(),
            _ResponseNorm(4 * maps) if response_norm else nn.Identity(),
            nn.Conv2d(4 * maps, maps, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.body(x)
        return result


class _Stem(nn.Module):
    """Project a window of planes and squares of 4x4 px onto feature maps.

    It computes the 3-D convolution of UNeXt2 with the planes beside the batch, as a 2-D one: a
    network with weights of four axes alone can be laid out channels-last.
    """

    def __init__(self, in_channels: int, width: int, planes: int, together: int) -> None:
        super().__init__()
        slots = planes // together
        if in_channels % planes or planes % together or width % slots:
            raise ValueError(
                f"The stem cannot lay {in_channels} input channels of {planes} planes a source, "
                f"{together} at a time, on {width} feature maps: planes must divide in_channels, "
                f"stem_planes divide planes, and planes / stem_planes divide width."
            )
        self.sources, self.slots, self.together = in_channels // planes, slots, together
        self.project = nn.Conv2d(self.sources * together, width // slots, _PATCH, stride=_PATCH)
        self.norm = _LayerNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.slots > 1:
            x = torch.unflatten(x, 1, (self.sources, self.slots, self.together))
            x = self.project(x.transpose(1, 2).flatten(2, 3).flatten(0, 1))
            # Slot by slot: the maps of the first planes, then those of the next.
            x = torch.unflatten(x, 0, (-1, self.slots)).flatten(1, 2)
        else:
            x = self.project(x)
        projected: torch.Tensor = self.norm(x)
        return projected


class _Up(nn.Module):
    """Pixel-shuffle from the level below, joined with the skip of this one."""

    def __init__(self, below: int, here: int) -> None:
        super().__init__()
        self.rise = nn.Sequential(
            equal_subpixels(nn.Conv2d(below, 4 * here, 1), 2), nn.PixelShuffle(2)
        )
        self.join = nn.Conv2d(2 * here, here, 1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.join(torch.cat((self.rise(x), skip), dim=1))
        return joined


class UNeXt2(nn.Module):
    """ConvNeXt V2 encoder behind a stem that projects a stack, and a decoder of its blocks.

    For 2.5-D: the input channels are the planes of a window, which the stem folds into feature maps;
    a pixel-shuffle head brings back full resolution. With the widths and depths of ConvNeXt V2
    tiny, the default, 33.3 million parameters. Layer normalisation cannot be folded, and some
    compilers run it slowly: as a teacher, or where there is time.

    Parameters
    ----------
    in_channels : int
        Input planes: sources times planes, source by source.
    out_channels : int
        Predicted channels.
    width : int
        Feature maps of the first level; doubled at each.
    depths : sequence of int
        Blocks of each level of the encoder; its length is the number of levels.
    decoder_blocks : int
        Blocks of each level of the decoder.
    head_width : int
        Feature maps at full resolution.
    planes : int, optional
        Planes of each source; all of `in_channels`, of one source, by default.
    stem_planes : int, optional
        Planes that the stem projects at a time; `planes` by default. UNeXt2 takes 5.
    response_norm : bool
        Whether blocks have ConvNeXt V2's global response normalisation, which looks at the whole
        frame and makes `halo` None.

    Raises
    ------
    ValueError
        If the planes cannot be laid on the feature maps.
    """

    dims = 2

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 96,
        depths: Sequence[int] = (3, 3, 9, 3),
        decoder_blocks: int = 2,
        head_width: int = 24,
        planes: int | None = None,
        stem_planes: int | None = None,
        response_norm: bool = True,
    ) -> None:
        super().__init__()
        planes = in_channels if planes is None else planes
        maps = [width * 2**level for level in range(len(depths))]
        steps = list(itertools.pairwise(maps))

        def level(each: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(each, response_norm=response_norm) for _ in range(count)))

        self.stem = _Stem(
            in_channels, width, planes, planes if stem_planes is None else stem_planes
        )
        self.down = nn.ModuleList(level(*each) for each in zip(maps, depths, strict=True))
        self.halve = nn.ModuleList(
            nn.Sequential(_LayerNorm(above, eps=1e-6), nn.Conv2d(above, below, 2, stride=2))
            for above, below in steps
        )
        self.rise = nn.ModuleList(_Up(below, above) for above, below in reversed(steps))
        self.up = nn.ModuleList(level(each, decoder_blocks) for each in reversed(maps[:-1]))
        self.head = nn.Sequential(
            equal_subpixels(nn.Conv2d(width, _PATCH**2 * head_width, 3, padding=1), _PATCH),
            nn.PixelShuffle(_PATCH),
            nn.GELU(),
            nn.Conv2d(head_width, out_channels, 3, padding=1),
        )

        block = Step(7, padding=3)
        path = [shrink(_PATCH)]
        for index, count in enumerate(depths):
            path += [block] * count if index == 0 else [shrink(2), *[block] * count]
        path += [stretch(2), *[block] * decoder_blocks] * len(steps)
        path += [Step(3, padding=1), stretch(_PATCH), Step(3, padding=1)]
        self.divisor = _PATCH * 2 ** len(steps)
        self.halo = None if response_norm else halo(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, y, x) to (n, out_channels, y, x)."""
        x = self.stem(x)
        skips: list[torch.Tensor] = []
        for block, halve in zip(self.down, self.halve, strict=False):
            skips.append(block(x))
            x = halve(skips[-1])
        x = self.down[-1](x)
        for rise, block in zip(self.rise, self.up, strict=True):
            x = block(rise(x, skips.pop()))
        head: torch.Tensor = self.head(x)
        return head

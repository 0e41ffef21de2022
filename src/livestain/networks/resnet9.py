"""The generator of CycleGAN with nine residual blocks: Zhu et al. 2017 (arXiv:1703.10593)."""

from __future__ import annotations

import torch
from torch import nn

from livestain.networks.layers import normal_weights

__all__ = ["ResNet9"]


def _conv(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, instance norm and ReLU; a size-preserving one reflects at the border."""
    convolution = nn.Conv2d(
        before,
        after,
        side,
        stride=stride,
        padding=side // 2,
        padding_mode="reflect" if stride == 1 else "zeros",
        bias=False,
    )
    return [convolution, nn.InstanceNorm2d(after), nn.ReLU()]


class _Residual(nn.Module):
    """Two reflecting 3x3 convolutions with instance norm, added to their input."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(maps, maps, 3), *_conv(maps, maps, 3)[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.body(x)
        return result


class ResNet9(nn.Module):
    """Two halvings, nine residual blocks, two doublings; 11.4 million parameters.

    Instance normalisation makes every pixel depend on the whole frame: `halo` is None. The
    published code gives the convolutions before it a bias, which the normalisation takes away again;
    ours have none. The reflection at a quarter of the resolution asks for sides of at least 8 px. As
    published it ends with tanh on images scaled to -1 ... 1; here that is an option.

    Parameters
    ----------
    in_channels : int
        Input planes.
    out_channels : int
        Predicted channels.
    width : int
        Feature maps at full resolution; four times as many in the residual blocks.
    blocks : int
        Residual blocks.
    tanh : bool
        Whether the output is squeezed into -1 ... 1.
    """

    dims = 2
    divisor = 4
    halo = None

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        blocks: int = 9,
        tanh: bool = False,
    ) -> None:
        super().__init__()
        self.down = nn.Sequential(
            *_conv(in_channels, width, 7),
            *_conv(width, 2 * width, 3, stride=2),
            *_conv(2 * width, 4 * width, 3, stride=2),
        )
        self.blocks = nn.Sequential(*(_Residual(4 * width) for _ in range(blocks)))
        up: list[nn.Module] = []
        for maps in (2 * width, width):
            up += [
                nn.ConvTranspose2d(
                    2 * maps, maps, 3, stride=2, padding=1, output_padding=1, bias=False
                ),
                nn.InstanceNorm2d(maps),
                nn.ReLU(),
            ]
        self.up = nn.Sequential(*up)
        self.head = nn.Sequential(
            nn.Conv2d(width, out_channels, 7, padding=3, padding_mode="reflect"),
            *([nn.Tanh()] if tanh else []),
        )
        normal_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, y, x) to (n, out_channels, y, x)."""
        head: torch.Tensor = self.head(self.up(self.blocks(self.down(x))))
        return head

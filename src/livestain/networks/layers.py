"""Layers by number of dimensions, so that a 2-D network and its 3-D form are one piece of code."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

__all__ = [
    "BATCH_NORM",
    "CONV",
    "MAX_POOL",
    "TRANSPOSED",
    "conv_norm_relu",
    "equal_subpixels",
    "normal_weights",
]

# torch has a class for each number of dimensions; these are they.
CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def conv_norm_relu(dims: int, maps: list[int], *, bias: bool) -> nn.Sequential:
    """Convolutions of kernel 3, size-preserving, each with batch normalisation and ReLU.

    Parameters
    ----------
    dims : int
        2 or 3.
    maps : list of int
        Feature maps: in, after the first convolution, after the second, and so on.
    bias : bool
        Whether the convolutions have a bias. Batch normalisation makes one useless; some published
        networks have it, and their parameter counts include it.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(maps):
        layers += [
            CONV[dims](before, after, 3, padding=1, bias=bias),
            BATCH_NORM[dims](after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def normal_weights(network: nn.Module, std: float = 0.02) -> None:
    """Draw weights as DCGAN does (arXiv:1511.06434): N(0, std), batch norms N(1, std), biases 0."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.weight, 1.0, std)
        elif isinstance(module, _ConvNd):
            nn.init.normal_(module.weight, 0.0, std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def equal_subpixels(convolution: nn.Conv2d, factor: int) -> nn.Conv2d:
    """Give the maps that pixel-shuffle by `factor` lays side by side equal weights to start from.

    Without it an untrained network shows a checkerboard, which training has to remove: Aitken et
    al. 2017 (arXiv:1707.02937). Returns the convolution.
    """
    with torch.no_grad():
        first = convolution.weight[:: factor**2]
        convolution.weight.copy_(first.repeat_interleave(factor**2, dim=0))
        if convolution.bias is not None:
            first = convolution.bias[:: factor**2]
            convolution.bias.copy_(first.repeat_interleave(factor**2))
    return convolution

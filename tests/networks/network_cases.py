"""Small forms of every network, which differ from the real ones in size alone."""

from __future__ import annotations

import torch
from torch import nn

from livestain.networks import build_network

SMALL = {
    "care2d": {"width": 4},
    "care3d": {"width": 4, "depth": 1},
    "fnet2d": {"width": 4, "depth": 2},
    "fnet3d": {"width": 4, "depth": 1},
    "gvtnet2d": {"width": 4, "depth": 2, "heads": 2, "down": True, "up": True},
    "gvtnet3d": {"width": 4, "depth": 2},
    "hsu_unet": {"width": 2, "depth": 2, "convolutions": 1},
    "pix2pix_unet256": {"width": 4, "depth": 3},
    "resnet9": {"width": 4, "blocks": 1},
    "slim2d": {"width": 8, "depth": 1},
    "unet2d": {"width": 4, "depth": 2},
    "unet3d": {"width": 4, "depth": 2, "depth_z": 1},
    "unext2": {"width": 12, "depths": (1, 1), "decoder_blocks": 1, "head_width": 2},
}


def small(name: str, **kwargs: object) -> nn.Module:
    """Build a small network with seeded weights and batch statistics that are not the identity."""
    torch.manual_seed(0)
    network = build_network(name, **{**SMALL[name], **kwargs})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.3, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    for part, parameter in network.named_parameters():
        if part.endswith(("gamma", "beta")):  # a response norm starts as the identity
            nn.init.normal_(parameter, 0.0, 0.3)
    return network


def planes(network: nn.Module, channels: int = 1, n: int = 2, steps: int = 2) -> torch.Tensor:
    """Draw an input of `steps` by `steps` + 1 (and `steps` in z) times what the network divides by."""
    sides = [network.divisor * steps, network.divisor * (steps + 1)]
    if network.dims == 3:
        sides.insert(0, network.divisor_z * steps)
    torch.manual_seed(1)
    return torch.randn(n, channels, *sides)

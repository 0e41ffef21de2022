"""What a network has to do for one prediction: counted on tensors without numbers, so at once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from livestain.benching.results import Work
from livestain.bundle.module import StainModule

if TYPE_CHECKING:
    from livestain.bundle.foreign_module import ForeignModule

__all__ = ["count_parameters", "count_work"]

_PRODUCTS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip


@torch.inference_mode()
def count_work(module: StainModule | ForeignModule, shape: tuple[int, int, int]) -> Work | None:
    """Count what the network of a bundle does with frames of one shape.

    Parameters
    ----------
    module : StainModule
        The bundle's; it is not changed.
    shape : tuple of int
        Planes of one source, height and width of the frames, in pixels. They are filled up as the live path
        fills them up.

    Returns
    -------
    Work or None
        None where the network cannot be run on tensors without numbers, as TorchScript and ONNX cannot.
    """
    if module.network is None:
        return None
    planes, *sides = shape
    height, width = (side + -side % module.divisor for side in sides)
    if module.dims == 3:
        depth = planes + -planes % module.divisor_z
        size: tuple[int, ...] = (1, module.sources, depth, height, width)
    else:
        size = (1, module.sources * planes, height, width)
    moved = 0

    def note(layer: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal moved
        moved += given[0].numel() + out.numel() + sum(p.numel() for p in layer.parameters())

    try:
        network = copy.deepcopy(module.network).to("meta")
        for layer in network.modules():
            if isinstance(layer, _PRODUCTS):
                layer.register_forward_hook(note)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(size, device="meta"))
    except Exception:  # a network that is no torch module, in whatever way it says so
        if isinstance(module, StainModule) and any(True for _ in module.parameters()):
            raise  # ours can be counted, so the shape would be wrong
        return None
    if not moved:  # its layers are not torch's
        return None
    return Work(macs=counter.get_total_flops() // 2, moved=moved)


def count_parameters(module: StainModule | ForeignModule) -> int | None:
    """Return the number of a network's parameters; None where it is no torch module, or has none."""
    if module.network is None:
        return None
    return sum(p.numel() for p in module.network.parameters()) or None

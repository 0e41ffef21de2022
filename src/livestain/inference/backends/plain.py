"""torch as it comes, and with folded batch normalisation in the layout that convolutions like."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from livestain.errors import LivestainError
from livestain.inference.device import cpu_has_bf16
from livestain.inference.fold import fold_batch_norm

if TYPE_CHECKING:
    from torch import nn

    from livestain.inference.backends.protocol import Precision, Predict
    from livestain.inference.network import Network

__all__ = ["Eager", "Folded", "convolutions", "folded_module", "torch_module"]

_NO_MODULE = "the bundle has no network for torch, only ONNX"


class Eager:
    """torch as it comes, float32 throughout (no TF32): the reference that the others are held to."""

    name = "eager"
    precision: Precision = "fp32"

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why not; see `Backend`."""
        return None if network.module is not None else _NO_MODULE

    def load(self, network: Network, device: torch.device) -> Predict:
        """Copy the network to the device."""
        module = copy.deepcopy(torch_module(network)).to(device)

        def predict(x: torch.Tensor) -> torch.Tensor:
            with convolutions(device, tf32=False):
                predicted: torch.Tensor = module(x)
            return predicted.float()

        return predict


class Folded:
    """Batch normalisation folded into the convolutions, channels last.

    Parameters
    ----------
    name : str
        Name in the registry.
    precision : str
        "fp32", "tf32" (GPUs from Ampere on), "bf16" or "fp16" (GPUs): of weights and feature maps.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        self.name = name
        self.precision: Precision = precision

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why not; see `Backend`."""
        if network.module is None:
            return _NO_MODULE
        return unsupported(self.precision, device)

    def load(self, network: Network, device: torch.device) -> Predict:
        """Fold in float32, then convert and copy to the device."""
        if device.type == "cpu" and self.precision in ("tf32", "fp16"):
            raise LivestainError(f"{self.name} {unsupported(self.precision, device)}")
        return folded_module(network, device, self.precision)


def unsupported(precision: Precision, device: torch.device) -> str | None:
    """Return why a device is no place for a precision; None where it is one."""
    if device.type == "cpu":
        if precision in ("tf32", "fp16"):
            return "needs a CUDA device"
        if precision == "bf16" and not cpu_has_bf16():
            return "this CPU has no bfloat16 arithmetic (AVX512-BF16 or AMX) and would emulate it"
        return None
    if precision in ("tf32", "bf16") and torch.cuda.get_device_capability(device) < (8, 0):
        return "this GPU is older than Ampere and has no such arithmetic"
    return None


def torch_module(network: Network) -> nn.Module:
    """Return the network for torch.

    Raises
    ------
    LivestainError
        If the bundle has none.
    """
    if network.module is None:
        raise LivestainError(f"{_NO_MODULE}. Use onnxruntime or openvino.")
    return network.module


def folded_module(network: Network, device: torch.device, precision: Precision) -> Predict:
    """Return a function that runs the folded network on a device."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    module = fold_batch_norm(torch_module(network)).to(device=device, dtype=dtype)
    layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
    module = module.to(memory_format=layout)  # type: ignore[call-overload]

    def predict(x: torch.Tensor) -> torch.Tensor:
        x = x.to(dtype=dtype, memory_format=layout)
        with convolutions(device, tf32=precision == "tf32"):
            predicted: torch.Tensor = module(x)
        return predicted.float()

    return predict


def convolutions(device: torch.device, *, tf32: bool) -> AbstractContextManager[None]:
    """Return the state in which convolutions run on a device."""
    if device.type != "cuda":
        return nullcontext()
    # Frames of one run have one shape, so it pays to let cuDNN choose by trial once.
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32
    )

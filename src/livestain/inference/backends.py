"""The ways to run a network. `eager` in float32 is the reference that the others are held to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import torch

from livestain.errors import LivestainError
from livestain.inference.fold import fold_batch_norm

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Backend",
    "Eager",
    "Folded",
    "Predict",
    "backend_names",
    "get_backend",
    "preferred_backend",
    "register_backend",
]

Predict = Callable[[torch.Tensor], torch.Tensor]
"""What the network takes in, normalised float32 on the device, on the network's grid: (n, channels, y, x),
or (n, sources, z, y, x) for 3-D networks; float32 (n, outputs, [z], y, x) out, which is not touched by
the next call."""


class Backend(Protocol):
    """One way to run a network."""

    @property
    def name(self) -> str:
        """Name in the registry, in journals and in error messages."""
        ...

    def load(self, network: nn.Module, device: torch.device) -> Predict:
        """Return a function that predicts.

        Called once, when a `Stainer` opens, in inference mode; `network` is in eval mode, float32
        and on the CPU, and must not be changed. Whatever is raised here, or by the function on the
        bundle's test input, refuses the backend.
        """
        ...


class Eager:
    """torch as it comes, float32 throughout (no TF32)."""

    name = "eager"

    def load(self, network: nn.Module, device: torch.device) -> Predict:
        """Copy the network to the device."""
        module = copy.deepcopy(network).to(device)

        def predict(x: torch.Tensor) -> torch.Tensor:
            with _convolutions(device, tf32=False):
                predicted: torch.Tensor = module(x)
            return predicted

        return predict


class Folded:
    """Batch normalisation folded into the convolutions, channels last.

    Parameters
    ----------
    name : str
        Name in the registry.
    dtype : torch.dtype
        Of weights and feature maps; on CUDA float32 may use TF32.
    """

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.name = name
        self._dtype = dtype

    def load(self, network: nn.Module, device: torch.device) -> Predict:
        """Fold in float32, then convert and copy to the device."""
        module = fold_batch_norm(network).to(device=device, dtype=self._dtype)
        flat = getattr(network, "dims", 2) == 2
        layout = torch.channels_last if flat else torch.channels_last_3d
        module = module.to(memory_format=layout)  # type: ignore[call-overload]

        def predict(x: torch.Tensor) -> torch.Tensor:
            x = x.to(dtype=self._dtype, memory_format=layout)
            with _convolutions(device, tf32=True):
                predicted: torch.Tensor = module(x)
            return predicted.float()

        return predict


def _convolutions(device: torch.device, *, tf32: bool) -> AbstractContextManager[None]:
    if device.type != "cuda":
        return nullcontext()
    # Frames of one run have one shape, so it pays to let cuDNN choose by trial once.
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32
    )


_BACKENDS: dict[str, Backend] = {}


def register_backend(backend: Backend) -> None:
    """Make a backend known by its name, replacing one of the same name."""
    _BACKENDS[backend.name] = backend


def backend_names() -> tuple[str, ...]:
    """Return the names of the backends that can be asked for."""
    return tuple(_BACKENDS)


def get_backend(name: str) -> Backend:
    """Return a backend by its name.

    Raises
    ------
    LivestainError
        If there is none of that name.
    """
    try:
        return _BACKENDS[name]
    except KeyError:
        raise LivestainError(
            f"The backend is {name!r}; expected one of {', '.join(_BACKENDS)}. "
            "Give one of these, or leave it out."
        ) from None


def preferred_backend(precision: str) -> str:
    """Return the backend that is tried first for "fp32" or "bf16".

    Raises
    ------
    LivestainError
        If the precision is another.
    """
    try:
        return {"fp32": "folded", "bf16": "folded-bf16"}[precision]
    except KeyError:
        raise LivestainError(
            f"The precision is {precision!r}; expected fp32 or bf16. Give one of these."
        ) from None


register_backend(Eager())
register_backend(Folded("folded", torch.float32))
register_backend(Folded("folded-bf16", torch.bfloat16))

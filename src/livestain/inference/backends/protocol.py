"""What a backend is: one way to run a bundle's network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import torch

if TYPE_CHECKING:
    from livestain.inference.network import Network

__all__ = ["Backend", "Precision", "Predict"]

Predict = Callable[[torch.Tensor], torch.Tensor]
"""What the network takes in, normalised float32 on the device, on the network's grid: (n, channels, y, x),
or (n, sources, z, y, x) for 3-D networks; float32 (n, outputs, [z], y, x) out, which is not touched by
the next call. Any number of shapes may come in turn: tiles, the test tensors. May have a `close()`."""

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
"""Of a backend's arithmetic, from the finest to the coarsest."""


class Backend(Protocol):
    """One way to run a network.

    The choice asks `unready` first and calls `load` where the answer is None; where a backend is asked for
    by its name, `load` is called at once.
    """

    @property
    def name(self) -> str:
        """Name in the registry, in journals and in error messages."""
        ...

    @property
    def precision(self) -> Precision:
        """Of its arithmetic: how far its output may be from the test output."""
        ...

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why it is no candidate here and now, with the cure if there is one; None: it is ready.

        Cheap: nothing large is imported or loaded.
        """
        ...

    def load(self, network: Network, device: torch.device) -> Predict:
        """Return a function that predicts.

        Called in inference mode, when a `Stainer` opens and, while the choice is made, for one candidate
        after the other; the one before is forgotten first. The network must not be changed. Whatever is
        raised here, or by the function on the bundle's test input, refuses the backend.
        """
        ...

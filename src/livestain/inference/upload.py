"""Raw planes to the device that computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Upload", "counts_dtype"]


def counts_dtype(planes: NDArray[Any]) -> torch.dtype:
    """Return torch's name of the type of raw planes, uint8 or uint16."""
    return torch.uint8 if planes.dtype == np.uint8 else torch.uint16


class Upload:
    """The way of raw planes to a device, through memory of its own.

    On a GPU it is pinned memory, which the device reads by itself. On a CPU, a buffer that is there costs
    less than a fresh one, and torch, which warns of arrays that are read-only, never sees the caller's.
    """

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None
        self._pinned = False

    def __call__(self, planes: NDArray[Any], device: torch.device) -> torch.Tensor:
        """Return planes, uint8 or uint16 (planes, y, x), as they are, (1, planes, y, x) on the device.

        On a CPU the result is the buffer itself, which the next call fills again: whoever computes makes
        float32 of it at once. The pinned buffer is free again when the prediction has been brought back,
        since that waits for all before it.
        """
        pinned = device.type != "cpu"
        wanted = counts_dtype(planes)
        buffer = self._buffer
        if (
            buffer is None
            or buffer.shape != planes.shape
            or buffer.dtype != wanted
            or self._pinned != pinned
        ):
            self._buffer = buffer = None  # never two at once
            self._buffer = buffer = torch.empty(planes.shape, dtype=wanted, pin_memory=pinned)
            self._pinned = pinned
        np.copyto(buffer.numpy(), planes)
        return (buffer.to(device, non_blocking=True) if pinned else buffer)[None]

    def forget(self) -> None:
        """Give the buffer back."""
        self._buffer = None

"""Raw planes to the device that computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Upload"]


class Upload:
    """The way of raw planes to a device, with the pinned memory that a GPU reads them from."""

    def __init__(self) -> None:
        self._pinned: torch.Tensor | None = None

    def __call__(self, planes: NDArray[Any], device: torch.device) -> torch.Tensor:
        """Return planes, uint8 or uint16 (planes, y, x), as float32 (1, planes, y, x) on the device."""
        if device.type == "cpu":
            # numpy widens, since torch warns of read-only arrays and has few uint16 operations.
            return torch.from_numpy(planes.astype(np.float32, order="C"))[None]
        # Two bytes a pixel through pinned memory, widened on the device. The buffer is free again
        # when `stain` returns, since bringing the prediction back waits for all before it.
        wanted = torch.uint8 if planes.dtype == np.uint8 else torch.uint16
        if (
            self._pinned is None
            or self._pinned.shape != planes.shape
            or self._pinned.dtype != wanted
        ):
            self._pinned = None  # never two at once
            self._pinned = torch.empty(planes.shape, dtype=wanted, pin_memory=True)
        np.copyto(self._pinned.numpy(), planes)
        return self._pinned.to(device, non_blocking=True).to(torch.float32)[None]

    def forget(self) -> None:
        """Give the pinned memory back."""
        self._pinned = None

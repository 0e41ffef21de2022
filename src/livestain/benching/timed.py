"""A backend that notes when it was loaded, and when its network ran."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from livestain.inference.backends import Backend, Predict
    from livestain.inference.network import Network

__all__ = ["Timed"]


class Timed:
    """A backend as it is, with a clock: `Stainer` takes it for the backend itself.

    Parameters
    ----------
    backend : Backend
        Which.

    Attributes
    ----------
    loaded : tuple of float
        When loading began and ended, `time.perf_counter` seconds.
    calls : list of tuple of float
        The same of each call of the network since the list was cleared.
    waits : bool
        Whether a call waits until the GPU has nothing to do, before and after: without that only the way to
        the GPU would be timed. It takes away what overlaps.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name = backend.name
        self.precision: Literal["fp32", "tf32", "bf16", "fp16", "int8"] = backend.precision
        self.loaded = (0.0, 0.0)
        self.calls: list[tuple[float, float]] = []
        self.waits = False

    def __getattr__(self, name: str) -> Any:
        """Give what the backend has beside."""
        return getattr(self._backend, name)

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why the backend cannot be used; see `Backend`."""
        return self._backend.unready(network, device)

    def load(self, network: Network, device: torch.device) -> Predict:
        """Load the backend."""
        began = time.perf_counter()
        predict = self._backend.load(network, device)
        self.loaded = (began, time.perf_counter())
        return _TimedPredict(predict, self, device)


class _TimedPredict:
    def __init__(self, predict: Predict, timed: Timed, device: torch.device) -> None:
        self._predict = predict
        self._timed = timed
        self._device = device

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self._wait()
        began = time.perf_counter()
        y = self._predict(x)
        self._wait()
        self._timed.calls.append((began, time.perf_counter()))
        return y

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predict, name)

    def _wait(self) -> None:
        if self._timed.waits and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

"""CUDA graphs: a whole network launched at once, without the time that the CPU takes for each layer."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

from livestain.errors import LivestainError
from livestain.inference.backends.plain import folded_module, unsupported

if TYPE_CHECKING:
    from livestain.inference.backends.protocol import Precision, Predict
    from livestain.inference.network import Network

__all__ = ["CudaGraph"]

_MOST_SHAPES = 4
"""Graphs that are kept, each with its feature maps: the test tensors', the frames', and two for tiles."""

_WARM_UP = 3
"""Runs before a capture, in which cuDNN chooses its algorithms and libraries allocate what they keep."""


class CudaGraph:
    """The folded network as a CUDA graph, captured for each shape of its input.

    Parameters
    ----------
    name : str
        Name in the registry.
    precision : str
        Of weights and feature maps.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        self.name = name
        self.precision: Precision = precision

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why not; see `Backend`."""
        if device.type != "cuda":
            return "needs a CUDA device"
        if network.module is None:
            return "the bundle has no network for torch, only ONNX"
        return unsupported(self.precision, device)

    def load(self, network: Network, device: torch.device) -> Predict:
        """Fold the network; graphs are captured when their shape first comes."""
        if device.type != "cuda":
            raise LivestainError(f"{self.name} needs a CUDA device.")
        return _Graphs(folded_module(network, device, self.precision), device)


class _Graphs:
    """A function that replays a graph for shapes that have one, and runs as usual for the rest."""

    def __init__(self, run: Predict, device: torch.device) -> None:
        self._run = run
        self._device = device
        self._captured: OrderedDict[torch.Size, _Captured] = OrderedDict()
        self._plain: set[torch.Size] = set()
        """Shapes that could not be captured."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        captured = self._captured.get(x.shape)
        if captured is None:
            # The tiles of a plane have many shapes: graphs that push each other out would be captured
            # anew for each tile, at a hundred times the cost of running it.
            if len(self._captured) >= _MOST_SHAPES or x.shape in self._plain:
                return self._run(x)
            stream = torch.cuda.current_stream(self._device)
            try:
                captured = _Captured(self._run, x, self._device)
            except RuntimeError:
                # Capturing needs the feature maps a second time, and what it raises where there is no
                # memory is often another error than that. If memory is short, the plain run says so.
                self._plain.add(x.shape)
            if captured is None:
                torch.cuda.set_stream(stream)  # a capture that fails at its end leaves its own
                torch.cuda.synchronize(self._device)
                torch.cuda.empty_cache()
                return self._run(x)
            self._captured[x.shape] = captured
        return captured(x)

    def forget(self) -> None:
        """Give the graphs and their feature maps back; they are captured again when they are needed."""
        self._captured.clear()

    def close(self) -> None:
        """Give the graphs and their feature maps back."""
        self._captured.clear()


class _Captured:
    """One graph with its input and output, which stay where they are."""

    def __init__(self, run: Predict, x: torch.Tensor, device: torch.device) -> None:
        with torch.cuda.device(device):
            self._input = torch.empty_like(x)
            self._input.copy_(x)
            aside = torch.cuda.Stream(device)  # capturing on the default stream is forbidden
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    run(self._input)
            torch.cuda.current_stream(device).wait_stream(aside)
            # Its own memory pool: graphs that share one must be replayed in the order of their capture.
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=aside):
                self._output = run(self._input)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self._input.copy_(x)
        self._graph.replay()
        return self._output.clone()  # the next replay writes there again

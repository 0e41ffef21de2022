"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from livestain.errors import MissingExtraError
from livestain.inference.backends.onnx_runtime import lacks_onnx, onnx_of
from livestain.inference.backends.plain import unsupported

if TYPE_CHECKING:
    from livestain.inference.backends.protocol import Precision, Predict
    from livestain.inference.network import Network

__all__ = ["OpenVino"]

_INSTALL = 'OpenVINO is not installed: pip install "livestain[openvino]"'


class OpenVino:
    """OpenVINO on the CPU, in torch's number of threads; memory goes in and out uncopied.

    Parameters
    ----------
    name : str
        Name in the registry.
    precision : str
        "fp32", "bf16", or "int8" for the network that the bundle has calibrated.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        self.name = name
        self.precision: Precision = precision

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why not; see `Backend`."""
        if device.type != "cpu":
            return "computes on the CPU alone"
        if find_spec("openvino") is None:
            return _INSTALL
        return lacks_onnx(network, self.precision) or unsupported(self.precision, device)

    def load(self, network: Network, device: torch.device) -> Predict:
        """Read and compile the network."""
        if find_spec("openvino") is None:
            raise MissingExtraError(f"{_INSTALL}, or choose another backend.")
        core = _core()
        model = core.read_model(onnx_of(network, self.precision)())
        # It takes bfloat16 by itself where the CPU has it; what int8 leaves in float stays float32.
        hint = "bf16" if self.precision == "bf16" else "f32"
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                # Pinned threads wait for their own core, though the acquisition may be using it.
                "ENABLE_CPU_PINNING": False,
            },
        )
        return _Request(compiled)


class _Request:
    """A function that lets a compiled network read torch's memory and write into it."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        outputs = compiled.output(0).partial_shape[1]
        self._outputs = outputs.get_length() if outputs.is_static else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from openvino import Tensor

        given = x.float().contiguous()
        # Its tensors are views, and the request keeps both until the next call.
        self._request.set_input_tensor(0, Tensor(given.numpy(), shared_memory=True))
        if (
            self._outputs is None
        ):  # a foreign network, which does not say how many channels it gives
            self._request.infer()
            return torch.from_numpy(self._request.get_output_tensor(0).data.copy()).float()
        result = torch.empty((given.shape[0], self._outputs, *given.shape[2:]))
        self._request.set_output_tensor(0, Tensor(result.numpy(), shared_memory=True))
        self._request.infer()
        return result

    def close(self) -> None:
        """Give the network back."""
        self._request = None


@functools.cache
def _core() -> Any:
    """Return the one runtime of this process: it owns the plugin with its threads."""
    import openvino

    return openvino.Core()

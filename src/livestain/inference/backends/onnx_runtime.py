"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.errors import LivestainError
from livestain.inference.device import cpu_sums_int8

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.inference.backends.protocol import Precision, Predict
    from livestain.inference.network import Network

__all__ = ["OnnxRuntime", "lacks_onnx", "onnx_of"]


class OnnxRuntime:
    """ONNX Runtime on the CPU, in torch's number of threads; memory goes in and out uncopied.

    For bundles that have nothing but ONNX it stands in on a GPU's machine too: it brings the input to the
    CPU and the output back.

    Parameters
    ----------
    name : str
        Name in the registry.
    precision : str
        "fp32", or "int8" for the network that the bundle has calibrated.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        self.name = name
        self.precision: Precision = precision

    def unready(self, network: Network, device: torch.device) -> str | None:
        """Return why not; see `Backend`."""
        if device.type != "cpu" and network.module is not None:
            return "computes on the CPU alone"
        why = lacks_onnx(network, self.precision)
        if why is None and self.precision == "int8" and not cpu_sums_int8():
            why = "this CPU has no VNNI: sums of 8-bit products saturate, and are not what was calibrated"
        return why

    def load(self, network: Network, device: torch.device) -> Predict:
        """Open a session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # errors are raised; standard error is not the place
        # Threads that spin while they wait take the cores from the acquisition.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # Its arena would keep the most that it ever used; the C library's heap gives memory back where
        # it is short, and is as fast with the worker's settings.
        options.enable_cpu_mem_arena = False
        session = onnxruntime.InferenceSession(
            onnx_of(network, self.precision)(), options, providers=["CPUExecutionProvider"]
        )
        return _bound(session)


def lacks_onnx(network: Network, precision: Precision) -> str | None:
    """Return why a runtime of ONNX has nothing to run; None where it has."""
    if precision == "int8":
        return None if network.int8 is not None else "the bundle has no calibrated int8 network"
    return network.lacks_onnx


def onnx_of(network: Network, precision: Precision) -> Callable[[], bytes]:
    """Return what gives the network as ONNX.

    Raises
    ------
    LivestainError
        If the bundle has none.
    """
    found = network.int8 if precision == "int8" else network.onnx
    if found is None:
        raise LivestainError(f"{lacks_onnx(network, precision)}.")
    return found


def _bound(session: Any) -> Predict:
    """Return a function that lets a session read torch's memory and write into it."""
    source, target = session.get_inputs()[0], session.get_outputs()[0]
    outputs = target.shape[1] if len(target.shape) > 1 else None

    def predict(x: torch.Tensor) -> torch.Tensor:
        given = x.to("cpu", torch.float32).contiguous()
        binding = session.io_binding()
        binding.bind_input(source.name, "cpu", 0, np.float32, tuple(given.shape), given.data_ptr())
        if isinstance(outputs, int) and target.type == "tensor(float)":
            result = torch.empty((given.shape[0], outputs, *given.shape[2:]))
            binding.bind_output(
                target.name, "cpu", 0, np.float32, tuple(result.shape), result.data_ptr()
            )
            session.run_with_iobinding(binding)
        else:  # a foreign network, which does not say how many channels it gives
            binding.bind_output(target.name, "cpu")
            session.run_with_iobinding(binding)
            result = torch.from_numpy(binding.get_outputs()[0].numpy()).float()
        return result.to(x.device)

    return predict

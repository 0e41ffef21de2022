"""The ways to run a network, by name. `eager` in float32 is the reference that the others are held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.errors import LivestainError
from livestain.inference.backends.compiled import Inductor
from livestain.inference.backends.graphs import CudaGraph
from livestain.inference.backends.onnx_runtime import OnnxRuntime
from livestain.inference.backends.open_vino import OpenVino
from livestain.inference.backends.plain import Eager, Folded
from livestain.inference.backends.protocol import Backend, Precision, Predict

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "Backend",
    "CudaGraph",
    "Eager",
    "Folded",
    "Inductor",
    "OnnxRuntime",
    "OpenVino",
    "Precision",
    "Predict",
    "admitted_precisions",
    "backend_names",
    "get_backend",
    "preferred_backend",
    "register_backend",
]

_BACKENDS: dict[str, Backend] = {}

_PREFERRED = {
    "auto": "folded",
    "fp32": "folded",
    "tf32": "folded-tf32",
    "fp16": "folded-fp16",
    "bf16": "folded-bf16",
    "int8": "openvino-int8",
}

_ADMITTED: dict[str, tuple[Precision, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("fp32", "tf32"),
    "fp16": ("fp32", "tf32", "fp16"),
    "bf16": ("fp32", "tf32", "fp16", "bf16"),
    "int8": ("fp32", "tf32", "fp16", "bf16", "int8"),
    "auto": ("fp32", "tf32", "fp16", "bf16", "int8"),
}


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
    """Return the backend that runs a precision where nothing is measured.

    Raises
    ------
    LivestainError
        If there is no such precision.
    """
    admitted_precisions(precision)
    return _PREFERRED[precision]


def admitted_precisions(precision: str) -> Collection[Precision]:
    """Return the precisions that are at least as fine as the one that was asked for.

    Raises
    ------
    LivestainError
        If there is no such precision.
    """
    try:
        return _ADMITTED[precision]
    except KeyError:
        raise LivestainError(
            f"The precision is {precision!r}; expected {', '.join(sorted(_ADMITTED))}. "
            "Give one of these."
        ) from None


register_backend(Eager())
register_backend(Folded("folded", "fp32"))
register_backend(Folded("folded-tf32", "tf32"))
register_backend(Folded("folded-fp16", "fp16"))
register_backend(Folded("folded-bf16", "bf16"))
register_backend(CudaGraph("cudagraph", "fp32"))
register_backend(CudaGraph("cudagraph-tf32", "tf32"))
register_backend(CudaGraph("cudagraph-fp16", "fp16"))
register_backend(CudaGraph("cudagraph-bf16", "bf16"))
register_backend(Inductor("inductor", "fp32"))
register_backend(Inductor("inductor-bf16", "bf16"))
register_backend(OnnxRuntime("onnxruntime", "fp32"))
register_backend(OnnxRuntime("onnxruntime-int8", "int8"))
register_backend(OpenVino("openvino", "fp32"))
register_backend(OpenVino("openvino-bf16", "bf16"))
register_backend(OpenVino("openvino-int8", "int8"))

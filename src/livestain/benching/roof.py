"""What a device could do at best: products of matrices, and copying memory.

The roofline model: a network can take no less time than its multiplications need at the rate of a large
product of matrices, and no less than moving its numbers needs at the rate of a large copy (Williams et al.
2009, doi:10.1145/1498765.1498785). Both rates are measured, on this device and with these threads. Algorithms
that save multiplications (Winograd's for 3x3 convolutions), and feature maps that stay in a cache, can lift a
network above this roof.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from livestain.benching.results import Roof

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure_roof"]

_LONG_S = 0.15
"""A product of this length is large enough: larger ones are no faster."""

_SIDES = (512, 1024, 2048, 4096, 8192)
_REPEATS = 4
_COPY_BYTES = 2**28
"""Larger than any CPU's cache."""


def measure_roof(device: torch.device, precisions: tuple[str, ...]) -> Roof:
    """Measure a device's limits, with torch's threads as they are set.

    Parameters
    ----------
    device : torch.device
        Which.
    precisions : tuple of str
        "fp32", "tf32", "bf16", "fp16", "int8".
    """
    rates: dict[str, float] = {}
    notes: dict[str, str] = {}
    for precision in dict.fromkeys(precisions):
        try:
            rates[precision] = round(_products(device, precision), 2)
        except (RuntimeError, NotImplementedError, ImportError) as error:
            notes[precision] = " ".join(str(error).split())[:200]
    there, back = _ways(device) if device.type == "cuda" else (None, None)
    return Roof(
        gemm_gflops=rates,
        copy_gb_s=round(_copy(device), 2),
        to_device_gb_s=there,
        from_device_gb_s=back,
        notes=notes,
    )


def _products(device: torch.device, precision: str) -> float:
    """Return GFLOP/s of the fastest product of two square matrices."""
    best = 0.0
    for side in _SIDES:
        once = _product(device, precision, side)
        seconds = _fastest(once, device)
        best = max(best, 2 * side**3 / seconds / 1e9)
        if seconds > _LONG_S:
            break
    return best


def _product(device: torch.device, precision: str, side: int) -> Callable[[], object]:
    if precision == "int8":
        if device.type == "cpu":
            return _int8_product(side)
        a = torch.randint(-127, 127, (side, side), dtype=torch.int8, device=device)
        return lambda: torch._int_mm(a, a)  # noqa: SLF001 - torch's only product of int8
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    if device.type != "cuda":
        return lambda: torch.mm(a, b, out=out)

    def multiply() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        try:
            torch.mm(a, b, out=out)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return multiply


def _int8_product(side: int) -> Callable[[], object]:
    """Return ONNX Runtime's product of uint8 and int8, which torch has none of on CPUs."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    shape = [side, side]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, shape),
            helper.make_tensor_value_info("b", TensorProto.INT8, shape),
        ],
        [helper.make_tensor_value_info("c", TensorProto.INT32, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    given = {
        "a": rng.integers(0, 255, shape, dtype=np.uint8),
        "b": rng.integers(-127, 127, shape, dtype=np.int8),
    }
    return lambda: session.run(None, given)


def _copy(device: torch.device) -> float:
    """Return GB/s, read and written, of copying on the device."""
    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device) / 1e9


def _ways(device: torch.device) -> tuple[float, float]:
    """Return GB/s from pinned memory to a GPU and back."""
    host = torch.ones(_COPY_BYTES // 8, pin_memory=True)
    there = torch.empty_like(host, device=device)
    forth = _fastest(lambda: there.copy_(host, non_blocking=True), device)
    back = _fastest(lambda: host.copy_(there, non_blocking=True), device)
    return round(host.nbytes / forth / 1e9, 2), round(host.nbytes / back / 1e9, 2)


def _fastest(once: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of a few runs: the limit is asked for, not what is usual."""
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        once()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
        if best > 10 * _LONG_S:  # a precision that is emulated
            break
    return best

"""Telling a device that has no memory left from other errors."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys

import torch

__all__ = ["in_brief", "is_out_of_memory", "trim_heap"]

# torch has no class for a CPU without memory, and several libraries below it word a full GPU their own way.
_WORDS = (
    "can't allocate memory",  # torch's CPU allocator; on Windows the next
    "not enough memory",
    "out of memory",  # CUDA's runtime, where an allocation is not torch's: pinned memory, a context
    "cannot allocate memory",
    "alloc_failed",  # cuDNN and cuBLAS
    "could not create a memory object",  # oneDNN; and its scratchpads
    "could not create a primitive",
    "bad_alloc",
    "failed to allocate memory",  # ONNX Runtime; and its arena's
    "is smaller than requested bytes",
)
_ASKED = re.compile(r"tried to allocate ([\d.]+) ([A-Za-z]+)", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory was exhausted, of the computer or of the GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # What follows from it may be raised in its place, such as at the end of a capture.
    before = error.__cause__ or error.__context__
    if before is not None and isinstance(error, RuntimeError) and is_out_of_memory(before):
        return True
    text = str(error).lower()
    # The errors of ONNX Runtime derive from Exception alone.
    ours = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
    return ours and any(word in text for word in _WORDS)


def in_brief(error: BaseException) -> str:
    """Return how much memory was asked for in vain, where the error says so; else its first words."""
    text = " ".join(str(error).split()) or type(error).__name__
    if asked := _ASKED.search(text):
        number, unit = asked.groups()
        return f"{int(number) / 1e6:.0f} MB more" if unit == "bytes" else f"{number} {unit} more"
    return text if len(text) <= 100 else text[:97] + "..."


def trim_heap() -> None:
    """Give what is free in the heap back to the system, where the C library would keep it (Linux's)."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # of C libraries other than glibc
            ctypes.CDLL(None).malloc_trim(0)

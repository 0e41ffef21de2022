"""Which device computes."""

from __future__ import annotations

import contextlib
import functools
import platform
import re
from pathlib import Path

import torch

from livestain.errors import LivestainError

__all__ = ["cpu_has_bf16", "cpu_sums_int8", "device_name", "resolve_device"]


def resolve_device(device: str = "auto") -> str:
    """Return the device that a choice means on this machine.

    Parameters
    ----------
    device : str
        "auto" (the first CUDA device where there is one, else the CPU), "cpu", "cuda" or "cuda:1".

    Returns
    -------
    str
        "cpu" or "cuda:N".

    Raises
    ------
    LivestainError
        If the choice is none of these, or the machine has no such device.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise LivestainError(
            f"The device is {device!r}; expected auto, cpu, cuda or cuda:N. "
            "Give one of these, or leave it out."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    place = int(match[1] or 0)
    if place >= count:
        known = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        built = "" if torch.version.cuda else " (this torch was built without CUDA)"
        raise LivestainError(
            f"The device {device!r} was asked for, but this machine has: {known}{built}. "
            "Choose one of these, or auto."
        )
    return f"cuda:{place}"


@functools.cache
def device_name(device: str) -> str:
    """Return what a device is called, with what its speed depends on: for caches, not for people.

    Parameters
    ----------
    device : str
        "cpu" or "cuda:N".
    """
    if device != "cpu":
        place = torch.device(device)
        # torch tells it nowhere else, and builds without CUDA do not have it.
        driver = getattr(torch._C, "_cuda_getDriverVersion", lambda: None)()  # noqa: SLF001
        return f"{torch.cuda.get_device_name(place)}, CUDA {torch.version.cuda}, driver {driver}"
    return f"{_cpu_model()}, {torch.backends.cpu.get_cpu_capability()}"


def cpu_has_bf16() -> bool:
    """Return whether this CPU computes in bfloat16 itself, and does not emulate it, which is slow."""
    has: bool = (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001
    )
    return has


def cpu_sums_int8() -> bool:
    """Return whether 8-bit products are summed without saturating on this CPU: on x86, with VNNI alone."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686", "x86"):
        return True
    # Newer processors without AVX-512 have it as AVX-VNNI.
    flags = _cpu_flags()
    return torch.cpu._is_vnni_supported() or "avx_vnni" in flags  # noqa: SLF001


def _cpu_flags() -> set[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""The machine, the packages and the load, in words that name no user and no folder."""

from __future__ import annotations

import getpass
import os
import platform
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livestain.bundle import Bundle

__all__ = ["hardware", "load", "names_of_folders", "scrubbed", "versions"]

_FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
"""Capabilities on which the speed of networks depends."""

_PACKAGES = (
    "livestain", "torch", "numpy", "onnxruntime", "openvino", "onnx", "tensorstore", "zarr",
    "pymmcore-plus", "pymmcore", "mm-test-adapters", "useq-schema",
)  # fmt: skip


def hardware() -> dict[str, Any]:
    """Return CPU, cores, its capabilities, GPUs, memory in 10^9 bytes, and system."""
    name, flags = _processor()
    return {
        "cpu": name,
        "cores": psutil.cpu_count(logical=False),
        "threads": os.cpu_count(),
        "flags": flags,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that count; of those that are not installed, nothing."""
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def load() -> float | None:
    """Return the load average of the last minute; None where the system tells none."""
    try:
        return round(psutil.getloadavg()[0], 2)
    except OSError:
        return None


def names_of_folders(bundles: Iterable[Bundle]) -> dict[str, str]:
    """Return the names of models by their folders, for `scrubbed`.

    A folder given as "." or "a" is in many a text that means something else.
    """
    names: dict[str, str] = {}
    for bundle in bundles:
        for folder in (bundle.path.resolve(), bundle.path.absolute(), bundle.path):
            if len(folder.parts) > 1 and (folder.is_absolute() or folder.parts[0] != ".."):
                names[str(folder)] = bundle.name
    return names


def scrubbed(found: Any, names: dict[str, str] | None = None) -> Any:
    """Return plain JSON types with every folder of this machine, and the user's name, taken out of texts.

    Parameters
    ----------
    found : dict, list, str, …
        What is to be sent to somebody.
    names : dict, optional
        What to put in the place of certain texts, such as a bundle's folder.
    """
    places = dict(names or {})
    for folder, word in (
        (tempfile.gettempdir(), "TEMP"),
        (str(Path.cwd()), "HERE"),
        (sys.prefix, "PYTHON"),
        (sys.base_prefix, "PYTHON"),
        (str(Path.home()), "HOME"),
    ):
        if len(Path(folder).parts) > 1:  # "/" is in every path
            places.setdefault(folder, word)
    return _scrubbed(found, places, _user())


def _scrubbed(found: Any, places: dict[str, str], user: str) -> Any:
    if isinstance(found, dict):
        return {key: _scrubbed(value, places, user) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_scrubbed(value, places, user) for value in found]
    if not isinstance(found, str):
        return found
    for place in sorted(places, key=len, reverse=True):
        found = found.replace(place, places[place])
    if user:
        # Within a path alone: a user may be called as a word of ours is.
        found = re.sub(rf"(?<=[/\\]){re.escape(user)}(?=[/\\])", "USER", found)
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, ImportError, KeyError):  # nobody, as in some containers
        return ""


def _processor() -> tuple[str, list[str]]:
    """Return the CPU's name and its capabilities; of systems that do not tell these, none."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    if sys.platform == "linux":
        with suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                key, _, value = (part.strip() for part in line.partition(":"))
                if key == "model name":
                    name = value
                elif key in ("flags", "Features"):
                    flags |= set(value.split())
    elif sys.platform == "win32":
        import winreg

        place = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            name = str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    elif sys.platform == "darwin":
        name = _said("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string") or name
    return name, [flag for flag in _FLAGS if flag in flags]


def _gpus() -> list[dict[str, str]]:
    """Return name, driver and memory of NVIDIA's GPUs, as their own tool tells them."""
    said = _said(
        "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"
    )
    rows = (line.split(", ") for line in said.splitlines())
    return [
        dict(zip(("name", "driver", "memory"), row, strict=True)) for row in rows if len(row) == 3
    ]


def _said(*command: str) -> str:
    """Return what a system's tool says; "" where it is not there or fails."""
    try:
        done = subprocess.run(  # noqa: S603 - constants
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

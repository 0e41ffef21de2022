"""Which device computes."""

from __future__ import annotations

import re

import torch

from livestain.errors import LivestainError

__all__ = ["resolve_device"]


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

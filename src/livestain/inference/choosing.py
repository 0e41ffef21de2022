"""Which backend runs a bundle's network: the first that gives its own test output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from livestain.bundle.parity import relative_difference
from livestain.errors import BundleError
from livestain.inference.backends import get_backend
from livestain.inference.memory import is_out_of_memory
from livestain.inference.padded import stain_padded

if TYPE_CHECKING:
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle
    from livestain.inference.backends import Predict
    from livestain.inference.upload import Upload

__all__ = ["Chosen", "choose_backend"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A backend with a network in it."""

    predict: Predict
    name: str
    difference: float
    """RMS difference from the test output, relative to the latter's standard deviation."""
    refused: dict[str, str]
    """Why others, which were tried before, are not used."""


@torch.inference_mode()
def choose_backend(
    bundle: Bundle, module: StainModule, first: str, device: torch.device, upload: Upload
) -> Chosen:
    """Return the first of the chosen backend and `eager` that gives the test output within tolerance.

    Parameters
    ----------
    bundle : Bundle
        The model.
    module : StainModule
        Its module with its weights, on the CPU.
    first : str
        Name of the backend that is tried first.
    device : torch.device
        Where to compute.
    upload : Upload
        Brings the test input there.

    Raises
    ------
    BundleError
        If none does.
    RuntimeError, MemoryError
        If the device has no memory left (`is_out_of_memory`), whatever the backend.
    """
    counts, expected = bundle.test_tensors()
    planes = counts[0].reshape(-1, *counts.shape[-2:])  # of sources and depth
    refused: dict[str, str] = {}
    for name in dict.fromkeys((first, "eager")):
        try:
            predict = get_backend(name).load(module.network, device)
            output = stain_padded(module, upload(planes, device), predict)
            difference = relative_difference(output.cpu().numpy(), expected)
        except Exception as error:  # a foreign runtime may raise anything: refused by name
            if is_out_of_memory(error):
                raise
            refused[name] = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            continue
        if difference <= bundle.description.tolerance:
            return Chosen(predict, name, difference, refused)
        refused[name] = (
            f"differs from the test output by {difference:.2g} of its standard deviation; "
            f"the bundle allows {bundle.description.tolerance:g}"
        )
    reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
    raise BundleError(
        f"The bundle {bundle.path} fails its own test tensors on {device}: {reasons}. "
        "Export the model again, or choose another device."
    )

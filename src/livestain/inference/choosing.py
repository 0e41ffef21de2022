"""Which backend runs a bundle's network: the one that is named, or the fastest here and now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from livestain.errors import BundleError
from livestain.inference.backends import admitted_precisions, get_backend, preferred_backend
from livestain.inference.candidates import candidates, choice_facts
from livestain.inference.measuring import fastest
from livestain.inference.proving import Proof, RefusedError

if TYPE_CHECKING:
    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle
    from livestain.inference.backends import Predict
    from livestain.inference.proving import Proven
    from livestain.inference.trials import Trial
    from livestain.inference.upload import Upload

__all__ = ["BUDGET_S", "Choice", "Chosen", "choose_backend"]

BUDGET_S = 15.0
"""Seconds for loading and timing candidates, once the first is loaded."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a backend was chosen."""

    chosen: str
    """Its name."""

    milliseconds: dict[str, float]
    """What the network takes for one frame, of each candidate that was timed; empty where none was."""

    timed_yx: tuple[int, int] | None
    """Height and width, in the network's pixels, at which they were timed: those of the frames, unless that
    would have taken too long. The milliseconds are then those of the frames by the number of pixels."""

    refused: dict[str, str]
    """Why others are not used: not ready here, not the test output, not measured."""

    cached: bool
    """Whether the times are those of an earlier start."""

    seconds: float
    """What the choice took, with loading the chosen one."""

    def facts(self) -> dict[str, Any]:
        """Return it in plain types, for journals."""
        return {
            "chosen": self.chosen,
            "milliseconds": {name: round(ms, 2) for name, ms in self.milliseconds.items()},
            "timed_yx": self.timed_yx,
            "refused": self.refused,
            "cached": self.cached,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """A backend with a network in it."""

    predict: Predict
    name: str
    difference: float
    """RMS difference from the test output, relative to the latter's standard deviation."""

    refused: dict[str, str]
    """Why others, which were tried before, are not used."""

    choice: Choice

    trial: Trial | None = None
    """To be ended once a frame was predicted."""


@torch.inference_mode()
def choose_backend(
    bundle: Bundle,
    module: StainModule | ForeignModule,
    backend: str | None,
    device: torch.device,
    upload: Upload,
    *,
    precision: str = "fp32",
    frame: tuple[int, int, int] | None = None,
    budget_s: float = BUDGET_S,
) -> Chosen:
    """Return a backend that gives the test output, loaded.

    Parameters
    ----------
    bundle : Bundle
        The model.
    module : StainModule or ForeignModule
        Its module with its weights, on the CPU.
    backend : str, optional
        A backend's name: it is taken, or the reference where it is refused. "auto": the fastest of those
        that are ready and give the test output; the choice is remembered for the next start. None: the
        precision's preferred one.
    device : torch.device
        Where to compute.
    upload : Upload
        Brings the test input there.
    precision : str
        The coarsest arithmetic that "auto" and None may take; "auto" for all.
    frame : tuple of int, optional
        Planes, height and width of what the network will be given, in its pixels, for "auto"; by default
        as the test input. The planes count for models of whole stacks alone.
    budget_s : float
        So many seconds after the first was loaded no candidate is begun that would take longer.

    Raises
    ------
    BundleError
        If no backend gives the test output.
    RuntimeError, MemoryError
        If the device has no memory left (`is_out_of_memory`), whatever the backend.
    """
    start = time.perf_counter()
    admitted = admitted_precisions(precision)
    if backend is not None and backend != "auto":
        get_backend(backend)  # its name is wrong, and the bundle need not be opened to say so
    proof = Proof(bundle, module, device, upload)
    refused: dict[str, str] = {}
    times: dict[str, float] = {}
    tried: dict[str, str] = {}
    proven: Proven | None = None
    cached, timed_yx, trial = False, None, None
    if backend == "auto":
        names, refused = candidates(proof, admitted)
        facts = choice_facts(proof, names, precision, frame)
        found = fastest(proof, names, facts, frame, budget_s=budget_s)
        proven, times, cached = found.proven, found.times, found.cached
        tried, timed_yx, trial = found.refused, found.timed_yx, found.trial
        refused |= tried | found.left_out
        first: str | None = None
    else:
        first = backend or preferred_backend(precision)
        if backend is None and proof.network.module is None:
            first = proof.reference
    if proven is None:
        for name in dict.fromkeys(filter(None, (first, proof.reference))):
            try:
                proven = proof.prove(name)
                break
            except RefusedError as error:
                tried[name] = refused[name] = str(error)
    if proven is None:
        reasons = "; ".join(f"{name}: {why}" for name, why in tried.items())
        raise BundleError(
            f"The bundle {bundle.path} fails its own test tensors on {device}: {reasons}. "
            "Export the model again, or choose another device."
        )
    choice = Choice(proven.name, times, timed_yx, refused, cached, time.perf_counter() - start)
    return Chosen(proven.predict, proven.name, proven.difference, tried, choice, trial)

"""Which backends are candidates for the fastest, and all that the choice among them depends on."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import torch

from livestain._version import __version__
from livestain.inference.backends import backend_names, get_backend
from livestain.inference.device import device_name
from livestain.inference.trials import ended_the_process

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from livestain.inference.backends import Precision
    from livestain.inference.proving import Proof

__all__ = ["candidates", "choice_facts", "trial_facts"]

# Those that are fastest as a rule come first, since the budget may not suffice for all.
_ORDER = {
    "cpu": (
        "openvino-int8",
        "onnxruntime-int8",
        "openvino-bf16",
        "inductor-bf16",
        "folded-bf16",
        "openvino",
        "onnxruntime",
        "inductor",
        "folded",
    ),
    "cuda": (
        "cudagraph-fp16",
        "cudagraph-bf16",
        "folded-fp16",
        "folded-bf16",
        "cudagraph-tf32",
        "folded-tf32",
        "inductor-bf16",
        "inductor",
        "cudagraph",
        "folded",
    ),
}


def candidates(
    proof: Proof, admitted: Collection[Precision]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the backends to be tried on a device, the most promising first, and why others are not."""
    order = _ORDER[proof.device.type]
    known = {name for names in _ORDER.values() for name in names}
    own = tuple(name for name in backend_names() if name not in known and name != "eager")
    deadly = ended_the_process(trial_facts(proof))
    names, refused = [], {}
    for name in (*order, *own):
        if name not in backend_names() or get_backend(name).precision not in admitted:
            continue
        why = get_backend(name).unready(proof.network, proof.device)
        if name in deadly:
            why = "ended the process when it was last tried here; it is tried again after a day"
        if why is None:
            names.append(name)
        else:
            refused[name] = why
    return tuple(names), refused


def choice_facts(
    proof: Proof, names: Sequence[str], precision: str, frame: tuple[int, int, int] | None
) -> dict[str, Any]:
    """Return all that the fastest backend depends on: a choice is remembered for these."""
    shapes = {name: getattr(get_backend(name), "compiled", None) for name in names}
    return {
        **trial_facts(proof),
        "threads": torch.get_num_threads(),
        "frame": frame,
        "precision": precision,
        "candidates": list(names),  # one that was installed since wants to be timed
        # And one that was tuned for another size is another candidate at that size.
        "compiled": {
            name: list(told(proof.network, proof.device)) for name, told in shapes.items() if told
        },
    }


def trial_facts(proof: Proof) -> dict[str, Any]:
    """Return what it depends on whether a backend runs at all."""
    packages = ("torch", "onnxruntime", "openvino")
    return {
        "bundle": proof.bundle.sha256,
        "device": device_name(str(proof.device)),
        "versions": {"livestain": __version__, **{name: _version(name) for name in packages}},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

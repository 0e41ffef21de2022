"""Timing the candidates among the backends at the size of the frames to come.

One after the other, and each is forgotten before the next is loaded: two large models at once could be
more than the memory has, and thread pools of two runtimes would wait for each other.
"""

from __future__ import annotations

import gc
import importlib.metadata
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from livestain._version import __version__
from livestain.inference.backends import backend_names, get_backend
from livestain.inference.cache import recall, remember
from livestain.inference.device import device_name
from livestain.inference.memory import in_brief, is_out_of_memory, trim_heap
from livestain.inference.proving import RefusedError, close, seconds_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from livestain.inference.backends import Precision
    from livestain.inference.proving import Proof, Proven

__all__ = ["Fastest", "candidates", "choice_facts", "fastest"]

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
_FINEST = ("fp32", "tf32", "fp16", "bf16", "int8")
_SIMPLEST = ("folded", "onnxruntime", "openvino", "cudagraph", "inductor")

_TIE = 0.03
"""Candidates that are slower than the fastest by this part count as equal: the finest, simplest is taken."""

_RUNS = 5
"""Timed runs of a candidate; the least disturbed counts."""

_WARM_AND_TIMED = 3
"""Predictions that must fit into a candidate's share of the time; else smaller frames are taken."""

_HOPELESS = 1.3
"""A candidate whose first timed run takes so many times the best one's time is not timed again."""

_LOADING_S = 1.0
"""What loading a candidate takes, as a rule."""


@dataclass
class Fastest:
    """What came out of it."""

    proven: Proven | None = None
    """The fastest, loaded; None where no candidate gives the test output."""

    times: dict[str, float] = field(default_factory=dict)
    """Milliseconds of the network for one frame."""

    refused: dict[str, str] = field(default_factory=dict)
    """Why candidates that were tried are refused."""

    left_out: dict[str, str] = field(default_factory=dict)
    """Why others were not timed."""

    timed_yx: tuple[int, int] | None = None
    """Height and width, in the network's pixels, at which they were timed."""

    cached: bool = False


def candidates(
    proof: Proof, admitted: Collection[Precision]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the backends to be tried on a device, the most promising first, and why others are not."""
    order = _ORDER[proof.device.type]
    known = {name for names in _ORDER.values() for name in names}
    own = tuple(name for name in backend_names() if name not in known and name != "eager")
    names, refused = [], {}
    for name in (*order, *own):
        if name not in backend_names() or get_backend(name).precision not in admitted:
            continue
        why = get_backend(name).unready(proof.network, proof.device)
        if why is None:
            names.append(name)
        else:
            refused[name] = why
    return tuple(names), refused


def choice_facts(
    proof: Proof, names: Sequence[str], precision: str, frame: tuple[int, int, int] | None
) -> dict[str, Any]:
    """Return all that the fastest backend depends on: a choice is remembered for these."""
    packages = ("torch", "onnxruntime", "openvino")
    return {
        "bundle": proof.bundle.sha256,
        "device": device_name(str(proof.device)),
        "threads": torch.get_num_threads(),
        "frame": frame,
        "precision": precision,
        "candidates": list(names),  # one that was installed or tuned since wants to be timed
        "versions": {"livestain": __version__, **{name: _version(name) for name in packages}},
    }


def fastest(
    proof: Proof,
    names: Sequence[str],
    facts: dict[str, Any],
    frame: tuple[int, int, int] | None,
    *,
    deadline: float,
) -> Fastest:
    """Return the fastest of some candidates, loaded, as remembered or as measured now.

    Parameters
    ----------
    proof : Proof
        The bundle's test tensors on the device; a remembered choice must give them too.
    names : sequence of str
        The candidates.
    facts : dict
        See `choice_facts`.
    frame : tuple of int, optional
        See `choose_backend`.
    deadline : float
        Of `time.perf_counter`: no candidate is begun that would end later.

    Raises
    ------
    RuntimeError, MemoryError
        If there is no memory for any of them.
    """
    found = _remembered(proof, names, facts)
    if found is not None:
        return found
    found = Fastest()
    guesses: dict[str, float] = {}
    lack: Exception | None = None
    last: Proven | None = None
    x: torch.Tensor | None = None
    full = 1.0
    for place, name in enumerate(names):
        best = min(found.times.values(), default=0.0) / 1e3
        if time.perf_counter() + _LOADING_S + 2 * best / full > deadline and (
            found.times or guesses
        ):
            found.left_out[name] = "not measured: the time for choosing was over"
            continue
        if last is not None:
            close(last.predict)
            last = None
            _let_go()
        try:
            last = proof.prove(name)
        except RefusedError as error:
            found.refused[name] = str(error)
            continue
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found.refused[name] = f"finds no memory ({in_brief(error)})"
            lack = error.with_traceback(None)
            continue
        shape = proof.shape if frame is None else proof.frame_shape(frame)
        guesses[name] = last.seconds_per_value * math.prod(shape)
        if x is None:
            # The same for all, so that their times can be compared.
            left = len(names) - place
            share = (deadline - time.perf_counter()) / left - _LOADING_S
            smaller = _affordable(shape, proof.module.divisor, guesses[name], share)
            x = _noise(smaller, proof.device)
            full = math.prod(shape) / x.numel()
            found.timed_yx = (smaller[-2], smaller[-1])
        if time.perf_counter() + 2 * guesses[name] / full > deadline:
            found.left_out[name] = (
                f"not measured: two frames of about {1e3 * guesses[name] / full:.0f} ms would take longer "
                "than the time for choosing"
            )
            continue
        now = time.perf_counter()
        own = now + (deadline - now) / (len(names) - place)  # its share of what is left
        try:
            found.times[name] = 1e3 * full * _time(last, x, best / full, own)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found.left_out[name] = f"finds no memory for a whole frame ({in_brief(error)})"
    if not guesses and lack is not None:
        raise lack
    chosen = _best(found.times or guesses)
    if last is not None and last.name != chosen:
        close(last.predict)
        last = None
        _let_go()
    if last is None and chosen is not None:
        last = proof.prove(chosen)
    found.proven = last
    if found.times and chosen is not None:
        value = {"chosen": chosen, "times": found.times, "timed_yx": found.timed_yx}
        remember(facts, value | {"refused": found.refused, "left_out": found.left_out})
    return found


def _remembered(proof: Proof, names: Sequence[str], facts: dict[str, Any]) -> Fastest | None:
    """Return an earlier choice, loaded; None where there is none that can be used."""
    value = recall(facts)
    if value is None or value.get("chosen") not in names:
        return None
    try:
        times = {str(name): float(ms) for name, ms in value["times"].items()}
        refused = {str(name): str(why) for name, why in value["refused"].items()}
        left_out = {str(name): str(why) for name, why in value["left_out"].items()}
        height, width = map(int, value["timed_yx"])
        proven = proof.prove(value["chosen"])
    except (KeyError, TypeError, ValueError, AttributeError, RefusedError):
        return None
    return Fastest(proven, times, refused, left_out, (height, width), cached=True)


def _affordable(
    shape: tuple[int, ...], divisor: int, seconds: float, share: float
) -> tuple[int, ...]:
    """Return the shape, or a smaller one of which a few predictions fit into a candidate's share of time.

    Parameters
    ----------
    shape : tuple of int
        Of the network's input.
    divisor : int
        Both sides are multiples of it.
    seconds : float
        What one prediction of the whole is thought to take.
    share : float
        Seconds for one candidate.
    """
    factor = min(1.0, math.sqrt(max(share, 0.0) / (_WARM_AND_TIMED * seconds)))
    sides = (max(divisor, int(side * factor) // divisor * divisor) for side in shape[-2:])
    return (*shape[:-2], *sides) if factor < 1 else shape


def _noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def _time(proven: Proven, x: torch.Tensor, best: float, deadline: float) -> float:
    """Return the seconds of a warm prediction."""
    seconds_of(proven.predict, x)
    least = seconds_of(proven.predict, x)
    for _ in range(_RUNS - 1):
        if (best and least > _HOPELESS * best) or time.perf_counter() + least > deadline:
            break
        least = min(least, seconds_of(proven.predict, x))
    return least


def _best(times: dict[str, float]) -> str | None:
    """Return the fastest; of several that are as good as equal, the one of finest arithmetic."""
    if not times:
        return None
    least = min(times.values())
    equal = [name for name, each in times.items() if each <= least * (1 + _TIE)]
    return min(equal, key=_plainness)


def _plainness(name: str) -> tuple[int, int]:
    kind = name.split("-")[0]
    simple = _SIMPLEST.index(kind) if kind in _SIMPLEST else len(_SIMPLEST)
    return _FINEST.index(get_backend(name).precision), simple


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim_heap()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

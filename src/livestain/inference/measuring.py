"""Timing the candidates among the backends at the size of the frames to come.

One after the other, and each is forgotten before the next is loaded: two large models at once could be
more than the memory has, and thread pools of two runtimes would wait for each other.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from livestain.inference.backends import get_backend
from livestain.inference.cache import recall, remember
from livestain.inference.candidates import trial_facts
from livestain.inference.memory import in_brief, is_out_of_memory, trim_heap
from livestain.inference.proving import RefusedError, close, seconds_of
from livestain.inference.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.inference.proving import Proof, Proven

__all__ = ["Fastest", "fastest"]

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

_LEAST_SIDE = 256
"""Smaller planes than this are not timed: what each call costs would decide."""


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

    later: list[str] = field(default_factory=list)
    """Those left out since the time was over: one of them is timed at each later start."""

    cached: bool = False

    trial: Trial | None = None
    """Ends once the fastest has predicted a frame."""


def fastest(
    proof: Proof,
    names: Sequence[str],
    facts: dict[str, Any],
    frame: tuple[int, int, int] | None,
    *,
    budget_s: float,
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
    budget_s : float
        Seconds, once the first candidate is loaded: none is begun that would end later.

    Raises
    ------
    RuntimeError, MemoryError
        If there is no memory for any of them.
    """
    lacking = None
    value = recall(facts)
    if value is not None and value.get("chosen") in names:
        timing = _Timing(proof, frame, budget_s)
        try:
            found = _remembered(timing, value, names, facts)
        except BaseException:
            timing.drop()
            raise
        if found is not None:
            return found
        if timing.lack is not None and len(names) > 1:
            lacking = value["chosen"]
    timing = _Timing(proof, frame, budget_s)
    try:
        # Another program may have the memory now that the remembered one needs: what is chosen beside
        # that is not remembered.
        chosen = timing.measure([name for name in names if name != lacking])
    except BaseException:
        timing.drop()
        raise
    if lacking is not None:
        timing.found.refused[lacking] = "finds no memory this time"
    elif chosen in timing.found.times:
        _keep(facts, timing.found, chosen)
    return timing.found


class _Timing:
    """Candidates loaded and timed one after another; `found` is what came out so far."""

    def __init__(self, proof: Proof, frame: tuple[int, int, int] | None, budget_s: float) -> None:
        self.found = Fastest()
        self.lack: Exception | None = None
        self._proof = proof
        self._frame = frame
        self._budget_s = budget_s
        self._deadline = math.inf  # until the first is loaded, from a cold disk perhaps
        self._guesses: dict[str, float] = {}
        self._x: torch.Tensor | None = None
        self._full = 1.0

    def measure(self, names: Sequence[str]) -> str | None:
        """Time candidates, and load the fastest; return its name, None where none is right.

        Raises
        ------
        RuntimeError, MemoryError
            If there is no memory for any of them.
        """
        for place, name in enumerate(names):
            self.one(name, len(names) - place)
        for times in (self.found.times, self._guesses):
            chosen = self.take(times)
            if chosen is not None:
                return chosen
        if self.lack is not None:
            raise self.lack
        return None

    def one(self, name: str, left: int) -> None:
        """Load a candidate and time it, the first of so many that are left."""
        found = self.found
        best = min(found.times.values(), default=0.0) / 1e3
        if time.perf_counter() + _LOADING_S + 2 * best / self._full > self._deadline and (
            found.times or self._guesses
        ):
            found.left_out[name] = "not measured: the time for choosing was over"
            found.later.append(name)
            return
        self.drop()
        loaded = self._load(name, timed=True)
        if self._deadline == math.inf:
            self._deadline = time.perf_counter() + self._budget_s
        if not loaded:
            return
        assert found.proven is not None  # noqa: S101 - it is loaded
        shape = self._shape()
        guess = self._guesses[name] = found.proven.seconds_per_value * math.prod(shape)
        if self._x is None:
            # The same for all, so that their times can be compared.
            share = (self._deadline - time.perf_counter()) / left - _LOADING_S
            self._time_at(
                _affordable(shape, self._proof.module.divisor, self._least(shape), guess, share)
            )
        guess /= self._full
        now = time.perf_counter()
        if now + 2 * guess > self._deadline:
            found.left_out[name] = (
                f"not measured: two frames of about {1e3 * guess:.0f} ms would take longer "
                "than the time for choosing"
            )
            found.later.append(name)
            return
        own = now + (self._deadline - now) / left  # its share of what is left
        assert self._x is not None  # noqa: S101 - made above
        try:
            seconds = _time(found.proven, self._x, best / self._full, own)
            found.times[name] = 1e3 * self._full * seconds
            return
        except Exception as error:  # a foreign runtime may raise anything at a size it has not seen
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if is_out_of_memory(error):
                # In tiles it may do yet.
                found.left_out[name] = f"finds no memory for a whole frame ({in_brief(error)})"
                return
        found.refused[name] = f"fails on a frame of the run's size ({why})"
        del self._guesses[name]
        self.drop()

    def at(self, timed_yx: tuple[int, int]) -> None:
        """Time at a size of an earlier start; a backend was loaded before."""
        self._time_at((*self._shape()[:-2], *timed_yx))

    def take(self, times: dict[str, float]) -> str | None:
        """Load the fastest; where it fails now, the next one."""
        rest = dict(times)
        while (chosen := _best(rest)) is not None:
            if self.found.proven is not None and self.found.proven.name == chosen:
                return chosen
            self.drop()
            if self._load(chosen, timed=False):
                return chosen
            for those in (rest, self.found.times, self._guesses):
                those.pop(chosen, None)
        return None

    def drop(self) -> None:
        """Forget the backend that is loaded."""
        if self.found.proven is not None:
            close(self.found.proven.predict)
            self.found.proven = None
        if self.found.trial is not None:
            self.found.trial.end()
            self.found.trial = None
        _let_go()

    def _load(self, name: str, *, timed: bool) -> bool:
        self.found.trial = Trial(trial_facts(self._proof), name)
        try:
            self.found.proven = self._proof.prove(name, timed=timed)
            return True
        except RefusedError as error:
            self.found.refused[name] = str(error)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.found.refused[name] = f"finds no memory ({in_brief(error)})"
            self.lack = error.with_traceback(None)
        self.drop()
        return False

    def _shape(self) -> tuple[int, ...]:
        proof = self._proof
        return proof.shape if self._frame is None else proof.frame_shape(self._frame)

    def _least(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the least sides to time at: of volumes those of the test input."""
        sides = shape[-2:] if self._frame is None else self._proof.shape[-2:]
        if len(shape) == 4:
            grid = self._proof.module.divisor
            sides = (max(grid, _LEAST_SIDE // grid * grid),) * 2
        return min(sides[0], shape[-2]), min(sides[1], shape[-1])

    def _time_at(self, shape: tuple[int, ...]) -> None:
        self._x = _noise(shape, self._proof.device)
        self._full = math.prod(self._shape()) / self._x.numel()
        self.found.timed_yx = (shape[-2], shape[-1])


def _remembered(
    timing: _Timing, value: dict[str, Any], names: Sequence[str], facts: dict[str, Any]
) -> Fastest | None:
    """Return an earlier choice, loaded; None where it cannot be used.

    One candidate for which there was no time then is timed now.
    """
    found = timing.found
    try:
        found.times = {str(name): float(ms) for name, ms in value["times"].items()}
        found.refused = {str(name): str(why) for name, why in value["refused"].items()}
        found.left_out = {str(name): str(why) for name, why in value["left_out"].items()}
        height, width = map(int, value["timed_yx"])
        later = [str(name) for name in value["later"] if name in names]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not timing.take({value["chosen"]: 1.0}):
        return None
    found.timed_yx, found.cached = (height, width), True
    if later:
        timing.at((height, width))
        name, *found.later = later
        found.left_out.pop(name, None)
        timing.one(name, 1)
        found.later = later[1:]  # not a third time
        chosen = timing.take(found.times)
        if chosen is None:
            return None
        _keep(facts, found, chosen)
    return found


def _keep(facts: dict[str, Any], found: Fastest, chosen: str | None) -> None:
    told = {
        name: getattr(found, name) for name in ("times", "timed_yx", "refused", "left_out", "later")
    }
    remember(facts, {"chosen": chosen, **told})


def _affordable(
    shape: tuple[int, ...], grid: int, least: tuple[int, int], seconds: float, share: float
) -> tuple[int, ...]:
    """Return the shape, or a smaller one of which a few predictions fit into a candidate's share of time.

    Parameters
    ----------
    shape : tuple of int
        Of the network's input.
    grid : int
        Both sides are multiples of it.
    least : tuple of int
        The least sides, whatever they take.
    seconds : float
        What one prediction of the whole is thought to take.
    share : float
        Seconds for one candidate.
    """
    factor = min(1.0, math.sqrt(max(share, 0.0) / (_WARM_AND_TIMED * seconds)))
    sides = (
        max(low, int(side * factor) // grid * grid)
        for side, low in zip(shape[-2:], least, strict=True)
    )
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

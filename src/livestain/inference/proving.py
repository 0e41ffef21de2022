"""Holding backends to the bundle's test tensors."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.bundle.parity import relative_difference
from livestain.errors import LivestainError
from livestain.inference.backends import get_backend
from livestain.inference.memory import is_out_of_memory
from livestain.inference.network import network_of
from livestain.inference.padded import stain_padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.bundle.description import BundleDescription
    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle
    from livestain.inference.backends import Predict
    from livestain.inference.upload import Upload

__all__ = ["Proof", "Proven", "RefusedError", "close", "forget", "parity_limit"]

_WARM_S = 0.1
"""For how long the test input is predicted again, at most five times."""

_LIMITS = {"fp32": 1e-4, "tf32": 1e-2}


class RefusedError(Exception):
    """A backend cannot run a bundle's network, or not as it should; its text is the reason."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A backend with a network in it, that gives the test output."""

    predict: Predict
    name: str
    difference: float
    """RMS difference from the test output, relative to the latter's standard deviation."""

    seconds_per_value: float
    """Of the network on the test input once it is warm, by values of its input: what a frame may take. NaN
    where nobody asked."""


def parity_limit(name: str, description: BundleDescription, *, reference: str = "eager") -> float:
    """Return how far a backend's output may be from the test output, relative to its standard deviation.

    Parameters
    ----------
    name : str
        The backend's.
    description : BundleDescription
        Of the bundle. The reference, and half precision, are held to its tolerance; int8 to what it states.
    reference : str
        The backend that the others are held to: by its test output a bundle is trusted at all.
    """
    precision = get_backend(name).precision
    if name == reference:
        return description.tolerance
    if precision == "int8" and description.int8 is not None:
        return description.int8.tolerance
    return _LIMITS.get(precision, description.tolerance)


def close(predict: Predict) -> None:
    """Let a backend give back what it holds, if it has a way to."""
    done = getattr(predict, "close", None)
    if done is not None:
        done()


def forget(predict: Predict) -> None:
    """Let a backend give back what it keeps for speed alone, if it has a way to."""
    done = getattr(predict, "forget", None)
    if done is not None:
        done()


class Proof:
    """A bundle's test tensors, on a device, for one backend after the other.

    Parameters
    ----------
    bundle : Bundle
        The model.
    module : StainModule or ForeignModule
        Its module with its weights, on the CPU.
    device : torch.device
        Where to compute.
    upload : Upload
        Brings the test input there.
    """

    def __init__(
        self,
        bundle: Bundle,
        module: StainModule | ForeignModule,
        device: torch.device,
        upload: Upload,
    ) -> None:
        self.bundle = bundle
        self.module = module
        self.device = device
        self.network = network_of(bundle, module)
        self.reference = "eager" if self.network.module is not None else "onnxruntime"
        counts, self._expected = bundle.test_tensors()
        self._planes: NDArray[Any] = counts[0].reshape(-1, *counts.shape[-2:])  # of sources, depth
        self._upload = upload
        self._reference_output: NDArray[np.float32] | None = None
        self.shape: tuple[int, ...] = ()
        """Of the test input as the network takes it; known once a backend was tried."""

    def limit(self, name: str) -> float:
        """Return `parity_limit` of a backend here."""
        return parity_limit(name, self.bundle.description, reference=self.reference)

    def frame_shape(self, frame: tuple[int, int, int]) -> tuple[int, ...]:
        """Return the shape of the network's input for planes of a height and a width, in its pixels.

        The number of planes counts for whole stacks alone. Known once a backend was tried.
        """
        sides = [side + -side % self.module.divisor for side in frame[1:]]
        depth = [frame[0] + -frame[0] % self.module.divisor_z] if self.module.whole_stack else []
        inner = [*depth, *sides]
        return (*self.shape[: len(self.shape) - len(inner)], *inner)

    def prove(self, name: str, *, timed: bool = False) -> Proven:
        """Load a backend and compare what it gives from the test input.

        Parameters
        ----------
        name : str
            The backend's.
        timed : bool
            Whether to run it some more times, for `Proven.seconds_per_value`.

        Raises
        ------
        RefusedError
            If it cannot be loaded or run, or differs too much.
        RuntimeError, MemoryError
            If the device has no memory left (`is_out_of_memory`).
        """
        backend = get_backend(name)
        predict: Predict | None = None
        try:
            predict = backend.load(self.network, self.device)
            output, seconds = self._run(predict, timed=timed)
            difference = relative_difference(output, self._expected)
        except Exception as error:  # a foreign runtime may raise anything: refused by name
            if predict is not None:
                close(predict)
            if is_out_of_memory(error):
                raise
            raise RefusedError(self._words(name, error)) from None
        limit = self.limit(name)
        if not difference <= limit:
            close(predict)
            predict = None  # never two in memory
            if not self._as_the_reference(name, output, difference):
                raise RefusedError(
                    f"differs from the test output by {difference:.2g} of its standard deviation; "
                    f"the limit for {backend.precision} is {limit:g}"
                )
            predict = backend.load(self.network, self.device)
        return Proven(predict, name, difference, seconds)

    def _run(self, predict: Predict, *, timed: bool) -> tuple[NDArray[np.float32], float]:
        """Return the output of the test input, and the warm network's seconds for each of its values."""
        seconds = math.nan

        def run(x: torch.Tensor) -> torch.Tensor:
            nonlocal seconds
            self.shape = tuple(x.shape)
            predicted = predict(x)
            if not timed:
                return predicted
            # The least of a few: one run that something else disturbed would rule a backend out.
            seconds, spent = math.inf, 0.0
            while spent < _WARM_S:
                each = seconds_of(predict, x)
                seconds, spent = min(seconds, each), spent + max(each, _WARM_S / 5)
            return predicted

        if self._planes.dtype in (np.uint8, np.uint16):
            planes = self._upload(self._planes, self.device)
        else:  # some models of other tools take floats
            planes = torch.from_numpy(self._planes.copy())[None].to(self.device)
        output: NDArray[np.float32] = stain_padded(self.module, planes, run).cpu().numpy()
        return output, seconds / np.prod(self.shape)

    def _as_the_reference(self, name: str, output: NDArray[np.float32], difference: float) -> bool:
        """Return whether an output is the reference's on this very device, and near the test output.

        Test outputs that another tool or another kind of processor computed differ by more than what is
        allowed between two ways of the same arithmetic.
        """
        if name == self.reference or not difference <= self.bundle.description.tolerance:
            return False
        predict: Predict | None = None
        try:
            if self._reference_output is None:
                predict = get_backend(self.reference).load(self.network, self.device)
                self._reference_output, _ = self._run(predict, timed=False)
            return relative_difference(output, self._reference_output) <= self.limit(name)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        finally:
            if predict is not None:
                close(predict)

    def _words(self, name: str, error: Exception) -> str:
        unready = get_backend(name).unready(self.network, self.device)
        if unready is not None:
            return unready
        kind = "" if isinstance(error, LivestainError) else f"{type(error).__name__}: "
        return " ".join(f"{kind}{error}".split())[:500]


def seconds_of(predict: Predict, x: torch.Tensor) -> float:
    """Return what one prediction takes, on a GPU until it is done."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    predict(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start

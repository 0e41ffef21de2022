"""Predictions to stored counts, on the device that made them: the rule of `livestain.encoding`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from livestain.encoding import LARGEST, SMALLEST, encode_into, refuse_not_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Counts", "CountsPlane", "Encodings", "encode_on_cpu", "encode_on_device"]

Encodings = tuple[tuple[float, float], ...]
"""(scale, offset) of each output, in their order."""


@dataclass(frozen=True, slots=True)
class CountsPlane:
    """One predicted plane as it is stored."""

    counts: NDArray[np.uint16]
    """(y, x); never 0."""

    mean: float
    """Of the prediction before it was encoded, in its unit."""

    std: float
    """Standard deviation of the same."""

    clipped: float
    """Fraction of pixels that the encoding clipped to its ends."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Predictions as they are stored, and what is told of each plane."""

    counts: NDArray[np.uint16]
    """(outputs, y, x), or (outputs, z, y, x) of models of whole stacks."""

    told: NDArray[np.float64]
    """(outputs, 4) or (outputs, z, 4): of each plane mean, std, clipped fraction, and number of values that
    are NaN or infinite."""

    def plane(self, output: int, z: int | None = None) -> CountsPlane:
        """Return one plane.

        Parameters
        ----------
        output : int
            Its place among the outputs.
        z : int, optional
            Its place in the stack; left out where a prediction is one plane.

        Raises
        ------
        StoreError
            If the model gave NaN or infinite values there.
        """
        at = (output,) if z is None else (output, z)
        counts, (mean, std, clipped, bad) = self.counts[at], self.told[at]
        refuse_not_finite(int(bad), counts.size)
        return CountsPlane(counts, float(mean), float(std), float(clipped))

    def checked(self) -> NDArray[np.uint16]:
        """Return the counts of all planes.

        Raises
        ------
        StoreError
            If the model gave NaN or infinite values in any of them.
        """
        refuse_not_finite(int(self.told[..., 3].sum()), self.counts.size)
        return self.counts


def encode_on_cpu(predicted: torch.Tensor, encodings: Encodings) -> Counts:
    """Encode what was predicted on the CPU, plane by plane.

    Parameters
    ----------
    predicted : torch.Tensor, (outputs, [z], y, x) float32
    encodings : tuple of tuple of float
        Scale and offset of each output.
    """
    values = predicted.numpy()
    counts = np.empty(values.shape, np.uint16)
    told = np.empty((*values.shape[:-2], 4), np.float64)
    for at in np.ndindex(values.shape[:-2]):
        told[at] = encode_into(counts[at], values[at], *encodings[at[0]])
    return Counts(counts, told)


def encode_on_device(
    predicted: torch.Tensor,
    encodings: Sequence[torch.Tensor],
    counts: torch.Tensor,
    told: torch.Tensor,
) -> None:
    """Encode what was predicted where it is, without waiting for it.

    Plane by plane, so that double precision needs the memory of one plane.

    Parameters
    ----------
    predicted : torch.Tensor, (n, outputs, [z], y, x) float32
    encodings : sequence of torch.Tensor
        Scale and offset of each output, float64, (2,), on the device. By plain numbers torch multiplies with
        the reciprocal on a GPU, which is another number than the quotient.
    counts : torch.Tensor, the same shape, uint16
        Filled.
    told : torch.Tensor, (n, outputs, [z], 4) float64
        Filled, as `Counts` has it.
    """
    for at in itertools.product(*(range(side) for side in predicted.shape[:-2])):
        scale, offset = encodings[at[1]].unbind()
        values = predicted[at].to(torch.float64)
        finite = torch.isfinite(values)
        var, mean = torch.var_mean(values, correction=0)
        block = values.sub_(offset).div_(scale).round_().clamp_(SMALLEST, LARGEST)
        block.masked_fill_(~finite, 0)
        ends = (block <= SMALLEST) | (block == LARGEST)
        told[at] = torch.stack(
            (
                mean,
                var.sqrt(),
                ends.to(torch.float64).mean(),
                finite.logical_not().sum().to(torch.float64),
            )
        )
        counts[at].copy_(block)

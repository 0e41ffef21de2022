"""A network of 8-bit integers, calibrated on training planes; kept only where it costs little accuracy.

Static quantisation: ranges of every feature map are taken over calibration planes, weights per output
channel, activations unsigned (Jacob et al. 2018, arXiv:1712.05877). Planes that were not calibrated on say,
against their real targets, what it costs.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.bundle.description import MOST_INT8_DIFFERENCE, Int8
from livestain.bundle.parity import relative_difference
from livestain.errors import SettingsError
from livestain.inference.backends import get_backend
from livestain.inference.network import Network
from livestain.inference.padded import stain_padded
from livestain.metrics import pearson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from livestain.bundle.module import StainModule
    from livestain.training.pairs import PairSet

__all__ = ["PEARSON_BOUND", "Examples", "Quantised", "examples_of", "quantise"]

PEARSON_BOUND = 0.005
"""Largest loss of Pearson correlation, on planes not calibrated on, up to which int8 is kept."""

_CALIBRATE, _HOLD = 48, 24
"""Most pairs that are calibrated on, and that are held back."""

_EACH = 3
"""Every so many-th pair is held back."""

_SIDE = 512
"""Longest side of what is calibrated on: ranges are wanted, and of those area gives little."""

_PERCENTILE = 99.995
"""Of the magnitudes of a feature map, up to which it is represented."""

_MOST_AWAY = 0.15
"""Largest RMS difference from float32 on planes held back, in standard deviations: a correlation of 0.99."""

_MARGIN = 1.5
"""The stated tolerance is the difference on the test tensors times this: other runtimes round otherwise."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs of a training, for calibration and for its trial.

    Each is gone through once, and may read while it is: no more than a pair is held at once.

    Attributes
    ----------
    calibration : iterable of array of float32, (1, sources * planes, y, x)
        Raw counts.
    held : iterable of tuple of array
        Raw counts as above, and the target (outputs, y, x) or (outputs, planes, y, x) in any unit; NaN where
        a target is missing.
    """

    calibration: Iterable[NDArray[np.float32]]
    held: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Quantised:
    """The outcome.

    Attributes
    ----------
    made : tuple, optional
        The ONNX and what is stated of it; None where it lost too much.
    words : str
        A sentence on it.
    """

    made: tuple[bytes, Int8] | None
    words: str


def examples_of(pairs: PairSet, *, whole_stack: bool) -> Examples:
    """Return pairs of a training set, every third of them to be held back; read when they are gone through.

    Parameters
    ----------
    pairs : PairSet
        Of the movies that were trained on.
    whole_stack : bool
        Whether every plane of a stack is predicted.

    Raises
    ------
    SettingsError
        If there are fewer than two.
    """
    if len(pairs.pairs) < 2:
        raise SettingsError(
            "int8 needs 2 pairs or more, one to calibrate on and one to try it on; there is "
            f"{len(pairs.pairs)}."
        )
    held, calibration = (
        pairs.pairs[1::_EACH],
        [p for i, p in enumerate(pairs.pairs) if i % _EACH != 1],
    )

    def counts(pair: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        data = pairs.read(pair)
        source = data.source.reshape(1, -1, *data.source.shape[2:]).astype(np.float32)
        target = data.target if whole_stack else data.target[:, data.target.shape[1] // 2]
        return source, target.astype(np.float32)

    return Examples(
        (counts(pair)[0] for pair in _some(calibration, _CALIBRATE)),
        (counts(pair) for pair in _some(held, _HOLD)),
    )


def quantise(
    onnx: bytes,
    module: StainModule,
    examples: Examples,
    test: tuple[NDArray[np.uint16], NDArray[np.float32]],
    *,
    bound: float = PEARSON_BOUND,
) -> Quantised:
    """Quantise a network, and measure what it costs.

    Parameters
    ----------
    onnx : bytes
        The network alone: normalised planes in.
    module : StainModule
        The same with its normalisation, float32, on the CPU, in eval mode.
    examples : Examples
        Pairs of the training.
    test : tuple of array
        The bundle's test tensors.
    bound : float
        Largest loss of Pearson correlation.

    Returns
    -------
    Quantised
    """
    counted, expected = test
    flat = counted.astype(np.float32).reshape(1, -1, *counted.shape[-2:])
    # With the test input, on which every runtime is held to the tolerance: outside of the calibrated range
    # int8 clips, and that would say nothing of the planes it is for.
    seen = _network_input(module, flat)
    inputs = (_network_input(module, counts) for counts in examples.calibration)
    tiles = (tile for x in inputs for tile in _tiles(x, seen.shape[2:]))
    weights = _static_int8(onnx, itertools.chain((seen,), tiles))
    # As it runs live, and by what every installation has.
    made = Network(module=None, onnx=None, int8=lambda: weights, dims=module.dims, identity="")
    predict = get_backend("onnxruntime-int8").load(made, torch.device("cpu"))
    losses: list[list[float]] = []  # of each pair, by output
    apart: list[list[float]] = []
    with torch.inference_mode():
        for counts, target in examples.held:
            planes = torch.from_numpy(counts)
            full, narrow = (stain_padded(module, planes, run)[0].numpy() for run in (None, predict))
            apart.append(
                [relative_difference(b[None], a[None]) for a, b in zip(full, narrow, strict=True)]
            )
            losses.append(
                [
                    pearson(a, wanted) - pearson(b, wanted)
                    if np.isfinite(wanted).all()
                    else math.nan
                    for a, b, wanted in zip(full, narrow, target, strict=False)
                ]
            )
        found = stain_padded(module, torch.from_numpy(flat), predict).numpy()
    loss = _worst(losses)
    on_test = relative_difference(found, expected)
    away = _worst(apart)
    compared = sum(any(math.isfinite(each) for each in pair) for pair in losses)
    what = (
        f"int8 loses {loss:.4f} of Pearson on {compared} planes that it was not calibrated on "
        f"(bound {bound:g}), and is {away:.3f} of a standard deviation away from fp32 there (at most "
        f"{_MOST_AWAY:g}) and {on_test:.3f} on the test tensors (at most {MOST_INT8_DIFFERENCE:g})"
    )
    if not (loss <= bound and on_test <= MOST_INT8_DIFFERENCE and away <= _MOST_AWAY):
        return Quantised(None, f"{what}: left out.")
    tolerance = max(_MARGIN * on_test, 1e-3)
    stated = Int8(
        tolerance=round(min(tolerance, MOST_INT8_DIFFERENCE), 4),
        pearson_loss=min(round(loss, 5), bound),
        planes=compared,
        bound=bound,
        cpu=torch.backends.cpu.get_cpu_capability(),
    )
    return Quantised((weights, stated), f"{what}: kept.")


def _worst(by_output: Sequence[Sequence[float]]) -> float:
    """Return the worst output's mean over all pairs that have it; infinite where nothing was compared."""
    if not by_output:
        return math.inf
    columns = np.asarray(by_output, np.float64).T
    means = [column[~np.isnan(column)].mean() for column in columns if not np.isnan(column).all()]
    return float(max(means, default=math.inf))


def _network_input(module: StainModule, counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the network sees of whole planes: normalised, and padded to its grid."""

    def look(x: torch.Tensor) -> torch.Tensor:
        raise _SeenError(x)

    with torch.inference_mode():
        try:
            stain_padded(module, torch.from_numpy(counts), look)
        except _SeenError as seen:  # the network itself need not run
            x: NDArray[np.float32] = seen.x.numpy()
            return np.ascontiguousarray(x)
    raise AssertionError("the module predicts without its network")


def _tiles(x: NDArray[np.float32], sides: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Cut the middle of an input into tiles of equal sides, which the calibration by percentiles asks for."""
    short = [(0, max(0, side - length)) for length, side in zip(x.shape[2:], sides, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *short], mode="symmetric")
    starts = []
    for length, side in zip(x.shape[2:], sides, strict=True):
        number = min(length, max(_SIDE, side)) // side
        first = (length - number * side) // 2
        starts.append([first + n * side for n in range(number)])
    for corner in itertools.product(*starts):
        inside = tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))
        yield np.ascontiguousarray(x[(slice(None), slice(None), *inside)])


class _SeenError(Exception):
    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x = x


def _some(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many, spread over all."""
    if len(items) <= most:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, most)]


def _static_int8(onnx: bytes, inputs: Iterator[NDArray[np.float32]]) -> bytes:
    import onnx as onnx_library
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx_library.load_from_string(onnx).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = inputs

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            x = next(self.rest, None)
            return None if x is None else {name: x}

    root = logging.getLogger()
    level = root.level
    with (
        tempfile.TemporaryDirectory(prefix="livestain-int8-") as scratch,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        given, folded, made = (Path(scratch) / f"{n}.onnx" for n in ("given", "folded", "int8"))
        given.write_bytes(onnx)
        root.setLevel(logging.ERROR)  # it advises, on the root logger, to do what is done here
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                # Folds batch normalisation into convolutions, whose outputs are then quantised once.
                quant_pre_process(str(given), str(folded), skip_symbolic_shape=True)
                # The first and the last convolution, which cost little, stay in float32: their rounding
                # reaches every pixel of the output.
                ends = [
                    node.name
                    for node in onnx_library.load(folded, load_external_data=False).graph.node
                    if node.op_type in ("Conv", "ConvTranspose")
                ]
                quantize_static(
                    str(folded),
                    str(made),
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    # The very largest of a feature map would cost all others their precision.
                    calibrate_method=CalibrationMethod.Percentile,
                    nodes_to_exclude=[ends[0], ends[-1]] if len(ends) > 2 else [],
                    extra_options={"CalibPercentile": _PERCENTILE},
                )
        finally:
            root.setLevel(level)
        return made.read_bytes()

"""A network of 8-bit integers, calibrated on training planes; kept only where it costs little accuracy.

Static quantisation: ranges of every feature map are taken over calibration planes, weights per output
channel, activations unsigned (Jacob et al. 2018, arXiv:1712.05877). Planes that were not calibrated on say,
against their real targets, what it costs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.bundle.description import Int8
from livestain.bundle.parity import relative_difference
from livestain.errors import SettingsError
from livestain.inference.padded import stain_padded
from livestain.metrics import pearson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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

_MARGIN = 1.5
"""The stated tolerance is the difference on the test tensors times this: other runtimes round otherwise."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs of a training, for calibration and for its trial.

    Attributes
    ----------
    calibration : sequence of array of float32, (1, sources * planes, y, x)
        Raw counts.
    held : sequence of tuple of array
        Raw counts as above, and the target (outputs, y, x) or (outputs, planes, y, x) in any unit; NaN where
        a target is missing.
    """

    calibration: Sequence[NDArray[np.float32]]
    held: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Quantised:
    """The outcome: what is stated of it, and the ONNX, or None where it lost too much."""

    weights: bytes | None
    stated: Int8

    @property
    def words(self) -> str:
        """A sentence on it."""
        s = self.stated
        what = (
            f"int8 loses {s.pearson_loss:.4f} of Pearson on {s.planes} planes that it was not calibrated on "
            f"(bound {s.bound:g})"
        )
        return f"{what}: kept." if self.weights is not None else f"{what}: left out."


def examples_of(pairs: PairSet, *, whole_stack: bool) -> Examples:
    """Read pairs of a training set, every third of them to be held back.

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
        [counts(pair)[0] for pair in _some(calibration, _CALIBRATE)],
        [counts(pair) for pair in _some(held, _HOLD)],
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
    seen: list[NDArray[np.float32]] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.numpy().copy())
        result: torch.Tensor = module.network(x)
        return result

    with torch.inference_mode():
        for counts in examples.calibration:
            stain_padded(module, torch.from_numpy(counts), look)
    weights = _static_int8(onnx, seen)
    predict = _runner(weights)
    losses = []
    with torch.inference_mode():
        for counts, target in examples.held:
            planes = torch.from_numpy(counts)
            full, narrow = (stain_padded(module, planes, run)[0].numpy() for run in (None, predict))
            losses += [
                pearson(a, wanted) - pearson(b, wanted)
                for a, b, wanted in zip(full, narrow, target, strict=False)
                if np.isfinite(wanted).all()
            ]
        counted, expected = test
        flat = torch.from_numpy(counted.astype(np.float32)).reshape(1, -1, *counted.shape[-2:])
        found = stain_padded(module, flat, predict).numpy()
    loss = float(np.mean(losses)) if losses else float("inf")
    difference = relative_difference(found, expected)
    stated = Int8(
        tolerance=min(max(round(_MARGIN * difference, 4), 1e-3), 0.99),
        pearson_loss=round(loss, 5) if np.isfinite(loss) else 1.0,
        planes=max(len(examples.held), 1),
        bound=bound,
    )
    return Quantised(weights if loss <= bound else None, stated)


def _some(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many, spread over all."""
    if len(items) <= most:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, most)]


def _static_int8(onnx: bytes, inputs: Sequence[NDArray[np.float32]]) -> bytes:
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
            self.rest = iter(inputs)

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
                quantize_static(
                    str(folded),
                    str(made),
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                )
        finally:
            root.setLevel(level)
        return made.read_bytes()


def _runner(weights: bytes) -> Callable[[torch.Tensor], torch.Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(x: torch.Tensor) -> torch.Tensor:
        (y,) = session.run(None, {name: x.contiguous().numpy()})
        return torch.from_numpy(y)

    return predict

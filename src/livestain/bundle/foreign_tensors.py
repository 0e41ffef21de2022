"""The test tensors of models that other tools wrote, in the layout of our own bundles."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle.description import ForeignSpec
    from livestain.bundle.foreign_format import ForeignFormat, Tensor

__all__ = ["expected_output", "foreign_test_tensors"]


def _canonical(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Bring an array from a tensor's own axes to (n, channels, [z], y, x)."""
    letters = "nczyx" if "z" in tensor.letters else "ncyx"
    array = array.transpose([tensor.letters.index(c) for c in letters if c in tensor.letters])
    return array.reshape(
        [
            array.shape[[c for c in letters if c in tensor.letters].index(c)]
            if c in tensor.letters
            else 1
            for c in letters
        ]
    )


def _load(
    form: ForeignFormat, tensor: Tensor, read: Callable[[str], bytes], folder: Path
) -> NDArray[Any]:
    name = tensor.test_tensor.source
    try:
        array = np.load(io.BytesIO(read(name)), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(f"{folder / name} is not a plain numpy array: {error}") from error
    plain = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
    if not plain or array.ndim != len(tensor.axes):
        shape = getattr(array, "shape", None)
        raise BundleError(
            f"{folder / name} holds {getattr(array, 'dtype', type(array))} {shape}; expected numbers with "
            f"the axes {', '.join(axis.name for axis in tensor.axes)}. Choose another model."
        )
    found = _canonical(array, tensor)[:1]
    if found.shape[1] != tensor.channels:
        raise BundleError(
            f"{folder / name} has {found.shape[1]} channels; the model's tensor {tensor.id!r} has "
            f"{tensor.channels}. Choose another model."
        )
    return found


def expected_output(
    form: ForeignFormat, read: Callable[[str], bytes], folder: Path
) -> NDArray[np.float32]:
    """Return the test outputs of all output tensors, (1, outputs, [z], y, x).

    Raises
    ------
    BundleError
        If they are no plain arrays with these axes, or not finite.
    """
    parts = [_load(form, tensor, read, folder).astype(np.float32) for tensor in form.outputs]
    expected = np.concatenate(parts, axis=1)
    if not np.isfinite(expected).all():
        raise BundleError(
            f"The test output of the model {folder} has values that are NaN or infinite. "
            "Choose another model."
        )
    return expected


def foreign_test_tensors(
    form: ForeignFormat,
    read: Callable[[str], bytes],
    folder: Path,
    spec: ForeignSpec | None = None,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return a foreign model's test tensors in the layout of our own bundles.

    Where a camera's counts are mapped onto the values that it takes, its input is brought to such counts.

    Returns
    -------
    array of uint8, uint16 or float32
        (1, planes, y, x), or (1, sources, z, y, x) for whole stacks.
    array of float32
        (1, outputs, y, x), or (1, outputs, z, y, x).

    Raises
    ------
    BundleError
        If they are no plain arrays with these axes.
    """
    counts = _load(form, form.input, read, folder)
    if counts.dtype not in (np.uint8, np.uint16):
        counts = counts.astype(np.float32)
    if spec is not None and spec.input_range is not None and spec.takes is not None:
        (least, most), (low, high) = spec.input_range, spec.takes
        values = (counts.astype(np.float64) - low) * ((most - least) / (high - low)) + least
        counts = values.astype(np.float32)
    if form.z == "window":
        counts = counts.reshape(1, -1, *counts.shape[-2:])
    return np.ascontiguousarray(counts), np.ascontiguousarray(expected_output(form, read, folder))

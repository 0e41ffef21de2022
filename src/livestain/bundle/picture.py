"""The picture on a bundle's cover: what goes in beside what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle.description import OutputChannel

__all__ = ["write_cover"]

_LARGEST_SIDE = 384


def write_cover(
    path: Path, counts: NDArray[Any], predicted: NDArray[Any], output: OutputChannel
) -> None:
    """Write a PNG twice as wide as high (as bioimage.io asks): raw plane | prediction in colour.

    Parameters
    ----------
    path : Path
        The file to write.
    counts : array, (y, x)
        A raw plane.
    predicted : array, (y, x)
        Its prediction, in the output's unit.
    output : OutputChannel
        Its display range and colour.
    """
    from PIL import Image

    side = min(*counts.shape, _LARGEST_SIDE)
    top, left = ((length - side) // 2 for length in counts.shape)
    middle = np.s_[top : top + side, left : left + side]
    low, high = np.percentile(counts[middle], (0.5, 99.5))
    raw = _stretch(counts[middle], float(low), float(high))
    colour = np.array([int(output.color[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
    stain = _stretch(predicted[middle], *output.display)
    picture = np.concatenate(
        (np.repeat(raw[..., None] * 255, 3, axis=2), stain[..., None] * colour), axis=1
    )
    Image.fromarray(picture.astype(np.uint8)).save(path, optimize=True)


def _stretch(plane: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    scaled = (plane.astype(np.float32) - low) / max(high - low, 1e-6)
    clipped: NDArray[np.float32] = np.clip(np.nan_to_num(scaled), 0, 1)
    return clipped

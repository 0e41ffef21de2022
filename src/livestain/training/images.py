"""Reading single-plane image files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["IMAGE_SUFFIXES", "read_image"]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
"""Of the files that count as images; capitals do not matter."""


def read_image(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read one grey plane, 8 or 16 bits.

    Returns
    -------
    array of uint8 or uint16, (y, x)

    Raises
    ------
    DataError
        If the file cannot be read, is a colour image or a stack, or has other values than counts.
    """
    try:
        image = _read_tiff(path) if path.suffix.lower() != ".png" else _read_png(path)
    except (OSError, ValueError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"Cannot read {path}: {reason}. Expected a PNG or TIFF image; replace or remove it."
        ) from error
    if image.ndim == 3 and image.shape[-1] in (2, 3, 4) and image.dtype.kind in "ui":
        raise DataError(
            f"{path} is a colour image; expected one grey plane of 8 or 16 bits. Save the "
            "camera's own plane, not a picture of it."
        )
    if image.ndim != 2 or 0 in image.shape:
        raise DataError(
            f"{path} has the shape {image.shape}; expected one plane (y, x). Save one file a plane."
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path} has values of type {image.dtype}; expected counts, uint8 or uint16. Save the "
            "camera's own counts."
        )
    return image


def _read_png(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as picture:
        if picture.mode in ("P", "PA", "LA", "CMYK", "YCbCr"):
            return np.asarray(picture.convert("RGB"))
        # Pillow opens some 16-bit files as 32-bit integers, and those of another byte order as such.
        plane = np.asarray(picture)
        if picture.mode == "I" and plane.size and plane.min() >= 0 and plane.max() <= 65535:
            return plane.astype(np.uint16)
        return plane.astype(plane.dtype.newbyteorder("="))


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    plane = np.asarray(tifffile.imread(path))
    while plane.ndim > 2 and plane.shape[0] == 1:
        plane = plane[0]
    return plane.astype(plane.dtype.newbyteorder("="))

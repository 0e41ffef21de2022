"""Reading single-plane image files: the one way for recordings that are replayed and trained on alike."""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "TIFF_SUFFIXES", "image_format", "read_image", "read_pixels"]

TIFF_SUFFIXES = (".tif", ".tiff")

IMAGE_SUFFIXES = (".png", *TIFF_SUFFIXES)
"""Of the files that count as images; capitals do not matter."""

_COUNTS = ("uint8", "uint16")

# Older Pillow calls a 16-bit PNG "I"; there is no PNG of 32 bits.
_PNG_TYPES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "uint16"}


def image_format(path: Path, *, floats: bool = False) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return size (y, x) and data type of an image from its header alone.

    Parameters
    ----------
    path : Path
        A PNG or TIFF file.
    floats : bool
        Whether float32 will do, besides counts of 8 or 16 bits.

    Raises
    ------
    DataError
        If the file cannot be read, is a colour image or has several planes, or has other values.
    """
    if path.suffix.lower() == ".png":
        from PIL import Image

        with _told(path), Image.open(path) as picture:
            return _png_format(path, picture)
    import tifffile

    with _told(path), tifffile.TiffFile(path) as tiff:
        return _tiff_format(path, tiff, floats=floats)


def read_image(path: Path, *, floats: bool = False) -> NDArray[Any]:
    """Read one grey plane.

    Returns
    -------
    array of uint8 or uint16 (or float32), (y, x)

    Raises
    ------
    DataError
        As `image_format`.
    """
    image_format(path, floats=floats)
    with _told(path):
        return read_pixels(path)


def read_pixels(path: Path) -> NDArray[Any]:
    """Read the plane of a file whose format is known to be right, (y, x) in the machine's byte order.

    Raises
    ------
    OSError, ValueError
        If the file breaks off, or is not what its header says.
    """
    if path.suffix.lower() == ".png":
        from PIL import Image

        with Image.open(path) as picture:
            plane = np.asarray(picture)
            return plane.astype(_PNG_TYPES.get(picture.mode, plane.dtype), copy=False)
    import tifffile

    plane = np.asarray(tifffile.imread(path))
    plane = plane.reshape(plane.shape[-2:])
    return plane.astype(plane.dtype.newbyteorder("="), copy=False)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell in a sentence why a file is no image."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SyntaxError, zlib.error) as error:
        # Pillow raises a SyntaxError, and tifffile a ValueError, for what is damaged.
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read: {reason}. Expected a PNG or TIFF image; replace or remove it."
        ) from error


def _png_format(path: Path, picture: Image.Image) -> tuple[tuple[int, int], np.dtype[Any]]:
    if picture.mode not in _PNG_TYPES:
        if picture.mode == "1":
            raise _other_type(path, "bool", floats=False)
        raise _colour(path)
    return (picture.height, picture.width), np.dtype(_PNG_TYPES[picture.mode])


def _tiff_format(
    path: Path, tiff: tifffile.TiffFile, *, floats: bool
) -> tuple[tuple[int, int], np.dtype[Any]]:
    series = tiff.series[0]
    if "S" in series.axes:
        raise _colour(path)
    shape = tuple(int(side) for side in series.shape)
    if len(tiff.pages) != 1 or len(shape) != 2 or 0 in shape:
        raise DataError(
            f"{path} has {len(tiff.pages)} pages and the shape {shape}; expected one plane (y, x). "
            "Save one file a plane."
        )
    dtype = series.dtype.newbyteorder("=")
    if dtype.name not in (*_COUNTS, *(["float32"] if floats else [])):
        raise _other_type(path, dtype.name, floats=floats)
    return (shape[0], shape[1]), dtype


def _colour(path: Path) -> DataError:
    return DataError(
        f"{path} is a colour image; expected one grey plane of 8 or 16 bits. Save the camera's own "
        "plane, not a picture of it."
    )


def _other_type(path: Path, found: str, *, floats: bool) -> DataError:
    also = " (or float32)" if floats else ""
    return DataError(
        f"{path} has values of type {found}; expected counts of 8 or 16 bits, uint8 or uint16{also}. "
        "Save the camera's own counts."
    )

"""Uneven light and a camera's offset, taken out of planes: one way for trainings and live runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.images import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FlatField"]


class FlatField:
    """(plane - dark) / (flat - dark) * mean(flat - dark).

    Parameters
    ----------
    flat_field : Path or str, optional
        Image of an empty field, PNG or TIFF.
    dark_frame : Path or str, optional
        Image without light; without it the dark is 0.

    Raises
    ------
    DataError
        If a file is missing or no image, the two differ in size, or the flat field is nowhere brighter.
    """

    def __init__(self, flat_field: Path | str | None, dark_frame: Path | str | None) -> None:
        self._dark: NDArray[np.float32] | None = None
        self._flat: NDArray[np.float32] | None = None
        files = [Path(path) for path in (flat_field, dark_frame) if path is not None]
        self._names = " and ".join(str(path) for path in files)
        if dark_frame is not None:
            self._dark = _read(dark_frame)
        if flat_field is not None:
            flat = _read(flat_field)
            if self._dark is not None:
                if flat.shape != self._dark.shape:
                    raise _shapes(
                        f"The flat field {flat_field}", flat, "the dark frame", self._dark
                    )
                flat = flat - self._dark
            if not flat.min() > 0:
                raise DataError(
                    f"The flat field {flat_field} has {int((~(flat > 0)).sum())} pixels that are "
                    "no brighter than the dark frame (or 0). Take another image of an empty field."
                )
            self._flat = (flat / flat.mean(dtype=np.float64)).astype(np.float32)
        self.sha256 = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        """Of both files, one after the other."""

    def check(self, shape: tuple[int, ...], where: str) -> None:
        """Refuse planes of another size.

        Raises
        ------
        DataError
            Naming both sizes.
        """
        for image in (self._dark, self._flat):
            if image is not None and image.shape != shape:
                raise _shapes(where, np.empty(shape[-2:], dtype=bool), self._names, image)

    def correct(self, plane: NDArray[Any], where: str) -> NDArray[np.float32]:
        """Return a plane (y, x) corrected, in counts.

        Raises
        ------
        DataError
            If it is of another size; `where` says which plane it is.
        """
        self.check(plane.shape, where)
        corrected = plane.astype(np.float32)
        if self._dark is not None:
            corrected -= self._dark
        if self._flat is not None:
            corrected /= self._flat
        return corrected


def _read(name: Path | str) -> NDArray[np.float32]:
    path = Path(name)
    if not path.is_file():
        raise DataError(
            f"There is no file {path}, which is named as flat field or dark frame. Give the path of an "
            "image (in a recipe, also one relative to the data folder)."
        )
    return read_image(path, floats=True).astype(np.float32)


def _shapes(one: str, a: NDArray[Any], other: str, b: NDArray[Any]) -> DataError:
    return DataError(
        f"{one} has {a.shape[0]} x {a.shape[1]} pixels, and {other} has {b.shape[0]} x {b.shape[1]}. "
        "Expected images of the same camera and region."
    )

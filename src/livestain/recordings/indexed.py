"""Recordings whose own index says in which file, and where in it, each plane lies."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.recordings.base import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["IndexedRecording", "OpenFiles"]

_OPEN_FILES = 16
"""Files that stay open at a time."""

_MOST_PLACES = 50_000_000
"""Planes, there or not, beyond which an index is taken for damaged."""


class IndexedRecording(Recording):
    """Planes at known offsets of the files of one folder.

    Attributes
    ----------
    folder : Path
        Where the files are.
    files : tuple of str
        Their names.
    """

    folder: Path

    _file: tuple[NDArray[np.int32], ...]
    _offset: tuple[NDArray[np.int64], ...]
    _formats: tuple[tuple[tuple[int, int], np.dtype[Any]], ...]

    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""
        there: NDArray[np.bool_] = self._file[place][:, c] >= 0
        return there

    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) each."""
        found = []
        for t, z in at:
            number = int(self._file[place][t, c, z])
            if number < 0:
                raise DataError(f"{self.where(place, c, t, z)} was never recorded. Leave it out.")
            path = self.folder / self.files[number]
            plane = self._read(path, place, int(self._offset[place][t, c, z]))
            found.append(plane.astype(plane.dtype.newbyteorder("="), copy=False))
        return found

    def frame_format(self, place: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size (y, x) and data type of a place's planes."""
        return self._formats[place]

    @abstractmethod
    def _read(self, path: Path, place: int, offset: int) -> NDArray[Any]:
        """Return the plane at an offset of a file."""

    def _lay_out(
        self, found: Mapping[tuple[int, int, int, int], tuple[int, int]], n_p: int, n_c: int
    ) -> tuple[int, int]:
        """Keep (file, offset) of planes by (place, t, c, z), and return n_t and n_z of all places.

        Raises
        ------
        DataError
            If the numbers cannot be those of planes.
        """
        n_t = 1 + max(t for _, t, _, _ in found)
        n_z = 1 + max(z for _, _, _, z in found)
        if n_p * n_t * n_c * n_z > _MOST_PLACES:
            raise DataError(
                f"The index of {self.path} numbers its {len(found)} planes up to time point {n_t - 1}, z "
                f"{n_z - 1} of {n_c} channels and {n_p} positions; expected numbers without such gaps. "
                "Save the data set again, for example as OME-Zarr."
            )
        self._file = tuple(np.full((n_t, n_c, n_z), -1, np.int32) for _ in range(n_p))
        self._offset = tuple(np.zeros((n_t, n_c, n_z), np.int64) for _ in range(n_p))
        for (p, t, c, z), (number, offset) in found.items():
            self._file[p][t, c, z] = number
            self._offset[p][t, c, z] = offset
        return n_t, n_z


class OpenFiles:
    """Files that were read from last."""

    def __init__(self, opener: Callable[[Path], Any]) -> None:
        self._opener = opener
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def file(self, path: Path) -> Any:
        """Return a file, opened."""
        if path not in self._open:
            self._open[path] = self._opener(path)
            if len(self._open) > _OPEN_FILES:
                _, old = self._open.popitem(last=False)
                old.close()
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        """Close them all."""
        for file in self._open.values():
            file.close()
        self._open.clear()

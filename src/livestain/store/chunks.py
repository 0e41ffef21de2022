"""Which file holds a plane, and which planes are there: by names alone, or by the index of a shard."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SEPARATOR", "ArrayFiles", "chunk_file", "tile_shape"]

# "c.T.C.Z.0.0": all planes of a level lie in one folder, so that a plane is one file and no folders
# of its own (docs/decisions/0005-store-files.md).
SEPARATOR = "."

_WHOLE_UP_TO = 2048 * 2048
"""Pixels of a plane up to which it is one chunk; larger ones are read in tiles."""

_TILE_SIDES = range(1024, 255, -1)

_NO_CHUNK = np.uint64(2**64 - 1)


def chunk_file(array_path: Path, t: int, c: int, z: int) -> Path:
    """Return the file of a chunk by its numbers along t, c and z."""
    return array_path / SEPARATOR.join(("c", str(t), str(c), str(z), "0", "0"))


def tile_shape(height: int, width: int) -> tuple[int, int]:
    """Return (y, x) of the tiles in which a plane lies in its file: all of it, where it is no large one.

    A tile divides a side exactly, since else each rewrite of a plane would read its file first; a side that
    nothing between 256 and 1024 divides stays whole.
    """
    if height * width <= _WHOLE_UP_TO:
        return height, width
    y, x = (
        next((tile for tile in _TILE_SIDES if side % tile == 0), side) for side in (height, width)
    )
    return y, x


@dataclass(frozen=True, slots=True)
class ArrayFiles:
    """The files of one array of a store.

    While a run goes on, a plane is a file of its own; a compacted array has several planes of a channel in
    each, with an index at its end that says which of them are there (Zarr 3, codec "sharding_indexed").

    Attributes
    ----------
    folder : Path
        The array's.
    times, depths : int
        Time points and z-planes of a file.
    tiles : int
        Tiles of a plane; 1 where it is whole.
    indexed : bool
        Whether a file has an index.
    """

    folder: Path
    times: int = 1
    depths: int = 1
    tiles: int = 1
    indexed: bool = False

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the files of an array that is there.

        Raises
        ------
        StoreError
            If it is not, or no array of planes.
        """
        file = folder / "zarr.json"
        try:
            metadata = json.loads(file.read_text(encoding="utf-8"))
            shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
            times, _, depths, height, width = (int(n) for n in shape)
            inner = _sharding(metadata)
            y, x = inner[3:] if inner else (height, width)
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise StoreError(
                f"Cannot read {file}: {why}. Expected an array of planes that livestain has written."
            ) from error
        return cls(folder, times, depths, (height // y) * (width // x), inner is not None)

    @property
    def shared(self) -> bool:
        """Whether several planes lie in one file."""
        return self.times * self.depths > 1

    def file_of(self, t: int, c: int, z: int) -> Path:
        """Return the file that holds a plane, or will."""
        return chunk_file(self.folder, t // self.times, c, z // self.depths)

    def has(self, t: int, c: int, z: int) -> bool:
        """Return whether a plane is there, for every process."""
        file = self.file_of(t, c, z)
        if not self.shared:
            return file.is_file()
        index = self._index(file)
        return index is not None and bool(index[t % self.times, z % self.depths])

    def present(self, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Return which planes are there: bool, `shape` = (t, c, z).

        One listing of the folder, so 10,000 planes take some ten milliseconds.

        Raises
        ------
        StoreError
            If the folder cannot be listed.
        """
        there = np.zeros(shape, dtype=bool)
        n_t, n_c, n_z = shape
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    parts = entry.name.split(SEPARATOR)
                    # Else zarr.json, or the lock of a write on its way (or of a killed process).
                    if len(parts) != 6 or parts[0] != "c" or parts[4:] != ["0", "0"]:
                        continue
                    t, c, z = int(parts[1]) * self.times, int(parts[2]), int(parts[3]) * self.depths
                    if not (t < n_t and c < n_c and z < n_z):
                        continue
                    if not self.shared:
                        there[t, c, z] = True
                    elif (index := self._index(self.folder / entry.name)) is not None:
                        block = there[t : t + self.times, c, z : z + self.depths]
                        block |= index[: block.shape[0], : block.shape[1]]
        except OSError as error:
            raise StoreError(
                f"Cannot list {self.folder}: {error.strerror or error}. "
                "Expected the folder of an array in a livestain store."
            ) from error
        return there

    def _index(self, file: Path) -> NDArray[np.bool_] | None:
        """Return which planes a shared file holds, bool (times, depths); None where it is not there.

        The index is at the file's end: offset and length of each tile, two 64-bit numbers, and a checksum
        (https://zarr-specs.readthedocs.io, sharding codec, version 1.0).
        """
        size = 16 * self.times * self.depths * self.tiles
        try:
            with file.open("rb") as opened:
                opened.seek(-(size + 4), os.SEEK_END)
                entries = np.frombuffer(opened.read(size), dtype="<u8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"{file} is damaged: its index cannot be read ({error.strerror or error}). Restore it from a "
                "copy."
            ) from error
        offsets = entries.reshape(self.times, self.depths, self.tiles, 2)[..., 0]
        return np.asarray((offsets != _NO_CHUNK).all(axis=2))


def _sharding(metadata: dict[str, Any]) -> list[int] | None:
    """Return the shape of the chunks inside an array's files; None where a file is one chunk."""
    for codec in metadata["codecs"]:
        if codec["name"] == "sharding_indexed":
            shape = [int(n) for n in codec["configuration"]["chunk_shape"]]
            if prod(shape[:3]) != 1:
                raise ValueError("its chunks hold more than one plane")
            return shape
    return None

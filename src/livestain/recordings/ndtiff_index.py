"""The index of an NDTiff data set: which plane lies where, by the values of its axes.

See https://github.com/micro-manager/NDStorage for its entries.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from livestain.errors import DataError

__all__ = ["INDEX_NAME", "PLACE_AXES", "Entry", "read_index"]

INDEX_NAME = "NDTiff.index"

PLACE_AXES = ("position", "row", "column")
"""Axes that make positions."""

_NUMBERS = struct.Struct("<8I")


@dataclass(frozen=True, slots=True)
class Entry:
    """One plane of the index."""

    axes: dict[str, int | str]
    file: str
    offset: int
    width: int
    height: int
    pixel_type: int
    compression: int
    told_at: int
    told_bytes: int

    @property
    def place(self) -> tuple[int | str, ...]:
        """Where it is of the axes that make positions."""
        return tuple(self.axes.get(axis, 0) for axis in PLACE_AXES)


def read_index(path: Path) -> list[Entry]:
    """Return the planes of an index, the last of those that were written twice.

    Raises
    ------
    DataError
        If it is damaged, breaks off in an entry, or has none.
    """
    data = path.read_bytes()
    found: dict[frozenset[tuple[str, int | str]], Entry] = {}
    at = 0
    try:
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            if length == 0 and not any(data[at:]):
                break  # the writer was ended, and left the space that it had reserved
            axes = json.loads(_part(data, at + 4, length))
            at += 4 + length
            if not isinstance(axes, dict) or not all(
                isinstance(value, int | str) for value in axes.values()
            ):
                raise ValueError(f"axes {axes!r}")
            (length,) = struct.unpack_from("<I", data, at)
            file = _part(data, at + 4, length).decode("utf-8")
            at += 4 + length
            offset, width, height, pixel_type, packed, told_at, told_bytes, _ = (
                _NUMBERS.unpack_from(data, at)
            )
            at += _NUMBERS.size
            if not file or Path(file).name != file:
                raise ValueError(f"file {file!r}")
            found[frozenset(axes.items())] = Entry(
                axes, file, offset, width, height, pixel_type, packed, told_at, told_bytes
            )
    except (struct.error, ValueError) as error:
        raise DataError(
            f"{path} is damaged after {len(found)} planes (byte {at}): {error}. Restore it from a copy; the "
            "data set cannot be read without it."
        ) from error
    if not found:
        raise DataError(f"{path} names no planes: nothing was recorded. Remove the data set.")
    return list(found.values())


def _part(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ValueError("it breaks off")
    return data[at : at + length]

"""NDTiff: a folder of TIFF files with an index of axes, as Micro-Manager 2 and pycro-manager write it.

The index alone says what is there. Planes are read where it says they lie, not through the directories of the
TIFF files: those of some writers say 16 bits of planes that have 8.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.recordings import mm_metadata
from livestain.recordings.base import Place, movie_name, one_channel, read_notes
from livestain.recordings.indexed import IndexedRecording, OpenFiles
from livestain.recordings.ndtiff_index import INDEX_NAME, PLACE_AXES, read_index
from livestain.recordings.tiff_errors import tiff_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from livestain.recordings.ndtiff_index import Entry

__all__ = ["NDTiffRecording", "ndtiff_folder"]

_FULL = "Full resolution"
"""Sub-folder of data sets of version 2, and of those with a pyramid."""

_BYTES = {0: 1, 1: 2, 3: 2, 4: 2, 5: 2, 6: 2}
"""Bytes a pixel, by pixel type: 8, 16, 10, 12, 14 and 11 bits."""

_RGB = 2


def ndtiff_folder(path: Path) -> Path | None:
    """Return where the index of a data set is; None if the folder is no such data set."""
    for folder in (path, path / _FULL):
        if (folder / INDEX_NAME).is_file():
            return folder
    return None


class NDTiffRecording(IndexedRecording):
    """An NDTiff data set; each position (or tile of a grid) is a place.

    Parameters
    ----------
    path : Path
        Its folder.

    Raises
    ------
    DataError
        If its index is damaged, one of its files is missing or cut short, or it has axes or planes that mean
        nothing here.
    """

    kind = "NDTiff"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = movie_name(path.name)
        folder = ndtiff_folder(path)
        if folder is None:
            raise DataError(
                f"{path} has no {INDEX_NAME}. Expected the folder of an NDTiff data set."
            )
        self.folder = folder
        entries = read_index(folder / INDEX_NAME)
        self._check_axes(entries)
        self.files = tuple(dict.fromkeys(entry.file for entry in entries))
        self._check_files(entries)
        notes = read_notes(path)
        summary = self._summary()

        numbers: dict[str, dict[int | str, int]] = {
            axis: _numbers([entry.axes[axis] for entry in entries if axis in entry.axes])
            for axis in ("time", "channel", "z")
        }
        keys = list(dict.fromkeys(entry.place for entry in entries))
        if all(isinstance(value, int) for key in keys for value in key):
            keys.sort()
        place_of = {key: place for place, key in enumerate(keys)}
        at = {
            (
                place_of[entry.place],
                _at(numbers["time"], entry, "time"),
                _at(numbers["channel"], entry, "channel"),
                _at(numbers["z"], entry, "z"),
            ): entry
            for entry in entries
        }
        names = self._channel_names(numbers["channel"], at, summary)
        number_of = {name: number for number, name in enumerate(self.files)}
        n_t, n_z = self._lay_out(
            {where: (number_of[entry.file], entry.offset) for where, entry in at.items()},
            len(keys),
            len(names),
        )
        self.channels = one_channel(names, notes.channels, path)
        of_place: list[list[Entry]] = [[] for _ in keys]
        for (p, *_), entry in at.items():
            of_place[p].append(entry)
        self._formats = tuple(self._format(of_one) for of_one in of_place)
        first = self._told(of_place[0][0])
        self.pixel_size_um = notes.pixel_size_um or mm_metadata.pixel_size_um(summary, first)
        self.z_step_um = notes.z_step_um or self._z_step(at, summary, n_z)
        self.interval_s = mm_metadata.interval_s(summary)
        self.places = self._places(keys, of_place, summary, n_t, n_z)

    def _open(self) -> OpenFiles:
        return OpenFiles(partial(Path.open, mode="rb"))

    def _read(self, path: Path, place: int, offset: int) -> NDArray[Any]:
        (height, width), dtype = self._formats[place]
        size = height * width * dtype.itemsize
        try:
            file = self._opened().file(path)
            file.seek(offset)
            data = file.read(size)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error}. Expected a file of an NDTiff data set; restore it."
            ) from error
        if len(data) < size:
            raise _cut_short(path)
        return np.frombuffer(data, dtype.newbyteorder("<")).reshape(height, width)

    def _check_axes(self, entries: Sequence[Entry]) -> None:
        known = (*PLACE_AXES, "time", "channel", "z")
        for axis in dict.fromkeys(axis for entry in entries for axis in entry.axes):
            values = {entry.axes.get(axis) for entry in entries}
            if axis not in known and len(values) > 1:
                raise DataError(
                    f"{self.path} has the axis {axis!r} with {len(values)} values; expected position, row, "
                    "column, time, channel and z. Save each value as a data set of its own."
                )

    def _check_files(self, entries: Sequence[Entry]) -> None:
        """Refuse a data set that lacks a file, or the end of one."""
        ends: dict[str, int] = {}
        for entry in entries:
            size = entry.width * entry.height * _BYTES.get(entry.pixel_type, 1)
            ends[entry.file] = max(ends.get(entry.file, 0), entry.offset + size)
        for name, end in ends.items():
            path = self.folder / name
            if not path.is_file():
                raise DataError(
                    f"{path} is not there, and the index of the data set names it. Copy the whole folder."
                )
            if path.stat().st_size < end:
                raise _cut_short(path)

    def _format(self, entries: Sequence[Entry]) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size and type of a place's planes."""
        for entry in entries:
            if entry.pixel_type == _RGB:
                raise DataError(
                    f"{self.path} holds colour images; expected grey planes of 8 or 16 bits. Save the "
                    "camera's own planes, not pictures of them."
                )
            if entry.pixel_type not in _BYTES or entry.compression != 0:
                raise DataError(
                    f"{self.path} has planes of pixel type {entry.pixel_type} and compression "
                    f"{entry.compression}; expected uncompressed grey ones of 8 or 16 bits. Save it again, "
                    "for example as OME-Zarr."
                )
        kinds = {(entry.height, entry.width, _BYTES[entry.pixel_type]) for entry in entries}
        if len(kinds) > 1:
            told = " and ".join(f"{y} x {x} of {8 * n} bits" for y, x, n in sorted(kinds))
            raise DataError(
                f"{self.path} has planes of {told} at one position; expected equal ones. Make a data set of "
                "each."
            )
        height, width, n_bytes = next(iter(kinds))
        return (height, width), np.dtype(np.uint8 if n_bytes == 1 else np.uint16)

    def _summary(self) -> dict[str, Any]:
        """Return what the header of the first file says of the data set; nothing, if it says nothing."""
        import tifffile

        path = self.folder / self.files[0]
        with tiff_errors(path), tifffile.FileHandle(path) as file:
            found = tifffile.read_micromanager_metadata(file, {"Summary"}).get("Summary")
        return found if isinstance(found, dict) else {}

    def _told(self, entry: Entry) -> dict[str, Any]:
        """Return the metadata of one plane; nothing, if they cannot be read: they are not its pixels."""
        with (self.folder / entry.file).open("rb") as file:
            file.seek(entry.told_at)
            try:
                found = json.loads(file.read(entry.told_bytes))
            except ValueError:
                return {}
        return found if isinstance(found, dict) else {}

    def _channel_names(
        self,
        numbers: dict[int | str, int],
        at: dict[tuple[int, int, int, int], Entry],
        summary: dict[str, Any],
    ) -> tuple[str, ...]:
        """Return the names of the index, of the summary, or of the planes, or else numbers."""
        if numbers and all(isinstance(value, str) for value in numbers):
            return tuple(map(str, numbers))
        n = max(numbers.values(), default=0) + 1
        names = list(mm_metadata.names_of_channels(summary, n))
        for c in range(n):
            entry = next((entry for where, entry in at.items() if where[2] == c), None)
            if names[c] == str(c) and entry is not None:
                names[c] = mm_metadata.text(self._told(entry), "Channel") or names[c]
        return tuple(names) if len(set(names)) == n else tuple(map(str, range(n)))

    def _z_step(
        self, at: dict[tuple[int, int, int, int], Entry], summary: dict[str, Any], n_z: int
    ) -> float | None:
        if n_z == 1:
            return None
        for (p, t, c, z), lower in at.items():
            upper = at.get((p, t, c, z + 1))
            if upper is not None:
                step = mm_metadata.step_between(self._told(lower), self._told(upper))
                return step or mm_metadata.z_step_um(summary)
        return mm_metadata.z_step_um(summary)

    def _places(
        self,
        keys: Sequence[tuple[int | str, ...]],
        of_place: Sequence[Sequence[Entry]],
        summary: dict[str, Any],
        n_t: int,
        n_z: int,
    ) -> tuple[Place, ...]:
        varies = [any(key[n] != keys[0][n] for key in keys) for n in range(len(PLACE_AXES))]
        found = []
        for key, entries in zip(keys, of_place, strict=True):
            position = key[0]
            stage = mm_metadata.stage_position(
                summary, self._told(entries[0]), position if isinstance(position, int) else None
            )
            name = "-".join(
                value.replace("/", "-") if isinstance(value, str) else f"{axis[0]}{value}"
                for axis, value, differs in zip(PLACE_AXES, key, varies, strict=True)
                if differs
            )
            label = position if isinstance(position, str) else stage.label
            found.append(
                Place(
                    name,
                    name or "0",
                    name,
                    n_t,
                    n_z,
                    label=label,
                    x_um=stage.x_um,
                    y_um=stage.y_um,
                    z_um=stage.z_um,
                )
            )
        return tuple(found)


def _numbers(values: Sequence[int | str]) -> dict[int | str, int]:
    """Return the number of each value of an axis: numbers keep their distances, names their order."""
    if all(isinstance(value, int) for value in values):
        numbers = {int(value) for value in values}
        lowest = min(0, min(numbers, default=0))  # z may be below its zero
        return {value: value - lowest for value in sorted(numbers)}
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _at(numbers: dict[int | str, int], entry: Entry, axis: str) -> int:
    """Return where a plane is along an axis; planes without it are the first."""
    return numbers[entry.axes[axis]] if axis in entry.axes else 0


def _cut_short(path: Path) -> DataError:
    return DataError(
        f"{path} is cut short: the index names planes that lie behind its end. Copy or export it again."
    )

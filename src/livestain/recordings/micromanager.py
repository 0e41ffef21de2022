"""The OME-TIFF of Micro-Manager's own program: ``NAME_MMStack_Pos0.ome.tif`` and its like.

Each file begins with an index map of its planes (channel, z, time point, position, offset), and that is
what is believed: see https://micro-manager.org/Micro-Manager_File_Formats. The OME-XML is not, since the
program links planes that were never recorded to others that were, and fills the last time point of a run that
was stopped with black ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.errors import DataError
from livestain.recordings import mm_metadata
from livestain.recordings.base import Place, check_dtype, movie_name, one_channel, read_notes
from livestain.recordings.indexed import IndexedRecording, OpenFiles
from livestain.recordings.mm_files import (
    is_micromanager,
    named_files,
    ome_voxel,
    read_index_map,
)
from livestain.recordings.tiff_errors import tiff_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MicroManagerRecording", "stack_of_folder"]

_MARK = "MMStack"

_TAG = "MicroManagerMetadata"


def stack_of_folder(path: Path) -> Path | None:
    """Return the first file of a folder that holds one data set of Micro-Manager and no other images."""
    children = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
    tiffs = [child for child in children if child.suffix.lower() in (".tif", ".tiff")]
    if any(child.is_dir() for child in children) or not tiffs:
        return None
    prefixes = {_prefix(file.name) for file in tiffs}
    if None in prefixes or len(prefixes) > 1 or not is_micromanager(tiffs[0]):
        return None
    return tiffs[0]


class MicroManagerRecording(IndexedRecording):
    """One data set of Micro-Manager, of one file or several; each position of the stage is a place.

    Time points, z-planes and positions are those that were recorded, not those that were planned.

    Parameters
    ----------
    path : Path
        One of its files, or the folder that holds nothing else.

    Raises
    ------
    DataError
        If an index map is damaged, a file of the set is missing or cut short, or the planes cannot be used.
    """

    kind = "Micro-Manager OME-TIFF"

    def __init__(self, path: Path) -> None:
        self.path = path
        file = stack_of_folder(path) if path.is_dir() else path
        if file is None:
            raise DataError(
                f"{path} does not hold one data set of Micro-Manager. Give one of its files, "
                "NAME_MMStack_….ome.tif."
            )
        self.folder = file.parent
        prefix = _prefix(file.name)
        self.name = movie_name(prefix.rstrip("_") if prefix else file.name)
        if prefix == "":
            self.name = movie_name(self.folder.resolve().name)
        self.files = self._set_of(file, prefix)
        notes = read_notes(path)

        planes: dict[tuple[int, int, int, int], tuple[int, int]] = {}
        summary: dict[str, Any] = {}
        for number, name in enumerate(self.files):
            found, told = read_index_map(self.folder / name)
            summary = summary or told
            planes.update(((p, t, c, z), (number, at)) for (c, z, t, p), at in found.items())
        if not planes:
            raise DataError(f"{path} has no planes: nothing was recorded. Remove it.")
        positions = sorted({p for p, *_ in planes})
        # Channels that were planned have their names; a run that was stopped may not have come to all.
        n_c = max(
            1 + max(c for _, _, c, _ in planes), int(mm_metadata.number(summary, "Channels") or 1)
        )
        place_of = {p: place for place, p in enumerate(positions)}
        n_t, n_z = self._lay_out(
            {(place_of[p], t, c, z): at for (p, t, c, z), at in planes.items()},
            len(positions),
            n_c,
        )
        self.channels = one_channel(
            mm_metadata.names_of_channels(summary, n_c), notes.channels, path
        )
        firsts: dict[int, tuple[tuple[tuple[int, int], np.dtype[Any]], dict[str, Any]]] = {}
        for (p, *_), (number, at) in planes.items():
            if p not in firsts:
                firsts[p] = self._head(number, at)
        self._formats = tuple(firsts[p][0] for p in positions)
        first = firsts[positions[0]][1]
        ome = ome_voxel(self.folder / self.files[0])
        self.pixel_size_um = (
            notes.pixel_size_um or mm_metadata.pixel_size_um(summary, first) or ome[0]
        )
        self.z_step_um = (
            (notes.z_step_um or mm_metadata.z_step_um(summary) or ome[1]) if n_z > 1 else None
        )
        self.interval_s = mm_metadata.interval_s(summary)
        self.places = self._places(
            positions, {p: told for p, (_, told) in firsts.items()}, summary, n_t, n_z
        )

    def _open(self) -> OpenFiles:
        import tifffile

        return OpenFiles(tifffile.TiffFile)

    def _read(self, path: Path, place: int, offset: int) -> NDArray[Any]:
        with tiff_errors(path):
            plane: NDArray[Any] = _page(self._opened().file(path), offset).asarray()
        if plane.shape != self._formats[place][0]:
            raise DataError(
                f"{path} has planes of {plane.shape} and {self._formats[place][0]} pixels (y, x) at one "
                "position; expected equal ones. Make a data set of each."
            )
        return plane

    def _head(
        self, number: int, offset: int
    ) -> tuple[tuple[tuple[int, int], np.dtype[Any]], dict[str, Any]]:
        """Return the format of a plane, and its metadata."""
        import tifffile

        path = self.folder / self.files[number]
        with tiff_errors(path), tifffile.TiffFile(path) as file:
            page = _page(file, offset)
            shape, dtype = page.shape, page.dtype
            told = page.tags.valueof(_TAG)
        if len(shape) != 2 or dtype is None:
            raise DataError(
                f"{path} is a colour image; expected grey planes of 8 or 16 bits. Save the camera's own "
                "planes, not pictures of them."
            )
        check_dtype(dtype, path)
        return ((shape[0], shape[1]), dtype.newbyteorder("=")), told if isinstance(
            told, dict
        ) else {}

    def _set_of(self, file: Path, prefix: str | None) -> tuple[str, ...]:
        """Return the names of all files of a set, and refuse it where one that is named is not there."""
        names = {file.name}
        if prefix is not None:
            names |= {
                other.name
                for other in self.folder.iterdir()
                if _prefix(other.name) == prefix and is_micromanager(other)
            }
        for name in sorted(names):
            named, master = named_files(self.folder / name)
            lacking = sorted(n for n in named | master if not (self.folder / n).is_file())
            # A file by itself that was given another name still calls itself by the old one.
            renamed = len(names) == len(named) == 1 and not master
            if lacking and not renamed:
                raise DataError(
                    f"{self.folder / lacking[0]} is not there, and {name} names it as one of its set. Copy "
                    "the whole folder."
                )
        return tuple(sorted(names))

    def _places(
        self,
        positions: Sequence[int],
        told: dict[int, dict[str, Any]],
        summary: dict[str, Any],
        n_t: int,
        n_z: int,
    ) -> tuple[Place, ...]:
        stages = [mm_metadata.stage_position(summary, told[p], p) for p in positions]
        labels = [stage.label for stage in stages]
        names = [
            (label or f"p{p}").replace("/", "-") for p, label in zip(positions, labels, strict=True)
        ]
        if len(set(names)) < len(names):
            names = [f"p{p}" for p in positions]
        alone = len(positions) == 1
        return tuple(
            Place(
                "" if alone else name,
                "0" if alone else name,
                "" if alone else name,
                n_t,
                n_z,
                label=stage.label,
                x_um=stage.x_um,
                y_um=stage.y_um,
                z_um=stage.z_um,
            )
            for name, stage in zip(names, stages, strict=True)
        )


def _prefix(name: str) -> str | None:
    """Return what stands before "MMStack" in a file's name; None where it has no such mark."""
    before, mark, _ = name.partition(_MARK)
    whole = bool(mark) and (not before or before.endswith("_"))
    return before if whole and name.lower().endswith((".tif", ".tiff")) else None


def _page(file: Any, offset: int) -> Any:
    """Return the page whose directory lies at an offset.

    Raises
    ------
    ValueError
        If there is none.
    """
    import tifffile

    if file.filehandle.closed:
        file.filehandle.open()
    file.filehandle.seek(offset)
    page = tifffile.TiffPage(file, 0)
    if not (page.imagewidth and page.imagelength):
        raise ValueError(f"there is no plane at byte {offset}")
    return page

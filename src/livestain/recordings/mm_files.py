"""The files of Micro-Manager's own program: index map and summary at their beginning, OME-XML at their end.

See https://micro-manager.org/Micro-Manager_File_Formats.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from livestain.errors import DataError
from livestain.recordings.tiff_errors import tiff_errors
from livestain.recordings.units import um_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_micromanager", "named_files", "ome_voxel", "read_index_map"]

_INDEX_MAP = 54773648
"""What stands before the offset of the index map, at byte 8 of a file."""

_NDTIFF_1 = 483729
"""What stands at byte 24 of files that look alike and have other axes."""

_NO_AXIS = 2**32 - 1
"""Index of planes without this axis."""


def is_micromanager(path: Path) -> bool:
    """Return whether a TIFF file has Micro-Manager's index map."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return False
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 32:
        return False
    numbers = struct.unpack(f"{order}6I", head[8:])
    return bool(numbers[0] == _INDEX_MAP and numbers[4] != _NDTIFF_1)


def read_index_map(
    path: Path,
) -> tuple[dict[tuple[int, int, int, int], int], dict[str, Any]]:
    """Return offsets by (channel, z, time point, position), and the summary.

    Raises
    ------
    DataError
        If the map or the summary is damaged, or names planes behind the file's end.
    """
    import tifffile

    with tiff_errors(path), tifffile.FileHandle(path) as file:
        told = tifffile.read_micromanager_metadata(file, {"Summary", "IndexMap"})
        size = file.size
    index, summary = told.get("IndexMap"), told.get("Summary")
    if index is None or not isinstance(summary, dict):
        raise DataError(
            f"The index map of {path} is damaged, so that nobody knows which plane is which. Restore the "
            "file from a copy."
        )
    # The map of a run that died goes on with the zeros of the space that was reserved for it.
    rows = [[int(n) for n in row] for row in index if row[4]]
    if any(row[4] >= size for row in rows):
        raise DataError(
            f"{path} is cut short: its index map names planes that lie behind its end. Copy or export "
            "it again."
        )
    if rows and not _has_directory(path, rows[-1][4]):
        rows.pop()  # died between the entry and the plane
    found: dict[tuple[int, int, int, int], int] = {}
    for *at, offset in rows:
        c, z, t, p = (0 if n == _NO_AXIS else n for n in at)
        found[c, z, t, p] = offset
    return found, summary


def _has_directory(path: Path, offset: int) -> bool:
    with path.open("rb") as file:
        file.seek(offset)
        return any(file.read(2))


def _ome(path: Path) -> dict[str, Any]:
    """Return a file's OME-XML; nothing where it has none, as after a run that died."""
    import tifffile

    with tiff_errors(path), tifffile.TiffFile(path) as file:
        text = file.pages.first.description
    if "<OME" not in text:
        return {}
    try:
        found = tifffile.xml2dict(text.strip().rstrip("\0")).get("OME", {})
    except (ValueError, SyntaxError):
        return {}
    return found if isinstance(found, dict) else {}


def named_files(path: Path) -> tuple[set[str], set[str]]:
    """Return the files that the OME-XML of one of a set names for planes, and for the OME-XML of them all."""
    found: set[str] = set()
    ome = _ome(path)
    told = ome.get("BinaryOnly")
    master = (
        {str(told["MetadataFile"])} if isinstance(told, dict) and "MetadataFile" in told else set()
    )
    for image in _listed(ome.get("Image")):
        for pixels in _listed(image.get("Pixels")):
            for data in _listed(pixels.get("TiffData")):
                named = data.get("UUID") if isinstance(data, dict) else None
                if isinstance(named, dict) and "FileName" in named:
                    found.add(str(named["FileName"]))
    return found, master


def ome_voxel(path: Path) -> tuple[float | None, float | None]:
    """Return pixel size and z-step by the OME-XML, in micrometres."""
    for image in _listed(_ome(path).get("Image"))[:1]:
        for pixels in _listed(image.get("Pixels"))[:1]:
            x, z = (
                um_of(
                    float(pixels.get(f"PhysicalSize{a}", 0)),
                    pixels.get(f"PhysicalSize{a}Unit", "um"),
                )
                for a in "XZ"
            )
            return x, z
    return None, None


def _listed(found: Any) -> list[Any]:
    """Return what XML may hold once or several times as a list."""
    if found is None:
        return []
    return list(found) if isinstance(found, list | tuple) else [found]

"""Opening a movie, whatever it is kept in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from livestain.errors import DataError
from livestain.images import IMAGE_SUFFIXES, TIFF_SUFFIXES
from livestain.recordings.folder import FolderRecording
from livestain.recordings.micromanager import MicroManagerRecording, stack_of_folder
from livestain.recordings.mm_files import is_micromanager
from livestain.recordings.ndtiff import NDTiffRecording, ndtiff_folder
from livestain.recordings.store import StoreRecording
from livestain.recordings.tiff import TiffRecording, master_of
from livestain.recordings.zarr import ZarrRecording, is_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from livestain.recordings.base import Recording

__all__ = ["describes_itself", "is_store", "open_recording"]


def open_recording(path: Path) -> Recording:
    """Open one movie.

    Parameters
    ----------
    path : Path
        A store of livestain; an OME-Zarr, OME-TIFF or ImageJ hyperstack of another program; an NDTiff data
        set; a data set of Micro-Manager, by its folder or one of its files; or a folder with one folder of
        images a channel.

    Raises
    ------
    DataError, StoreError
        If there is none, or it cannot be used.
    """
    if path.is_file():
        if path.suffix.lower() not in TIFF_SUFFIXES:
            raise DataError(
                f"{path} is no movie. Expected a folder of channel folders, a store NAME.ome.zarr, or a "
                "TIFF file."
            )
        if is_micromanager(path):
            return MicroManagerRecording(path)
        if (path.parent / "NDTiff.index").is_file():
            return NDTiffRecording(path.parent)
        return TiffRecording(master_of(path))
    if not path.is_dir():
        raise DataError(
            f"{path} does not exist. Expected an OME-Zarr, a TIFF file, an NDTiff folder, or a folder of "
            "channel folders."
        )
    if is_store(path):
        return StoreRecording(path)
    if is_zarr(path):
        return ZarrRecording(path)
    if ndtiff_folder(path) is not None:
        return NDTiffRecording(path)
    if stack_of_folder(path) is not None:
        return MicroManagerRecording(path)
    channels = [child.name for child in sorted(path.iterdir()) if _holds_images(child)]
    if not channels:
        raise DataError(
            f"{path} holds no recording. Expected an OME-Zarr, an NDTiff data set, files of one data set of "
            "Micro-Manager, or one folder of images a channel; of other TIFF files give one by its name."
        )
    return FolderRecording(path, channels, ())


def describes_itself(path: Path) -> bool:
    """Return whether a folder is one recording by what lies in it, whatever its folders are called."""
    return is_zarr(path) or ndtiff_folder(path) is not None or stack_of_folder(path) is not None


def is_store(path: Path) -> bool:
    """Return whether livestain wrote a store, as opposed to any other program's Zarr."""
    file = path / "zarr.json"
    if not file.is_file():
        return False
    try:
        attributes = json.loads(file.read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        # Whatever it is, our own reader says best what is wrong with it.
        return True
    return "livestain" in attributes


def _holds_images(path: Path) -> bool:
    return path.is_dir() and any(
        file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        for file in path.iterdir()
    )

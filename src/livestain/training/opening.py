"""Finding the movies in a folder, whatever each is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from livestain.errors import DataError
from livestain.images import TIFF_SUFFIXES
from livestain.recordings import open_recording
from livestain.recordings.folder import FolderRecording, channel_folder
from livestain.recordings.opening import describes_itself

if TYPE_CHECKING:
    from livestain.recordings import Recording
    from livestain.training.pair import PairSpec

__all__ = ["find_recordings"]


def find_recordings(data: Path, spec: PairSpec) -> list[Recording]:
    """Open all movies in a folder, or the one movie that the path is.

    Returns
    -------
    list of Recording
        Sorted by path; perhaps empty.

    Raises
    ------
    DataError, StoreError
        If there is no such path, a movie cannot be used, or two have the same name.
    """
    if not data.exists():
        raise DataError(
            f"There is no folder {data}. Expected a folder with movie-NAME/"
            f"{spec.sources[0].channel} and the like, with stores NAME.ome.zarr, or with TIFF files."
        )
    if data.is_file() or _is_movie(data, spec):
        return [_open_movie(data, spec)]
    found: list[Recording] = []
    seen: set[str] = set()
    corrections = {
        Path(name).name
        for slot in spec.slots
        for name in (slot.flat_field, slot.dark_frame)
        if name
    }
    for child in sorted(data.iterdir()):
        if child.name.startswith(".") or child.name in corrections or child.name in seen:
            continue
        if child.is_dir():
            wanted = child.name.startswith("movie-") or _is_movie(child, spec)
        else:
            wanted = child.suffix.lower() in TIFF_SUFFIXES
        if wanted:
            recording = _open_movie(child, spec)
            if recording.one_plane:
                continue
            if child.is_file():
                # A set of files describes itself in each of them.
                seen.update(recording.files)
            found.append(recording)
    names = [recording.name for recording in found]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"Two movies in {data} are called {name!r}. Rename one of them.")
    return found


def _open_movie(path: Path, spec: PairSpec) -> Recording:
    if path.is_file() or describes_itself(path):
        return open_recording(path)
    return _open_folder(path, spec)


def _open_folder(path: Path, spec: PairSpec) -> FolderRecording:
    paired = spec.pairing != "unpaired"
    needed = [
        slot.channel
        for n, slot in enumerate(spec.slots)
        if paired and (n < len(spec.sources) or slot.required)
    ]
    for channel in needed:
        if channel_folder(path, channel) is None:
            raise DataError(
                f"{path} has no folder {channel!r}. Expected one folder of images for each of: "
                f"{', '.join(dict.fromkeys(needed))}."
            )
    return FolderRecording(path, spec.channels, tuple(dict.fromkeys(needed)))


def _is_movie(path: Path, spec: PairSpec) -> bool:
    if describes_itself(path):
        return True
    channels = spec.channels if spec.pairing == "unpaired" else (spec.sources[0].channel,)
    return any(channel_folder(path, channel) is not None for channel in channels)

"""A movie as a folder with one folder of images a channel: single planes, or stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.images import IMAGE_SUFFIXES, TIFF_SUFFIXES, image_format, read_image
from livestain.metrics import frame_of_file
from livestain.recordings.base import Place, Recording, movie_name, read_notes
from livestain.recordings.indexed import OpenFiles
from livestain.recordings.tiff import TiffSeries, TiffVolume, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FolderRecording", "channel_folder"]


class FolderRecording(Recording):
    """Images of equal names in one folder a channel; each name is a place of its own.

    Parameters
    ----------
    path : Path
        The movie's folder.
    channels : sequence of str
        The folders wanted; those that are not there are no channels of the recording.
    together : sequence of str
        Of these channels every image must have its counterparts.

    Raises
    ------
    DataError
        If a counterpart is missing, or a stack cannot be used.
    """

    kind = "folder of images"

    def __init__(self, path: Path, channels: Sequence[str], together: Sequence[str]) -> None:
        self.path = path
        self.name = movie_name(path.name)
        notes = read_notes(path)
        if notes.channels is not None:
            raise DataError(
                f"The notes in {path} name channels; in a folder of images the folders' names are "
                "those of the channels. Take `channels` out."
            )
        self.pixel_size_um, self.z_step_um = notes.pixel_size_um, notes.z_step_um
        folders = {
            channel: folder
            for channel in channels
            if (folder := channel_folder(path, channel)) is not None
        }
        self.channels = tuple(folders)
        self._files = tuple(_images(folder) for folder in folders.values())
        self._check_counterparts([c for c, name in enumerate(self.channels) if name in together])
        stems = sorted(set().union(*self._files))
        self._stems = tuple(stems)
        self._volumes = {
            stem: volume for stem in stems if (volume := self._volume(stem)) is not None
        }
        self.places = tuple(
            Place(stem, None, frame_of_file(stem), *self._sizes(stem)) for stem in stems
        )
        # One simulated file among real ones is enough: the movie is then no movie of real cells.
        self.simulated = any(
            series.simulated for volume in self._volumes.values() for series in volume.values()
        )
        self.ordered = all(place.n_t * place.n_z > 1 for place in self.places)

    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""
        there = self._stems[place] in self._files[c]
        return np.full((self.places[place].n_t, self.places[place].n_z), there)

    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) each."""
        stem = self._stems[place]
        path = self._files[c][stem]
        series = self._volumes.get(stem)
        if series is None:
            return [read_image(path, floats=True)] * len(at)
        volume = self._opened().file(path)
        # Each file has its own order of axes; their sizes are those of the place.
        axes = series[c]
        return [volume.plane(0, axes.index(t, 0, z)) for t, z in at]

    def frame_format(self, place: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size (y, x) and data type of a place's planes, by the header of its first file."""
        stem = self._stems[place]
        c = next(c for c, files in enumerate(self._files) if stem in files)
        if stem in self._volumes:
            return self._volumes[stem][c].format
        return image_format(self._files[c][stem], floats=True)

    def where(self, place: int, c: int, t: int, z: int) -> str:
        """Return the words by which a message names a plane."""
        path = self._files[c][self._stems[place]]
        several = self.places[place].n_t * self.places[place].n_z > 1
        return f"{path}, t={t}, z={z}," if several else str(path)

    def _open(self) -> OpenFiles:
        return OpenFiles(TiffVolume)

    def _check_counterparts(self, together: list[int]) -> None:
        for c in together[1:]:
            first = together[0]
            alone = sorted(set(self._files[first]) ^ set(self._files[c]))
            if alone:
                here = self.channels[first if alone[0] in self._files[first] else c]
                raise DataError(
                    f"{len(alone)} images in {self.path} have no counterpart of the same name in "
                    f"{self.channels[first]} and {self.channels[c]}; the first is {here}/{alone[0]}. "
                    "Remove them, or add the counterparts."
                )

    def _volume(self, stem: str) -> dict[int, TiffSeries] | None:
        """Return the headers of a place's files by channel; None where all are single planes."""
        found: dict[int, TiffSeries] = {}
        sizes: dict[int, tuple[int, int]] = {}
        for c, files in enumerate(self._files):
            path = files.get(stem)
            if path is None:
                continue
            sizes[c] = (1, 1)
            if path.suffix.lower() in TIFF_SUFFIXES:
                series, _, _ = read_header(path)
                first = series[0]
                if len(series) > 1 or first.sizes["C"] > 1:
                    raise DataError(
                        f"{path} holds {len(series)} images of {first.sizes['C']} channels; expected "
                        "one plane (y, x) or one stack in a channel's folder. Save one file a channel, or "
                        "give the file itself as a movie."
                    )
                found[c] = first
                sizes[c] = (first.sizes["T"], first.sizes["Z"])
        if len(set(sizes.values())) > 1:
            told = ", ".join(
                f"{self._files[c][stem]} has {t} time points of {z} planes"
                for c, (t, z) in sizes.items()
            )
            raise DataError(
                f"{told}. Expected one plane (y, x) in each file, or stacks of equal depth; save them alike."
            )
        return found if set(sizes.values()) != {(1, 1)} else None

    def _sizes(self, stem: str) -> tuple[int, int]:
        if stem not in self._volumes:
            return 1, 1
        series = next(iter(self._volumes[stem].values()))
        return series.sizes["T"], series.sizes["Z"]


def channel_folder(movie: Path, channel: str) -> Path | None:
    """Return the folder of a channel's images; capitals do not matter. None if there is none."""
    exact = movie / channel
    if exact.is_dir():
        return exact
    for child in sorted(movie.iterdir()):
        if child.is_dir() and child.name.lower() == channel.lower():
            return child
    return None


def _images(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(
                    f"{found[path.stem].name} and {path.name} in {folder} differ by their suffix alone. "
                    "Keep one of them."
                )
            found[path.stem] = path
    return found

"""What a recording is, whatever it is kept in: places with planes by channel, time point and z."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from livestain.errors import DataError
from livestain.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Notes", "Place", "Recording", "check_dtype", "movie_name", "one_channel", "read_notes"]

_SUFFIXES = (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif", ".tiff", ".tif")


@dataclass(frozen=True, slots=True)
class Place:
    """One field of view of a recording, or one file of a folder.

    Attributes
    ----------
    name : str
        Its own name within the recording; empty where there is one alone.
    position : str or None
        The position of the stage; None where the data does not say.
    frame : str
        Images of one frame show the same cells at the same time; with the time point this is their name.
    n_t, n_z : int
        Time points and z-planes.
    label : str or None
        What the data calls the position; None where it has no name.
    x_um, y_um, z_um : float or None
        Where the stage was, and the focus at the first plane, in micrometres; None where nobody says it.
    """

    name: str
    position: str | None
    frame: str
    n_t: int
    n_z: int
    label: str | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None

    def name_of(self, t: int | None, z: int | None) -> str:
        """Return the name of a plane, or of a series where a coordinate is None."""
        parts = [self.name] if self.name else []
        if not self.name or self.n_t * self.n_z > 1:
            parts += [
                f"{axis}{at:0{width}d}"
                for axis, at, width in (("t", t, 5), ("z", z, 3))
                if at is not None
            ]
        return "_".join(parts)

    def frame_of(self, t: int) -> str:
        """Return the name of the frame of a time point."""
        parts = [self.frame] if self.frame else []
        if not self.frame or self.n_t > 1:
            parts.append(f"t{t:05d}")
        return "_".join(parts)


class Recording(ABC):
    """A movie's planes, read when they are asked for.

    It can be sent to other processes, which open the files anew. Not for several threads at once.

    Attributes
    ----------
    path : Path
        File or folder.
    name : str
        The movie's name.
    channels : tuple of str
    places : tuple of Place
    pixel_size_um, z_step_um : float or None
        None where nobody says it.
    interval_s : float or None
        Time from one time point to the next, in seconds; None where nobody says it.
    kind : str
        What it is kept in, for messages and provenance: "OME-Zarr 0.4".
    files : tuple of str
        Names of the files of a set, each of which describes it; empty where it is one file or folder.
    ordered : bool
        Whether it is known which planes are neighbours in z and time.
    simulated : bool
        Whether it says that its cells are simulated.
    """

    path: Path
    name: str
    channels: tuple[str, ...]
    places: tuple[Place, ...]
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    interval_s: float | None = None
    kind: str = "recording"
    files: tuple[str, ...] = ()
    ordered: bool = True
    simulated: bool = False
    kind_of_channel: str = "channel"

    _handles: Any = None
    _process: int = 0

    def c_of(self, channel: str) -> int | None:
        """Return the number of a channel by its name, or by its number as text; None if there is none."""
        for c, name in enumerate(self.channels):
            if name.lower() == channel.lower():
                return c
        return int(channel) if channel.isdecimal() and int(channel) < len(self.channels) else None

    @abstractmethod
    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""

    @abstractmethod
    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) each, uint8, uint16 or float32; `at` is of (t, z).

        Raises
        ------
        DataError, StoreError
            If one cannot be read or used.
        """

    @abstractmethod
    def frame_format(self, place: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size (y, x) and data type of a place's planes, without reading one.

        Raises
        ------
        DataError
            If it cannot be told.
        """

    @property
    def one_plane(self) -> bool:
        """Whether it is a mere picture, which can be no movie of several channels or time points."""
        return False

    def where(self, place: int, c: int, t: int, z: int) -> str:
        """Return the words by which a message names a plane."""
        named = self.places[place].name_of(t, z)
        return f"{named} of channel {self.channels[c]} in {self.path}"

    @abstractmethod
    def _open(self) -> Any:
        """Open what is read from: an object with `close`."""

    def _opened(self) -> Any:
        """Return the open files of this very process: those of a parent share their place in the file."""
        if self._handles is None or self._process != os.getpid():
            self._handles = self._open()
            self._process = os.getpid()
        return self._handles

    def close(self) -> None:
        """Close the files; they are opened again when planes are read."""
        if self._handles is not None and self._process == os.getpid():
            self._handles.close()
        self._handles = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind."""
        return {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("_handles", "_process")
        }


class Notes(Settings):
    """What a file `movie.yaml` in a movie's folder, or `NAME.movie.yaml` beside a file, says of it."""

    pixel_size_um: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Side of a pixel, in micrometres; instead of what the file itself says."""

    z_step_um: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Distance of z-planes, in micrometres; likewise."""

    channels: tuple[str, ...] | None = None
    """Names of the channels in the file's order; likewise."""


def read_notes(path: Path) -> Notes:
    """Return the notes on a movie; empty ones where there is no such file.

    Raises
    ------
    SettingsError
        If they are not what `Notes` expects.
    """
    stem = path.parent / f"{movie_name(path.name, prefix=True)}.movie"
    for base in ([path / "movie"] if path.is_dir() else []) + [stem]:
        for suffix in (".yaml", ".yml", ".json"):
            file = base.with_name(base.name + suffix)
            if file.is_file():
                return Notes.from_yaml(file)  # JSON is YAML
    return Notes()


def movie_name(name: str, *, prefix: bool = False) -> str:
    """Return a movie's name without the file's suffix and, unless `prefix`, `movie-` before it."""
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)] or name
            break
    return name if prefix else name.removeprefix("movie-") or name


def check_dtype(dtype: np.dtype[Any], where: object) -> None:
    """Refuse values that are neither counts nor float32.

    Raises
    ------
    DataError
    """
    if dtype.newbyteorder("=").name not in ("uint8", "uint16", "float32"):
        raise DataError(
            f"{where} has values of type {dtype}; expected counts of 8 or 16 bits (uint8, uint16) or "
            "float32. Save the camera's own counts."
        )


def one_channel(
    channels: Sequence[str], given: tuple[str, ...] | None, path: Path
) -> tuple[str, ...]:
    """Return the channels' names, those of the notes first.

    Raises
    ------
    DataError
        If the notes name another number of channels.
    """
    if given is None:
        return tuple(channels)
    if len(given) != len(channels):
        raise DataError(
            f"The notes on {path} name {len(given)} channels, and it has {len(channels)}. Name each "
            "once, in the file's order."
        )
    return given

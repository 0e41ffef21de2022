"""Recorded planes as a source for a camera: image folders and our own stores, read one at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.images import IMAGE_SUFFIXES, image_format, read_pixels
from livestain.planes import PlaneIndex
from livestain.stain.asked import kind_of_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ReplaySource"]

_STAINED = re.compile("mito|nucle|actin|tubulin|membrane|lysosom|peroxisom|fluo")
"""What a folder of fluorescence images may be called, besides the names of `kind_of_channel`."""


class ReplaySource:
    """Planes that were recorded before, by channel, time point and z.

    Parameters
    ----------
    source : path
        A folder of PNG or TIFF files, one time point a file in the order of their names; a folder of
        such folders, one a channel, with equal file names; or a livestain OME-Zarr store. Of a
        folder called ``brightfield``, a sibling ``mitochondria`` is a second channel. A folder of
        images is brightfield unless its own name says something else.
    pixel_size_um : float, optional
        Pixel size in micrometres; None takes the store's.

    Attributes
    ----------
    path : Path
        As given.
    channels : tuple of str
        Names of the channels: the folders' names capitalised ("Brightfield" for a single folder
        whose name says nothing else), or the store's labels of raw channels.
    n_t, n_z : int
        Time points and z-planes.
    shape : (int, int)
        Size (y, x) of every plane in pixels.
    pixel_size_um : float or None
        Pixel size in micrometres, None where nobody said it.
    simulated : bool
        Whether the recording says that its cells are simulated.

    Raises
    ------
    DataError
        If there are no images, they differ in size or format, are of colour or 32 bits, or the
        channels' files have different names.
    """

    def __init__(self, source: Path | str, *, pixel_size_um: float | None = None) -> None:
        self.path = Path(source)
        self.pixel_size_um = pixel_size_um
        self.simulated = False
        self._store: Any = None
        self._folders: dict[str, list[Path]] = {}
        if not self.path.is_dir():
            raise DataError(
                f"There is no folder {self.path} to replay; expected a folder of PNG or TIFF files "
                "or an OME-Zarr store of livestain."
            )
        if (self.path / "zarr.json").exists():
            self._open_store()
        else:
            self._open_folders()

    # --------------------------------------------------------------- opening

    def _open_store(self) -> None:
        from livestain.store import open_store

        self._store = open_store(self.path)
        plan = self._store.plan
        self.simulated = self._store.attributes.get("simulated") is True
        if plan.n_p > 1:
            raise DataError(
                f"{self.path} has {plan.n_p} positions, and a replay shows one field; expected a store "
                "of one position, or a folder of images."
            )
        self.channels = tuple(c.name for c in plan.channels if c.kind == "raw")
        self.n_t, self.n_z = int(plan.n_t), int(plan.n_z)
        self.shape = (int(plan.height), int(plan.width))
        self._dtypes = dict.fromkeys(self.channels, np.dtype(np.uint16))
        if self.pixel_size_um is None:
            self.pixel_size_um = float(plan.pixel_size_um)

    def _open_folders(self) -> None:
        folders = _channel_folders(self.path)
        if not folders:
            raise DataError(
                f"{self.path} holds no PNG or TIFF file, nor folders of them; expected one file a "
                "time point, or one folder a channel (brightfield, mitochondria)."
            )
        first_name, first = next(iter(folders.items()))
        names = [f.name for f in first]
        for name, files in folders.items():
            if [f.name for f in files] != names:
                odd = sorted({f.name for f in files} ^ set(names))[0]
                raise DataError(
                    f"The channels {first_name} and {name} of {self.path} have to hold files of equal "
                    f"names; {odd} is in one of them only."
                )
        self._folders = folders
        self.channels = tuple(folders)
        self.n_t, self.n_z = len(names), 1
        self.shape, _ = image_format(first[0])
        self._dtypes = {}
        for name, files in folders.items():
            for file in files:
                shape, dtype = image_format(file)
                if shape != self.shape:
                    raise DataError(
                        f"All planes of a recording have the same size: {first[0]} is "
                        f"{_size(self.shape)} and {file} is {_size(shape)} pixels (y x x). Crop or "
                        "remove what differs."
                    )
                if dtype != self._dtypes.setdefault(name, dtype):
                    raise DataError(
                        f"All planes of a channel have the same format: {files[0]} is "
                        f"{self._dtypes[name]} and {file} is {dtype}. Convert them alike."
                    )

    # --------------------------------------------------------------- reading

    def close(self) -> None:
        """Close the store, if there is one; may be called again."""
        if self._store is not None:
            self._store.close()

    def dtype(self, channel: str) -> np.dtype[Any]:
        """Return the data type of a channel, uint8 or uint16."""
        return self._dtypes[channel]

    def file(self, channel: str, t: int) -> Path:
        """Return the file of a time point (the store itself, where the source is one)."""
        return self._folders[channel][t] if self._folders else self.path

    def has(self, channel: str, t: int, z: int = 0) -> bool:
        """Return whether the recording has a plane; a store's channels may have holes."""
        if channel not in self.channels or not (0 <= t < self.n_t and 0 <= z < self.n_z):
            return False
        if self._store is None:
            return True
        return bool(self._store.is_present(PlaneIndex(0, t, self._store.plan.c_of(channel), z)))

    def plane(self, channel: str, t: int, z: int = 0) -> NDArray[Any]:
        """Return a recorded plane as it was recorded.

        Returns
        -------
        array of uint8 or uint16, (y, x)

        Raises
        ------
        DataError
            If the recording has no such channel, time point or z-plane; the message says what it has.
        MissingPlaneError
            If the place is a hole of a recorded store; see `has`.
        """
        if channel not in self.channels or not (0 <= t < self.n_t and 0 <= z < self.n_z):
            raise DataError(
                f"The recording {self.path} has no plane of channel {channel!r} at t={t}, z={z}; it "
                f"has the channels {', '.join(self.channels)}, {self.n_t} time points and {self.n_z} "
                "z-planes. Shorten the sequence to what was recorded."
            )
        if self._store is not None:
            c = self._store.plan.c_of(channel)
            return np.asarray(self._store.read(PlaneIndex(0, t, c, z)))
        # Its header was looked at when the recording was opened.
        return read_pixels(self._folders[channel][t])

    def truth(self, channel: str, t: int, z: int = 0) -> NDArray[np.float32]:
        """Return a recorded plane to compare with, (y, x) float32; errors as `plane`."""
        return self.plane(channel, t, z).astype(np.float32)


def _images(folder: Path) -> list[Path]:
    """Return a folder's image files in the order of their names."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    return sorted(files, key=lambda f: f.name)


def _channel_folders(path: Path) -> dict[str, list[Path]]:
    """Return the files of each channel, brightfield first, by the folder's name capitalised."""
    own = _images(path)
    if own:
        name = path.resolve().name
        if kind_of_channel(name) in (None, "brightfield") and not _STAINED.search(name.lower()):
            # "recorded_pngs", "bf_20x": the preset of a sequence is called Brightfield.
            folders = {"brightfield": own}
        else:
            folders = {name: own}
        sibling = path.resolve().parent / "mitochondria"
        if name.lower() == "brightfield" and sibling.is_dir() and (files := _images(sibling)):
            folders[sibling.name] = files
    else:
        inside = sorted(f for f in path.iterdir() if f.is_dir())
        folders = {f.name: files for f in inside if (files := _images(f))}
    order = sorted(folders, key=lambda n: (n.lower() != "brightfield", n))
    return {n[:1].upper() + n[1:]: folders[n] for n in order}


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"

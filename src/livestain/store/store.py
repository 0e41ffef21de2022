"""A store that is open: planes in and out by their place, from any process, in any order."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.errors import MissingPlaneError, StoreError
from livestain.planes import PlaneIndex
from livestain.store.arrays import Mode, chunk_file, open_array, present_chunks
from livestain.store.encoding import decode, encode
from livestain.store.future import InFlight
from livestain.store.group import read_group, refuse_reserved, write_group
from livestain.store.plan import StorePlan
from livestain.store.pyramid import level_shapes, levels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.store.future import WriteFuture
    from livestain.store.plan import VirtualPlan

__all__ = ["Store", "open_store"]


def open_store(path: Path | str, *, mode: Mode = "r") -> Store:
    """Open a store, also while other processes write to it.

    Parameters
    ----------
    path : Path
        A store that `create_store` made.
    mode : {"r", "r+"}
        To read, or also to write.

    Raises
    ------
    StoreError
        If there is none, or it is not a livestain store.
    """
    return Store(path, mode=mode)


class Store:
    """One position's planes. Safe to use from several threads; every process opens its own.

    Made by `create_store` and `open_store`. A plane is there exactly if its chunk of level 0 is.

    Attributes
    ----------
    path : Path
        Absolute.
    plan : StorePlan
        What it will hold.
    mode : {"r", "r+"}
    """

    def __init__(self, path: Path | str, *, mode: Mode = "r") -> None:
        self.path = Path(path).resolve()
        self.mode = mode
        self._attributes: dict[str, Any] = read_group(self.path)["attributes"]["livestain"]
        self.plan = StorePlan.parse(self._attributes["plan"], where=f"the plan of {self.path}")
        self._grid = (self.plan.n_t, len(self.plan.channels), self.plan.n_z)
        self._shape = (self.plan.height, self.plan.width)
        self._levels: list[Any] = [None] * len(level_shapes(*self._shape))
        self._levels[0] = open_array(self.path / "0", mode=mode)
        self._lock = threading.Lock()
        self._in_flight = InFlight(self.path)
        self._closed = False

    # -- life ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for the writes on their way; a second call does nothing.

        Raises
        ------
        StoreError
            If a write failed and nobody asked its future how it ended.
        """
        if self._closed:
            return
        self._closed = True
        self._in_flight.finish()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # -- attributes ------------------------------------------------------------------------------

    @property
    def attributes(self) -> dict[str, Any]:
        """What lies under `livestain` in the group's attributes (a copy)."""
        return copy.deepcopy(self._attributes)

    def update_attributes(self, attributes: dict[str, Any]) -> None:
        """Add to, or replace in, the attributes under `livestain`; only for the acquisition.

        Parameters
        ----------
        attributes : dict
            JSON types; the store's own names (plan, version, ...) are refused.

        Raises
        ------
        StoreError
            If the store is open for reading only, or the attributes cannot be written.
        """
        refuse_reserved(attributes, self.path)
        self._must_write()
        with self._lock:
            group = read_group(self.path)
            group["attributes"]["livestain"].update(attributes)
            write_group(self.path, group)
            self._attributes = group["attributes"]["livestain"]

    def set_display(self, c: int, start: float, end: float) -> None:
        """Set the window, in stored counts, in which viewers show a channel. For one process.

        Raises
        ------
        StoreError
            If the store is open for reading only, or the window is empty.
        """
        self._must_write()
        if not start < end:
            raise StoreError(
                f"The display window of channel {c} goes from a smaller to a larger count; "
                f"given {start} to {end}."
            )
        with self._lock:
            group = read_group(self.path)
            window = group["attributes"]["ome"]["omero"]["channels"][c]["window"]
            window.update(start=float(start), end=float(end))
            write_group(self.path, group)

    # -- writing ---------------------------------------------------------------------------------

    def write(self, index: PlaneIndex, image: NDArray[Any]) -> WriteFuture:
        """Start writing a plane of level 0, and return at once: for the acquisition thread.

        Parameters
        ----------
        index : PlaneIndex
            Its place; a plane that is there is replaced.
        image : array of uint8 or uint16, (y, x)
            Referenced until the write is done: it must not change before.

        Returns
        -------
        WriteFuture

        Raises
        ------
        StoreError
            If the place is outside the plan, the image has another shape or type, or the store is
            open for reading only.
        """
        self._must_write()
        t, c, z = self._place(index)
        return self._start(0, index, self._as_stored(image, index), (t, c, z))

    def write_virtual(self, index: PlaneIndex, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Encode and write a predicted plane, levels first; returns when it is readable.

        Parameters
        ----------
        index : PlaneIndex
            A place in a virtual channel.
        values : array of float, (y, x)
            In the output's unit.

        Returns
        -------
        array of uint16, (y, x)
            The plane as stored.

        Raises
        ------
        StoreError
            If a value is NaN or infinite, the channel is not virtual, or it cannot be written.
        """
        virtual = self._virtual(index)
        try:
            stored = encode(values, virtual.scale, virtual.offset)
        except StoreError as error:
            raise StoreError(f"Plane t={index.t} z={index.z}: {error}") from error
        # Level 0 decides whether the plane is there, so it comes last: a crash in between leaves
        # a plane that is owed, never one without its levels.
        self.write_levels(index, stored)
        self.write(index, stored).result()
        return stored

    def write_levels(self, index: PlaneIndex, image: NDArray[Any]) -> None:
        """Compute and write the pyramid levels of a plane; returns when they are written.

        Parameters
        ----------
        index : PlaneIndex
        image : array of uint8 or uint16, (y, x)
            The plane as in level 0.

        Raises
        ------
        StoreError
            As `write`.
        """
        self._must_write()
        place = self._place(index)
        planes = levels_of(self._as_stored(image, index))
        writes = [
            self._start(level, index, plane, place) for level, plane in enumerate(planes, start=1)
        ]
        for write in writes:
            write.result()

    # -- reading ---------------------------------------------------------------------------------

    def read(self, index: PlaneIndex, *, level: int = 0) -> NDArray[np.uint16]:
        """Read a plane.

        Parameters
        ----------
        index : PlaneIndex
        level : int
            Pyramid level.

        Returns
        -------
        array of uint16, (y, x)

        Raises
        ------
        MissingPlaneError
            If it is not (yet) there.
        StoreError
            If it is damaged, or the place is outside the plan.
        """
        place = self._place(index)
        where = "Plane t={} c={} z={} of {}".format(*place, self.path)
        try:
            return self._read(level, place)
        except (ValueError, OSError) as error:
            file = chunk_file(self.path / str(level), *place)
            if not file.is_file():
                raise MissingPlaneError(
                    f"{where} is not there (level {level}). It may still come while the run goes "
                    "on; `livestain status` says why it is missing."
                ) from error
        try:
            # The file may have come between the reading and the look for it: only now is it judged.
            return self._read(level, place)
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{where} is damaged or cannot be read: {error}. Restore {file.name} in level "
                f"{level} from a copy, or remove it, and the plane counts as missing."
            ) from error

    def read_decoded(self, index: PlaneIndex) -> NDArray[np.float32]:
        """Read a predicted plane in its unit; NaN where nothing was predicted.

        Returns
        -------
        array of float32, (y, x)

        Raises
        ------
        MissingPlaneError
            If it is not (yet) there.
        StoreError
            If the channel is not virtual, or as `read`.
        """
        virtual = self._virtual(index)
        return decode(self.read(index), virtual.scale, virtual.offset)

    # -- what is there ---------------------------------------------------------------------------

    def is_present(self, index: PlaneIndex) -> bool:
        """Return whether a plane is there, for every process."""
        return chunk_file(self.path / "0", *self._place(index)).is_file()

    def present(self, c: int) -> NDArray[np.bool_]:
        """Return which planes of channel `c` are there: bool, (n_t, n_z)."""
        return self.present_grid()[:, c]

    def present_grid(self, level: int = 0) -> NDArray[np.bool_]:
        """Return which planes of all channels are there at a level: bool, (n_t, n_c, n_z)."""
        return present_chunks(self.path / str(level), self._grid)

    def levels_missing(self, c: int) -> list[PlaneIndex]:
        """Return the planes of channel `c` that are there but lack a pyramid level."""
        lacking = np.zeros((self.plan.n_t, self.plan.n_z), dtype=bool)
        present = self.present(c)
        for level in range(1, len(self._levels)):
            lacking |= present & ~self.present_grid(level)[:, c]
        return [PlaneIndex(0, int(t), c, int(z)) for t, z in np.argwhere(lacking).tolist()]

    # -- inside ----------------------------------------------------------------------------------

    def _array(self, level: int) -> Any:
        if not 0 <= level < len(self._levels):
            raise StoreError(
                f"{self.path} has levels 0 to {len(self._levels) - 1}; asked for level {level}."
            )
        if self._levels[level] is None:
            # Two threads may both open it: the second handle replaces an equal one.
            self._levels[level] = open_array(self.path / str(level), mode=self.mode)
        return self._levels[level]

    def _read(self, level: int, place: tuple[int, int, int]) -> NDArray[np.uint16]:
        plane: NDArray[np.uint16] = self._array(level)[place].read().result()
        return plane

    def _start(
        self, level: int, index: PlaneIndex, plane: NDArray[np.uint16], place: tuple[int, int, int]
    ) -> WriteFuture:
        write = self._array(level)[place].write(plane, can_reference_source_data_indefinitely=True)
        return self._in_flight.start(write.commit, index)

    def _must_write(self) -> None:
        if self.mode != "r+":
            raise StoreError(
                f"{self.path} is open for reading. Open it with mode='r+' to write to it."
            )
        if self._closed:
            raise StoreError(f"{self.path} is closed. Write before closing it, or open it again.")

    def _place(self, index: PlaneIndex) -> tuple[int, int, int]:
        p, t, c, z = index
        n_t, n_c, n_z = self._grid
        if p != 0 or not (0 <= t < n_t and 0 <= c < n_c and 0 <= z < n_z):
            raise StoreError(
                f"There is no place for plane p={p} t={t} c={c} z={z} in {self.path}; expected "
                f"p=0, t<{n_t}, c<{n_c}, z<{n_z}."
            )
        return t, c, z

    def _as_stored(self, image: NDArray[Any], index: PlaneIndex) -> NDArray[np.uint16]:
        image = np.asarray(image)
        if image.shape != self._shape or image.dtype not in (np.uint8, np.uint16):
            raise StoreError(
                f"Plane t={index.t} c={index.c} z={index.z} has shape {image.shape} and type "
                f"{image.dtype}; expected {self._shape} and uint8 or uint16 for {self.path}. "
                "Colour and 32-bit cameras, and a region of interest that changes during a run, "
                "cannot be stored."
            )
        return image.astype(np.uint16, copy=False)

    def _virtual(self, index: PlaneIndex) -> VirtualPlan:
        channel = self.plan.channels[self._place(index)[1]]
        if channel.virtual is None:
            raise StoreError(
                f"Channel '{channel.name}' of {self.path} is acquired, not predicted: it has no "
                "encoding. Use write and read for it."
            )
        return channel.virtual

"""Planes in and out of a store by their place, from any process, in any order."""

from __future__ import annotations

import copy
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from livestain.errors import MissingPlaneError, StoreError
from livestain.planes import PlaneIndex
from livestain.store.encoding import decode, encode
from livestain.store.future import InFlight
from livestain.store.group import read_group
from livestain.store.levels import Levels
from livestain.store.plan import StorePlan, places_of
from livestain.store.pyramid import level_shapes, levels_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from livestain.store.arrays import Mode
    from livestain.store.future import WriteFuture
    from livestain.store.plan import VirtualPlan

__all__ = ["PlaneStore"]

_T = TypeVar("_T")


class PlaneStore:
    """A run's planes. Safe to use from several threads; every process opens its own.

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
        if "plan" not in self._attributes:
            raise StoreError(
                f"{self.path} is one position of a run; give the run's own folder above it, which ends "
                "in .zarr."
            )
        self.plan = StorePlan.parse(self._attributes["plan"], where=f"the plan of {self.path}")
        self._shape = (self.plan.height, self.plan.width)
        self._n_levels = len(level_shapes(*self._shape))
        self._levels = Levels([self.path / position.path for position in self.plan.positions], mode)
        self._levels.handle(0, 0)  # what is damaged is told at once
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

    # -- what it says of itself --------------------------------------------------------------------

    @property
    def attributes(self) -> dict[str, Any]:
        """What lies under `livestain` in the group's attributes (a copy)."""
        return copy.deepcopy(self._attributes)

    def refresh(self) -> None:
        """Take notice of time points and channels that another process has made room for."""
        with self._lock:
            self._attributes = read_group(self.path)["attributes"]["livestain"]
            plan = StorePlan.parse(self._attributes["plan"], where=f"the plan of {self.path}")
            if (plan.n_t, len(plan.channels)) != (self.plan.n_t, len(self.plan.channels)):
                self._levels.forget()
            self.plan = plan

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
        self._check(index)
        return self._start(0, index, self._as_stored(image, index))

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
            raise StoreError(f"Plane {index.words}: {error}") from error
        self._write_whole(index, stored)
        return stored

    def write_encoded(self, index: PlaneIndex, counts: NDArray[np.uint16]) -> None:
        """Write a predicted plane that is encoded already, levels first; returns when it is readable.

        Parameters
        ----------
        index : PlaneIndex
            A place in a virtual channel.
        counts : array of uint16, (y, x)
            As `encode` gives them by the channel's scale and offset.

        Raises
        ------
        StoreError
            If a count is 0, which stands for "not predicted", the type is another, the channel is not
            virtual, or it cannot be written.
        """
        self._virtual(index)
        counts = np.asarray(counts)
        if counts.dtype != np.uint16 or not counts.all():
            given = "pixels of 0" if counts.dtype == np.uint16 else f"values of type {counts.dtype}"
            raise StoreError(
                f"Plane {index.words} holds {given}; expected uint16 of 1 to 65535, since 0 stands for "
                '"not predicted". Encode it first, or give its values to write_virtual.'
            )
        self._write_whole(index, counts)

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
        self._check(index)
        planes = levels_of(self._as_stored(image, index))
        writes = [self._start(level, index, plane) for level, plane in enumerate(planes, start=1)]
        for write in writes:
            write.result()

    def remove_stale_writes(self) -> None:
        """Remove what killed processes left of planes they were writing; only for who holds the store's lock.

        The storage library writes a plane into NAME.__lock and then gives it its name. It goes on with such a
        file that is there, and where that is longer than the plane, its end stays: a plane that nobody can
        read.
        """
        self._must_write()
        for p in range(self.plan.n_p):
            for level in range(self._n_levels):
                for file in self._levels.folder(p, level).glob("*.__lock"):
                    with suppress(OSError):
                        file.unlink()

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
        self._check(index)
        where = f"Plane {index.words} of {self.path}"
        try:
            return self._read(level, index)
        except (
            ValueError,
            OSError,
            IndexError,
        ) as error:  # the last: another process cut the end off
            if self._levels.moved(index.p):  # compacted by another process since
                return self.read(index, level=level)
            files = self._levels.files(index.p, level)
            if not files.has(*self._in_array(index)):
                planned = self.plan.planned(index.c)[index.p, 0 if self.plan.open_end else index.t]
                why = (
                    "It may still come while the run goes on; `livestain status` says why it is missing."
                    if planned[index.z]
                    else "It was never planned."
                )
                raise MissingPlaneError(f"{where} is not there (level {level}). {why}") from error
        try:
            # The file may have come between the reading and the look for it: only now is it judged.
            return self._read(level, index)
        except (ValueError, OSError) as error:
            file = files.file_of(*self._in_array(index))
            cure = "" if files.shared else ", or remove it, and the plane counts as missing"
            raise StoreError(
                f"{where} is damaged or cannot be read: {error}. Restore {file.name} in level "
                f"{level} from a copy{cure}."
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

    def is_present(self, index: PlaneIndex, *, level: int = 0) -> bool:
        """Return whether a plane is there, at a level, for every process."""
        self._check(index)
        return self._looked(
            index.p, lambda: self._levels.files(index.p, level).has(*self._in_array(index))
        )

    def present(self, c: int) -> NDArray[np.bool_]:
        """Return which planes of channel `c` are there: bool, (n_p, n_t, n_z)."""
        return self.present_grid()[:, :, c]

    def present_grid(self, level: int = 0) -> NDArray[np.bool_]:
        """Return which planes of all channels are there at a level: bool, (n_p, n_t, n_c, n_z)."""
        if self.plan.open_end:
            self.refresh()
        plan = self.plan
        there = np.zeros((plan.n_p, plan.n_t, len(plan.channels), plan.n_z), dtype=bool)
        shape = (plan.n_t, len(plan.channels) - plan.first_c, plan.n_z)
        for p in range(plan.n_p):
            look = partial(self._present_at, p, level, shape)
            there[p, :, plan.first_c :] = self._looked(p, look)
        return there

    def present_indices(self) -> frozenset[PlaneIndex]:
        """Return the planes of all channels that are there, by one look."""
        return frozenset(PlaneIndex(*at) for at in np.argwhere(self.present_grid()).tolist())

    @property
    def is_compacted(self) -> bool:
        """Whether planes share files, so that a run cannot go on with it."""
        positions = range(self.plan.n_p)
        return any(self._looked(p, partial(self._levels.files, p, 0)).shared for p in positions)

    def levels_missing(self, c: int) -> list[PlaneIndex]:
        """Return the planes of channel `c` that are there but lack a pyramid level."""
        present = self.present(c)
        lacking = np.zeros_like(present)
        for level in range(1, self._n_levels):
            lacking |= present & ~self.present_grid(level)[:, :, c]
        return places_of(lacking, c)

    # -- inside ----------------------------------------------------------------------------------

    def _write_whole(self, index: PlaneIndex, stored: NDArray[np.uint16]) -> None:
        # Level 0 decides whether the plane is there, so it comes last: a crash in between leaves
        # a plane that is owed, never one without its levels.
        self.write_levels(index, stored)
        self.write(index, stored).result()

    def _present_at(self, p: int, level: int, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        return self._levels.files(p, level).present(shape)

    def _looked(self, p: int, look: Callable[[], _T]) -> _T:
        """Return what a look at an image gives; again, where another process has compacted it meanwhile."""
        while True:
            try:
                found = look()
            except StoreError:
                if self._levels.moved(p):
                    continue
                raise
            if not self._levels.moved(p):
                return found

    def _in_array(self, index: PlaneIndex) -> tuple[int, int, int]:
        """Return the place of a plane along the axes t, c, z of its array."""
        return index.t, index.c - self.plan.first_c, index.z

    def _read(self, level: int, index: PlaneIndex) -> NDArray[np.uint16]:
        at = self._in_array(index)
        plane: NDArray[np.uint16] = self._levels.handle(index.p, level)[at].read().result()
        return plane

    def _start(self, level: int, index: PlaneIndex, plane: NDArray[np.uint16]) -> WriteFuture:
        write = self._levels.handle(index.p, level)[self._in_array(index)].write(
            plane, can_reference_source_data_indefinitely=True
        )
        return self._in_flight.start(write.commit, index)

    def _must_write(self) -> None:
        if self.mode != "r+":
            raise StoreError(
                f"{self.path} is open for reading. Open it with mode='r+' to write to it."
            )
        if self._closed:
            raise StoreError(f"{self.path} is closed. Write before closing it, or open it again.")

    def _check(self, index: PlaneIndex) -> None:
        """Refuse a place outside the plan; where its end is open, another process may have moved it."""
        if index.t >= self.plan.n_t and self.plan.open_end:
            self.refresh()
        p, t, c, z = index
        plan = self.plan
        n_p, n_t, n_c, n_z = plan.n_p, plan.n_t, len(plan.channels), plan.n_z
        if 0 <= c < plan.first_c:
            raise StoreError(
                f"Plane {index.words} of channel '{plan.channels[c].name}' does not lie in {self.path}, but "
                f"in the recording that its predictions are made from."
            )
        if not (0 <= p < n_p and 0 <= t < n_t and 0 <= c < n_c and 0 <= z < n_z):
            raise StoreError(
                f"There is no place for plane {index.words} in {self.path}; expected "
                f"p<{n_p}, t<{n_t}, c<{n_c}, z<{n_z}."
            )

    def _as_stored(self, image: NDArray[Any], index: PlaneIndex) -> NDArray[np.uint16]:
        image = np.asarray(image)
        if image.shape != self._shape or image.dtype not in (np.uint8, np.uint16):
            raise StoreError(
                f"Plane {index.words} has shape {image.shape} and type "
                f"{image.dtype}; expected {self._shape} and uint8 or uint16 for {self.path}. "
                "Colour and 32-bit cameras, and a region of interest that changes during a run, "
                "cannot be stored."
            )
        return image.astype(np.uint16, copy=False)

    def _virtual(self, index: PlaneIndex) -> VirtualPlan:
        self._check(index)
        channel = self.plan.channels[index.c]
        if channel.virtual is None:
            raise StoreError(
                f"Channel '{channel.name}' of {self.path} is acquired, not predicted: it has no "
                "encoding. Use write and read for it."
            )
        return channel.virtual

"""Channels by name: lazy arrays with physical coordinates, of what the camera or the model gave."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping
from datetime import datetime
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from livestain.errors import MissingPlaneError, StoreError, UnknownChannelError
from livestain.planes import PlaneIndex
from livestain.store.arrays import open_array
from livestain.store.encoding import decode
from livestain.store.journal import journal_lines, journal_path
from livestain.store.layout import omero_channel, position_name
from livestain.store.plane_store import PlaneStore
from livestain.store.pyramid import level_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

    from livestain.store.plan import ChannelPlan, StorePlan, TruthPlan, VirtualPlan

__all__ = ["Channel", "Channels", "MaskedChannel"]

_log = logging.getLogger(__name__)

_NAMED_MOST = 5
"""More missing planes than these are counted, and not named, in a message."""

_FEW = 200
"""Up to so many planes are looked for one by one; for more, whole folders are listed, which takes as long for
one plane as for all of the run's."""

_EPOCH = "seconds since 1970-01-01"


class Channels(Mapping[str, "Channel"]):
    """The channels of a store by name, in the store's order: raw ones, then virtual ones.

    A virtual channel is also found by the label that viewers show, "mitochondria (predicted)". Of a recording
    that another program wrote, its raw channels lie there, and the store has the predictions alone.

    Parameters
    ----------
    store : PlaneStore
    """

    def __init__(self, store: PlaneStore) -> None:
        self._store = store

    def __getitem__(self, name: str) -> Channel:
        """Return a channel.

        Raises
        ------
        UnknownChannelError
            If there is none of this name; it is a StoreError, and a KeyError too.
        """
        names = list(self)
        labels = {omero_channel(channel)["label"]: channel.name for channel in self._plans}
        found = name if name in names else labels.get(name)
        if found is not None:
            return Channel(self._store, found)
        recording = self._store.plan.recording
        elsewhere = f" Raw channels lie in the recording {recording.path}." if recording else ""
        raise UnknownChannelError(
            f"{self._store.path} has no channel {name!r}; there are {', '.join(map(repr, names))}."
            + elsewhere
        )

    def __iter__(self) -> Iterator[str]:
        """Go through the names, as in the sequence."""
        return iter([channel.name for channel in self._plans])

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self._plans)

    @property
    def _plans(self) -> tuple[ChannelPlan, ...]:
        plan = self._store.plan
        return plan.channels[plan.first_c :]

    def __repr__(self) -> str:
        """Return the channels, one a line."""
        return "\n".join(map(repr, self.values()))


class Channel:
    """One channel of a run as a lazy array: planes are read when they are indexed, never before.

    Axes are (t, z, y, x), with p before them where there are several positions. Basic indexing is that of
    numpy: integers, slices and an ellipsis. A plane that is not there is never read as zeros: indexing it
    raises MissingPlaneError; `masked` reads what there is. While a run goes on, the shape is that of the
    store's plan: `Store.refresh` takes notice of time points that came since.

    Parameters
    ----------
    store : PlaneStore
        Planes can be read from it also after it is closed.
    name : str
        The channel's name, as in the sequence.
    level : int
        Pyramid level.
    as_stored : bool
        Whether a virtual channel gives the counts that are stored, not the prediction in its unit.

    Attributes
    ----------
    name : str
    level : int
    as_stored : bool
    """

    def __init__(
        self, store: PlaneStore, name: str, *, level: int = 0, as_stored: bool = False
    ) -> None:
        self._store = store
        self.name = name
        self.level = level
        self.as_stored = as_stored
        n_levels = len(level_shapes(store.plan.height, store.plan.width))
        if not 0 <= level < n_levels:
            raise StoreError(
                f"{store.path} has levels 0 to {n_levels - 1}; asked for level {level}."
            )

    # -- what it is ------------------------------------------------------------------------------

    @property
    def plan(self) -> ChannelPlan:
        """How the channel is made, and which of its planes are planned."""
        return self._store.plan.channels[self._c]

    @property
    def predicted(self) -> bool:
        """Whether a model made it, not the camera."""
        return self._virtual is not None

    @property
    def is_truth(self) -> bool:
        """Whether it is what a simulation knows, free of noise: no camera took it."""
        return self.plan.truth is not None

    @property
    def label(self) -> str:
        """The name that viewers show: of a virtual channel with "(predicted)"."""
        return str(omero_channel(self.plan)["label"])

    @property
    def unit(self) -> str:
        """Unit of its values: "counts" of what is stored, else that of the model's output, or the truth's."""
        coded = self._coded
        return "counts" if coded is None else coded.unit

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the raw channels that it is predicted from; none of a raw channel."""
        return () if self._virtual is None else self._virtual.sources

    @property
    def bundle(self) -> str | None:
        """Name of the bundle that predicts it; None of a raw channel."""
        return None if self._virtual is None else self._virtual.bundle

    @property
    def bundle_sha256(self) -> str | None:
        """SHA-256 of that bundle's rdf.yaml; None of a raw channel."""
        return None if self._virtual is None else self._virtual.bundle_sha256

    def __repr__(self) -> str:
        """Return what it is, above all whether it is predicted."""
        sizes = ", ".join(f"{dim} {n}" for dim, n in zip(self.dims, self.shape, strict=True))
        level = f", level {self.level}" if self.level else ""
        if self.predicted:
            sources = ", ".join(map(repr, self.sources))
            what = f"PREDICTED from {sources} by bundle {self.bundle!r}"
        else:
            what = "SIMULATED TRUTH" if self.is_truth else "acquired"
        stored = " as stored" if (self.predicted or self.is_truth) and self.as_stored else ""
        return (
            f"<Channel {self.name!r}, {what}: {self.dtype} in {self.unit}{stored}, {sizes}{level}>"
        )

    # -- the same planes in other forms ----------------------------------------------------------

    def stored(self) -> Channel:
        """Return the same channel as the uint16 counts that are stored; a virtual 0 = not predicted."""
        return Channel(self._store, self.name, level=self.level, as_stored=True)

    def at_level(self, level: int) -> Channel:
        """Return the same channel at a pyramid level: each is the 2x2 mean in y and x of the one before.

        Raises
        ------
        StoreError
            If there is no such level.
        """
        return Channel(self._store, self.name, level=level, as_stored=self.as_stored)

    @property
    def masked(self) -> MaskedChannel:
        """The same channel with what is not there masked: `channel.masked[0]`."""
        return MaskedChannel(self)

    # -- an array --------------------------------------------------------------------------------

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes: (t, z, y, x), with p before them where there are several positions."""
        return ("p", "t", "z", "y", "x") if self._store.plan.n_p > 1 else ("t", "z", "y", "x")

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes; of t, where its end is open, for how many time points there is room now."""
        plan = self._store.plan
        sides = level_shapes(plan.height, plan.width)[self.level]
        positions = (plan.n_p,) if plan.n_p > 1 else ()
        return (*positions, plan.n_t, plan.n_z, *sides)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.dims)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values: uint16 of counts, float32 of a prediction or a truth in its unit."""
        return np.dtype(np.uint16 if self._coded is None else np.float32)

    def __len__(self) -> int:
        """Return the size of the first axis."""
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Go along the first axis."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """Read a part, by numpy's basic indexing.

        Parameters
        ----------
        key : int, slice, ellipsis, or a tuple of them

        Returns
        -------
        array of uint16 or float32
            As `dtype`; a prediction has NaN where nothing was predicted.

        Raises
        ------
        MissingPlaneError
            If a plane of it is not (yet) there.
        StoreError
            If a plane is damaged.
        IndexError
            If the key is outside, or of another kind.
        """
        pixels, _ = self.read_part(key, masked=False)
        return pixels[()]

    def read_part(self, key: Any, *, masked: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a part together with which of its pixels are not there; indexing is made of it.

        Parameters
        ----------
        key : int, slice, ellipsis, or a tuple of them
        masked : bool
            Whether a missing plane is told, or raises.

        Returns
        -------
        pixels : array of uint16 or float32
            0, or NaN of a prediction in its unit, where nothing is there.
        absent : array of bool
            Of the same shape: where the plane is missing, and in a virtual channel where nothing was
            predicted.

        Raises
        ------
        MissingPlaneError, StoreError, IndexError
            As indexing.
        """
        picks = _picks(key, self.dims, self.shape)
        *leading, rows, columns = picks
        if len(leading) == 2:
            leading.insert(0, _Pick(range(1), slice(None), kept=False))
        c = self._c
        ps, ts, zs = (pick.numbers for pick in leading)
        places = [PlaneIndex(p, t, c, z) for p in ps for t in ts for z in zs]
        # One look before several planes are read; a single one says itself that it is missing.
        missing = self._missing_of(places) if len(places) > 1 else set()
        if missing and not masked:
            raise self._missing_error([at for at in places if at in missing], len(places))

        coded = self._coded
        shape = (len(places), len(rows.numbers), len(columns.numbers))
        fill = 0 if coded is None else np.nan
        pixels = np.full(shape, fill, dtype=self.dtype)
        absent = np.zeros(shape, dtype=bool)
        for n, place in enumerate(places if pixels.size else ()):
            try:
                if place in missing:
                    raise MissingPlaneError
                plane = self._store.read(place, level=self.level)
            except MissingPlaneError:
                if not masked:
                    raise
                absent[n] = True
                continue
            part = plane[rows.part, columns.part]
            if self.predicted:
                absent[n] = part == 0
            pixels[n] = part if coded is None else decode(part, coded.scale, coded.offset)
        kept = tuple(len(pick.numbers) for pick in picks if pick.kept)
        return pixels.reshape(kept), absent.reshape(kept)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it, for numpy.

        Raises
        ------
        MissingPlaneError, StoreError
            As indexing.
        ValueError
            If it must not be copied: it lies on the disk.
        """
        if copy is False:
            raise ValueError(f"channel '{self.name}' lies on the disk: an array of it is a copy")
        pixels, _ = self.read_part(..., masked=False)
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the place of its store, which is opened anew there."""
        return _reopened, (str(self._store.path), self.name, self.level, self.as_stored)

    # -- where its planes are --------------------------------------------------------------------

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which planes are there at this level: bool, `dims` without y and x."""
        there = self._store.present_grid(self.level)[:, :, self._c]
        return there if self._store.plan.n_p > 1 else there[0]

    @property
    def coords(self) -> dict[str, NDArray[Any]]:
        """Where the planes and pixels lie, by name; `coord_units` has the units.

        Of each axis a 1-D array: of t in seconds after the first time point, as planned; of z, y and x in
        micrometres, 0 at the centre of the first pixel of level 0; of p the positions' names. An interval
        or z-step that is unknown gives numbers counted from 0, in the unit "1". Besides, by position,
        where the sequence sent the stage (stage_x_um, stage_y_um; NaN = it was not moved), and, along p and
        t, or t alone, when the first raw plane of a time point was written (time_s: seconds since 1970, UTC;
        NaN = not known), if the journal or the store tells it.
        """
        plan = self._store.plan
        n_y, n_x = level_shapes(plan.height, plan.width)[self.level]
        factor = 2**self.level
        pixel, first = plan.pixel_size_um * factor, plan.pixel_size_um * (factor - 1) / 2
        coords: dict[str, NDArray[Any]] = {
            "p": np.array([position_name(plan, p) for p in range(plan.n_p)]),
            "t": np.arange(plan.n_t) * (plan.t_interval_s or 1.0),
            "z": np.arange(plan.n_z) * (plan.z_step_um or 1.0),
            "y": first + np.arange(n_y) * pixel,
            "x": first + np.arange(n_x) * pixel,
            "stage_x_um": np.array([_or_nan(place.x_um) for place in plan.positions]),
            "stage_y_um": np.array([_or_nan(place.y_um) for place in plan.positions]),
        }
        times = _times_written(self._store, plan)
        if not np.isnan(times).all():
            coords["time_s"] = times if plan.n_p > 1 else times[0]
        return coords

    @property
    def coord_units(self) -> dict[str, str]:
        """Units of `coords`; "1" of numbers that count."""
        plan = self._store.plan
        return {
            # An interval of 0 is "as fast as it goes", which nobody can multiply with.
            "t": "s" if plan.t_interval_s else "1",
            "z": "um" if plan.z_step_um is not None or plan.n_z == 1 else "1",
            "y": "um",
            "x": "um",
            "stage_x_um": "um",
            "stage_y_um": "um",
            "time_s": _EPOCH,
        }

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _c(self) -> int:
        return self._store.plan.c_of(self.name)

    @property
    def _virtual(self) -> VirtualPlan | None:
        return self.plan.virtual

    @property
    def _coded(self) -> VirtualPlan | TruthPlan | None:
        """How its values are stored; None where they are given as the counts that are stored."""
        return None if self.as_stored else (self.plan.virtual or self.plan.truth)

    def _missing_of(self, places: list[PlaneIndex]) -> set[PlaneIndex]:
        # Where the end was open, it may have been settled meanwhile, before some of these planes.
        if len(places) <= _FEW:
            if self._store.plan.open_end:
                self._store.refresh()
            n_t = self._store.plan.n_t
            return {
                at
                for at in places
                if at.t >= n_t or not self._store.is_present(at, level=self.level)
            }
        there = self._store.present_grid(self.level)
        n_t = there.shape[1]
        return {at for at in places if at.t >= n_t or not there[at]}

    def _missing_error(self, missing: list[PlaneIndex], n_asked: int) -> MissingPlaneError:
        plan = self._store.plan
        planned = plan.planned(self._c)
        stand_ins = [plan.as_planned(at) for at in missing]
        never = sum(at.t >= plan.n_t or not planned[at.p, at.t, at.z] for at in stand_ins)
        names = ", ".join(at.words for at in missing[:_NAMED_MOST])
        more = f" and {len(missing) - _NAMED_MOST} more" if len(missing) > _NAMED_MOST else ""
        unplanned = f" ({never} of them not planned)" if never else ""
        return MissingPlaneError(
            f"{len(missing)} of {n_asked} planes of channel '{self.name}' of {self._store.path} are not "
            f"there at level {self.level}: {names}{more}{unplanned}. Read what there is with .masked[...]; "
            "`livestain status` says why the rest is missing."
        )


class MaskedChannel:
    """A channel whose missing planes are masked where they are read, in place of an error.

    Parameters
    ----------
    channel : Channel
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __getitem__(self, key: Any) -> Any:
        """Read a part, by numpy's basic indexing.

        Returns
        -------
        masked array of uint16 or float32
            Masked where the plane is missing, and in a virtual channel where nothing was predicted; below the
            mask, and as its fill value, is 0, or NaN of a prediction in its unit.

        Raises
        ------
        StoreError, IndexError
            As of a channel; a missing plane is no error.
        """
        pixels, absent = self._channel.read_part(key, masked=True)
        # The fill value in the array's own type: numpy's default does not fit into uint16.
        fill = pixels.dtype.type(np.nan if pixels.dtype.kind == "f" else 0)
        return np.ma.MaskedArray(pixels, mask=absent, fill_value=fill)[()]

    def __repr__(self) -> str:
        """Return the channel's, as masked."""
        return f"<masked {self._channel!r}>"


class _Pick(NamedTuple):
    """What an index takes of one axis."""

    numbers: range
    part: slice
    kept: bool
    """Whether the axis stays: an integer takes it away."""


def _picks(key: Any, dims: tuple[str, ...], shape: tuple[int, ...]) -> list[_Pick]:
    """Return what a key takes of each axis, in the axes' order."""
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [n for n, item in enumerate(keys) if isinstance(item, EllipsisType)]
    if len(dots) > 1 or len(keys) - len(dots) > len(shape):
        raise IndexError(
            f"a channel with axes {', '.join(dims)} takes at most {len(shape)} indices and one ellipsis; "
            f"given {len(keys)}"
        )
    at = dots[0] if dots else len(keys)
    whole = [slice(None)] * (len(shape) - len(keys) + len(dots))
    keys[at : at + len(dots)] = whole
    return [_pick(*one) for one in zip(keys, dims, shape, strict=True)]


def _pick(key: Any, dim: str, size: int) -> _Pick:
    if isinstance(key, slice):
        return _Pick(range(*key.indices(size)), key, kept=True)
    try:
        if isinstance(key, (bool, np.bool_)):
            raise TypeError
        number = operator.index(key)
    except TypeError:
        raise IndexError(
            f"a channel is indexed by integers, slices and an ellipsis; given {key!r} on axis {dim}. Read a "
            "part with those, and index the array that comes"
        ) from None
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of bounds for axis {dim} with size {size}")
    number %= size
    return _Pick(range(number, number + 1), slice(number, number + 1), kept=False)


def _reopened(path: str, name: str, level: int, as_stored: bool) -> Channel:
    return Channel(PlaneStore(path), name, level=level, as_stored=as_stored)


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _times_written(store: PlaneStore, plan: StorePlan) -> NDArray[np.float64]:
    """Return when the first raw plane of each time point was written: (n_p, n_t), NaN = not known."""
    raw = [c for c, channel in enumerate(plan.channels) if channel.kind == "raw"]
    if plan.recording is not None:  # its program wrote them, and its files may say when
        return np.full((plan.n_p, plan.n_t), np.nan)
    has_journal = journal_path(store.path).exists()
    try:
        times = _times_inside(store, plan, len(raw))
    except StoreError as error:
        # They were made from the journal: what is beside the store stands for them. They may also be on
        # their way, since another process writes them at the end of its run.
        if not has_journal:
            raise
        _log.info("%s The times are those of the journal.", error)
        times = np.full((plan.n_p, plan.n_t, len(raw), plan.n_z), np.nan)
    if has_journal:
        planned = np.stack([plan.planned(c) for c in raw], axis=2)
        # A long journal takes seconds. Of an end that is open nobody knows whether more lines have come.
        if plan.open_end or np.isnan(times[planned]).any():
            told = _times_of_journal(store, plan, len(raw))
            times = np.where(np.isnan(told), times, told)
    return np.asarray(np.fmin.reduce(times, axis=(2, 3), initial=np.nan))


def _times_inside(store: PlaneStore, plan: StorePlan, n_raw: int) -> NDArray[np.float64]:
    """Return when raw planes were written, as the store itself tells it since the end of its run.

    It is what a store has that was copied without its journal, or goes on with a new one.

    Returns
    -------
    array of float64, (n_p, n_t, n_raw, n_z)
        NaN = not told.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    times = np.full((plan.n_p, plan.n_t, n_raw, plan.n_z), np.nan)
    folder = store.path / "livestain" / "time_s"
    if not (folder / "zarr.json").is_file():
        return times
    try:
        told = np.asarray(open_array(folder, mode="r").read().result())[:, : plan.n_t, :n_raw]
        times[:, : told.shape[1], : told.shape[2]] = told
    except (ValueError, OSError, StoreError) as error:
        raise StoreError(
            f"{folder} is damaged or cannot be read: {error}. Restore it from a copy, or remove the "
            f"folder, and the times count as unknown."
        ) from error
    return times


_journal_times: WeakKeyDictionary[PlaneStore, tuple[tuple[int, ...], NDArray[np.float64]]]
_journal_times = WeakKeyDictionary()
"""By store: the times that its journal tells, and what they depend on; a longer journal is read anew."""


def _times_of_journal(store: PlaneStore, plan: StorePlan, n_raw: int) -> NDArray[np.float64]:
    """Return when raw planes were written, as the journal tells it: as `_times_inside`."""
    shape = (plan.n_p, plan.n_t, n_raw, plan.n_z)
    try:
        found = journal_path(store.path).stat()
    except FileNotFoundError:  # it was there a moment ago
        return np.full(shape, np.nan)
    # Before the reading: lines that come meanwhile are then read twice, and never missed.
    state = (found.st_size, found.st_mtime_ns, *shape)
    known = _journal_times.get(store)
    if known is not None and known[0] == state:
        return known[1]
    times = np.full(shape, np.nan)
    for line in journal_lines(store.path):
        if line.get("kind") != "plane" or not isinstance(line.get("index"), list):
            continue
        p, t, c, z = line["index"]
        if all(0 <= a < n for a, n in zip((p, t, c, z), shape, strict=True)):
            # Of a plane that was written anew the last, which is the one that is there.
            times[p, t, c, z] = datetime.fromisoformat(line["time"]).timestamp()
    _journal_times[store] = state, times
    return times

"""What a run will hold, settled before it starts: channels, planes, sizes, encodings."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from livestain.planes import PlaneIndex, Window
from livestain.settings import Settings
from livestain.store.pyramid import level_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ChannelPlan",
    "Codec",
    "CorrectionPlan",
    "LagPolicy",
    "PlannedBlock",
    "PositionPlan",
    "RecordingPlan",
    "StorePlan",
    "TruthPlan",
    "VirtualPlan",
    "WindowPlan",
    "blocks_of",
    "places_of",
]

Codec = Literal["blosc-lz4", "blosc-zstd", "none"]
LagPolicy = Literal["backfill", "live-only", "lockstep"]

_Places = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    # So that `range(10)` may be given, which pydantic does not take for a tuple.
    BeforeValidator(lambda value: tuple(value) if isinstance(value, range) else value),
    Field(min_length=1),
]


class WindowPlan(Settings):
    """The source planes a virtual plane needs, as `livestain.planes.Window` in writing."""

    z: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """Number of z-planes (odd), or "all"."""
    past: int = Field(default=0, ge=0)
    """Time points before."""
    future: int = Field(default=0, ge=0)
    """Time points after."""

    @model_validator(mode="after")
    def _has_a_centre(self) -> Self:
        self.window()
        return self

    def window(self) -> Window:
        """Return the window that computes the source planes."""
        return Window(z=self.z, past=self.past, future=self.future)


class CorrectionPlan(Settings):
    """How source planes are corrected before a prediction; what is stored stays as the camera gave it."""

    flat_field: str | None = None
    """Path of an image of an empty field."""
    dark_frame: str | None = None
    """Path of an image without light."""
    sha256: str
    """SHA-256 of both files, one after the other."""


class VirtualPlan(Settings):
    """How a virtual channel is made, and stored: value = offset + scale * stored; 0 = none."""

    source: str
    """Name of the raw channel it is predicted from."""
    more_sources: tuple[str, ...] = ()
    """Names of further ones, for models that look at several channels; in the model's order."""
    window: WindowPlan = WindowPlan()
    """The source planes that one prediction needs."""
    scale: float = Field(gt=0, allow_inf_nan=False)
    """Units of the output per stored count."""
    offset: float = Field(allow_inf_nan=False)
    """Value of the output, in its unit, that count 0 would stand for."""
    unit: str
    """Unit of the output."""
    bundle: str
    """Name of the bundle that predicts it."""
    bundle_sha256: str
    """SHA-256 of that bundle's rdf.yaml."""
    output: str
    """Name of the bundle's output."""
    lag: LagPolicy = "backfill"
    """What happens to planes that the stainer cannot keep up with."""
    correction: CorrectionPlan | None = None
    """Of the first source, before it is predicted from; None = none."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all raw channels that it is predicted from."""
        return (self.source, *self.more_sources)


class TruthPlan(Settings):
    """How what a simulation knows, and no camera measured, is stored: value = offset + scale * stored."""

    scale: float = Field(gt=0, allow_inf_nan=False)
    """Units of the value per stored count."""
    offset: float = Field(allow_inf_nan=False)
    """Value that count 0 would stand for, which is not used."""
    unit: str
    """Unit of the value."""


class PlannedBlock(Settings):
    """Planes that are planned: every z of `z` at every time point of `t` at every position of `p`."""

    p: _Places = (0,)
    """Positions, counted from 0."""
    t: _Places
    """Time points, counted from 0."""
    z: _Places
    """Planes of the stack, counted from 0."""


class PositionPlan(Settings):
    """One field of view: an OME-Zarr image of its own, where there are several."""

    name: str = ""
    """Its name in the sequence; "" = none."""
    path: str = Field(default="", pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$")
    """Folder of its image inside the store; "" = the store is the image."""
    x_um: float | None = Field(default=None, allow_inf_nan=False)
    """Where the sequence sends the stage, micrometres; None = it is not moved."""
    y_um: float | None = Field(default=None, allow_inf_nan=False)
    """The same in y."""
    z_um: float | None = Field(default=None, allow_inf_nan=False)
    """The same of the focus, at the first plane of the stack."""


class ChannelPlan(Settings):
    """One channel, raw or virtual, and which of its planes the sequence asks for."""

    name: str = Field(min_length=1)
    """Its name, as in the sequence."""
    kind: Literal["raw", "virtual"]
    """Acquired by the camera, or predicted."""
    color: str = Field(default="FFFFFF", pattern=r"^[0-9A-Fa-f]{6}$")
    """Colour for viewers, RRGGBB in hexadecimal."""
    planned: tuple[PlannedBlock, ...]
    """The planes that are planned: the union of the blocks."""
    display: tuple[float, float] | None = None
    """Window for viewers (start, end), in stored counts; None = the whole range."""
    virtual: VirtualPlan | None = None
    """How it is made and stored; for virtual channels, and only for them."""
    truth: TruthPlan | None = None
    """Of a raw channel that is a simulation's truth, free of noise, in the place of a camera's counts."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.kind == "virtual" and self.truth is not None:
            raise ValueError(f"channel '{self.name}' is predicted, and so no truth")
        if (self.kind == "virtual") != (self.virtual is not None):
            needs = "needs" if self.kind == "virtual" else "cannot have"
            raise ValueError(f"channel '{self.name}' of kind {self.kind} {needs} 'virtual'")
        if self.display is not None:
            start, end = self.display
            if not (math.isfinite(start) and math.isfinite(end) and start < end):
                raise ValueError(
                    f"channel '{self.name}': display goes from a smaller to a larger finite "
                    f"count; given {self.display}"
                )
        return self


class RecordingPlan(Settings):
    """A data set that another program wrote: it is read, and nothing is ever written into it."""

    path: str
    """Its file or folder, absolute, when it was first stained."""
    beside: str
    """The same, relative to the folder in which the store lies: found first, if both were moved together."""
    kind: str
    """What wrote it, or in which format it is."""
    first_planes: str
    """SHA-256 of a plane of its first and of its last position, by which it is known again."""


class StorePlan(Settings):
    """Everything that is settled before the first plane; only an open end grows while the run goes on."""

    positions: tuple[PositionPlan, ...] = Field(default=(PositionPlan(),), min_length=1)
    """The fields of view, in the sequence's order."""
    n_t: int = Field(ge=1)
    """Number of time points; where the end is open, for how many there is room now."""
    open_end: bool = False
    """Whether events are decided while the run goes on, so that nobody knows yet how many time points there
    will be, and which planes of them. Blocks then hold, at t 0, what a time point may have. The run's end
    settles it (`Store.settle`)."""
    n_z: int = Field(ge=1)
    """Number of planes in the deepest stack."""
    height: int = Field(ge=1)
    """Side of a plane in y, pixels."""
    width: int = Field(ge=1)
    """Side of a plane in x, pixels."""
    pixel_size_um: float = Field(gt=0, allow_inf_nan=False)
    """Pixel size in y and x, micrometres."""
    z_step_um: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Distance of neighbouring planes of a stack, micrometres; None = one plane, or unknown."""
    t_interval_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Seconds between time points; None = unknown or uneven, 0 = as fast as it goes."""
    channels: tuple[ChannelPlan, ...] = Field(min_length=1)
    """Raw channels in the sequence's order, then the virtual ones."""
    codec: Codec = "blosc-lz4"
    """How planes are compressed."""
    recording: RecordingPlan | None = None
    """The data set of another program in which the raw planes lie; the store then has the virtual ones alone.
    None = they are in the store."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [channel.name for channel in self.channels]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise ValueError(f"channel names occur once; given twice: {', '.join(doubles)}")
        kinds = [channel.kind for channel in self.channels]
        if kinds != sorted(kinds):
            raise ValueError(f"raw channels come before virtual ones; given {kinds}")
        raw = {channel.name for channel in self.channels if channel.kind == "raw"}
        for channel in self.channels:
            sources = channel.virtual.sources if channel.virtual is not None else ()
            if strange := [name for name in sources if name not in raw]:
                raise ValueError(
                    f"virtual channel '{channel.name}' is predicted from '{strange[0]}', which is none of "
                    f"the raw channels {sorted(raw)}"
                )
            for block in channel.planned:
                last = max(block.p), max(block.t), max(block.z)
                room = self.n_p, self.n_t, self.n_z
                if any(a >= b for a, b in zip(last, room, strict=True)):
                    raise ValueError(
                        f"channel '{channel.name}' plans position {last[0]}, time point {last[1]} and plane "
                        f"{last[2]}, but there are {room[0]} positions, {room[1]} time points and {room[2]} "
                        f"planes, counted from 0"
                    )
            if self.open_end and channel.virtual is not None and channel.virtual.window.future:
                raise ValueError(
                    f"virtual channel '{channel.name}' needs later time points, and nobody knows whether "
                    "there will be any"
                )
        paths = [position.path for position in self.positions]
        if len(set(paths)) < len(paths) or (len(paths) > 1 and "" in paths):
            raise ValueError(f"each position needs a folder of its own; given {paths}")
        return self

    @property
    def n_p(self) -> int:
        """Number of positions."""
        return len(self.positions)

    @property
    def is_plate(self) -> bool:
        """Whether the positions are fields of wells, "row/column/field", so that the store is a plate."""
        return all(position.path.count("/") == 2 for position in self.positions)

    @property
    def first_c(self) -> int:
        """The first channel whose planes lie in the store: 0, or, of a recording, after its raw channels."""
        if self.recording is None:
            return 0
        return sum(channel.kind == "raw" for channel in self.channels)

    @property
    def _times(self) -> int:
        """Number of time points as windows see it: a time that may still come is no edge."""
        return sys.maxsize if self.open_end else self.n_t

    def c_of(self, name: str) -> int:
        """Return the place of the channel with this name.

        Raises
        ------
        KeyError
            If there is none; the message names those there are.
        """
        for c, channel in enumerate(self.channels):
            if channel.name == name:
                return c
        raise KeyError(f"No channel '{name}'; there are {[ch.name for ch in self.channels]}.")

    def sources_of(self, target: PlaneIndex) -> tuple[PlaneIndex, ...]:
        """Return the raw planes that a virtual plane is predicted from, source by source.

        Raises
        ------
        ValueError
            If `target` is no plane of a virtual channel.
        """
        virtual = self.channels[target.c].virtual
        if virtual is None:
            raise ValueError(f"channel '{self.channels[target.c].name}' is not predicted")
        window = virtual.window.window()
        return tuple(
            index
            for name in virtual.sources
            for index in window.sources(target, self.c_of(name), n_t=self._times, n_z=self.n_z)
        )

    def targets_of(self, source: PlaneIndex) -> list[PlaneIndex]:
        """Return the virtual planes, planned or not, that a raw plane is needed for."""
        name = self.channels[source.c].name
        return [
            target
            for c, channel in enumerate(self.channels)
            if channel.virtual is not None and name in channel.virtual.sources
            for target in channel.virtual.window.window().targets(
                source, c, n_t=self._times, n_z=self.n_z
            )
        ]

    def as_planned(self, index: PlaneIndex) -> PlaneIndex:
        """Return the place that stands for a plane among the planned ones.

        It is its own; where the end is open, that of the first time point, which stands for all.
        """
        return index.at(t=0) if self.open_end else index

    def planned(self, c: int) -> NDArray[np.bool_]:
        """Return which planes of channel `c` are planned: bool, (n_p, n_t, n_z).

        Where the end is open: what the first time point may have.
        """
        grid = np.zeros((self.n_p, self.n_t, self.n_z), dtype=bool)
        for block in self.channels[c].planned:
            grid[np.ix_(block.p, block.t, block.z)] = True
        return grid

    def planned_indices(self, c: int) -> list[PlaneIndex]:
        """Return the planned planes of channel `c`: position-major, then time, then z."""
        return places_of(self.planned(c), c)

    def nbytes(self) -> int:
        """Return the bytes of all planned planes and their pyramid levels, uncompressed."""
        planes = sum(int(self.planned(c).sum()) for c in range(self.first_c, len(self.channels)))
        return planes * self.plane_nbytes()

    def plane_nbytes(self) -> int:
        """Return the bytes of one plane and its pyramid levels, uncompressed."""
        pixels = sum(height * width for height, width in level_shapes(self.height, self.width))
        return pixels * np.dtype(np.uint16).itemsize

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON types, as it is kept in the store."""
        return self.model_dump(mode="json")


def places_of(grid: NDArray[np.bool_], c: int) -> list[PlaneIndex]:
    """Return where a grid (n_p, n_t, n_z) is true, as planes of channel `c`, in that order."""
    return [PlaneIndex(p, t, c, z) for p, t, z in np.argwhere(grid).tolist()]


def blocks_of(grid: NDArray[np.bool_]) -> tuple[PlannedBlock, ...]:
    """Return the true planes of a grid (n_p, n_t, n_z) as few blocks."""
    times: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    for p, t in np.argwhere(grid.any(axis=2)).tolist():
        times[p, tuple(np.flatnonzero(grid[p, t]).tolist())].append(t)
    positions: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for (p, zs), ts in times.items():
        positions[tuple(ts), zs].append(p)
    return tuple(PlannedBlock(p=tuple(ps), t=ts, z=zs) for (ts, zs), ps in positions.items())

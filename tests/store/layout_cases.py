"""Stores of every layout, each written in milliseconds, and what was written into them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import useq

from livestain.live.fields import has_grid, with_tiles_as_positions
from livestain.live.plan import plan_run
from livestain.live.virtual import split_sequence
from livestain.planes import PlaneIndex
from livestain.store import StorePlan, compact_store, create_store, open_store, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield"}
FLUORESCENCE = {"group": "Channel", "config": "Mitochondria"}
MITOCHONDRIA = {"group": "Virtual", "config": "mitochondria"}
NUCLEI = {"group": "Virtual", "config": "nuclei"}
OF_NUCLEI = {"source": "Mitochondria", "source_kind": "fluorescence"}

PIXEL_UM = 0.1
STACK = {"range": 1.0, "step": 0.5}
TWICE = {"interval": 2.5, "loops": 2}
FIELDS = ({"x": 0, "y": 0, "z": 0, "name": "left"}, {"x": 50, "y": 10, "z": 0})
PLATE = useq.WellPlatePlan(
    plate="96-well",
    a1_center_xy=(0, 0),
    # Neither the first well nor a full rectangle: readers draw an empty place for what was left out.
    selected_wells=((0, 1, 1), (2, 1, 2)),
    well_points_plan=useq.GridRowsColumns(rows=1, columns=2, fov_width=40, fov_height=30),
)

Kind = Literal["image", "positions", "plate"]
"""Which of OME-Zarr's own layouts a store has."""


@dataclass(eq=False)
class Written:
    """A store, and what lies in it, as known from what was handed to it and not by reading it.

    Attributes
    ----------
    path : Path
    kind : {"image", "positions", "plate"}
    plan : StorePlan
        What the store was made for; a layout whose plan changes afterwards sets it anew.
    planes : dict
        The stored counts of each plane that was written. Planes that are not in it are missing.
    """

    path: Path
    kind: Kind
    plan: StorePlan
    planes: dict[PlaneIndex, np.ndarray] = field(default_factory=dict)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """(t, c, z, y, x) of each level."""
        plan = self.plan
        shapes = [(plan.height, plan.width)]
        while max(shapes[-1]) > 384:
            shapes.append(tuple((side + 1) // 2 for side in shapes[-1]))
        return [(plan.n_t, len(plan.channels), plan.n_z, *shape) for shape in shapes]

    @functools.cache  # noqa: B019 - a table's few stores live as long as its test
    def pixels(self, p: int) -> list[np.ndarray]:
        """Return what a position's levels hold, for readers that see 0 where a plane is missing."""
        levels = [np.zeros(shape, np.uint16) for shape in self.shapes]
        for index, plane in self.planes.items():
            if index.p == p:
                for level in levels:
                    level[index.t, index.c, index.z] = plane
                    plane = half(plane)
        return levels

    def mosaic(self) -> list[np.ndarray]:
        """Return a plate's levels as of readers that lay the first field of each well side by side.

        Rows and columns go from the first to the last that is named, empty ones too.
        """
        first = {
            path.rpartition("/")[0]: p
            for p, path in reversed([(p, pos.path) for p, pos in enumerate(self.plan.positions)])
        }
        wells = {tuple(well.split("/")): self.pixels(p) for well, p in first.items()}
        rows = [chr(row) for row in range(ord("A"), ord(max(row for row, _ in wells)) + 1)]
        columns = [str(1 + n) for n in range(max(int(column) for _, column in wells))]
        return [
            np.block(
                [
                    [
                        wells[row, column][level] if (row, column) in wells else np.zeros(shape)
                        for column in columns
                    ]
                    for row in rows
                ]
            )
            for level, shape in enumerate(self.shapes)
        ]

    def missing(self, p: int) -> list[PlaneIndex]:
        """Return the places of a position at which nothing was written, planned or not."""
        n_t, n_c, n_z, _, _ = self.shapes[0]
        every = [PlaneIndex(p, *at) for at in np.ndindex(n_t, n_c, n_z)]
        return [index for index in every if index not in self.planes]


@dataclass(frozen=True)
class Layout:
    """One kind of store.

    Attributes
    ----------
    sequence : mapping
        Of useq, from which the plan is made as for a run.
    kind : {"image", "positions", "plate"}
        Which of OME-Zarr's own layouts it becomes.
    frame : tuple of int
        Sides of a plane in y and x, pixels; odd, so that nothing is a multiple of anything.
    changes : mapping
        Fields of the plan that no sequence settles, for example `codec`.
    write : function
        Writes the planes; `write_all` or one of its kind.
    after : function, optional
        What happens to the closed store before others read it. It keeps `Written` true to it.
    """

    sequence: Mapping[str, Any]
    kind: Kind = "image"
    frame: tuple[int, int] = (97, 403)
    changes: Mapping[str, Any] = field(default_factory=dict)
    write: Callable[[Any, Written], None] | None = None
    after: Callable[[Written], None] | None = None


def make_plan(layout: Layout, core: Any, models: Mapping[str, str]) -> StorePlan:
    """Return the plan that a run of the layout's sequence would have."""
    sequence = useq.MDASequence(**{"axis_order": "tpgcz", **layout.sequence})
    if has_grid(sequence):
        sequence = with_tiles_as_positions(core, sequence, PIXEL_UM)
    split = split_sequence(sequence)
    plan = plan_run(
        core,
        split,
        models={v.name: models[v.name] for v in split.virtual},
        pixel_size_um=PIXEL_UM,
        open_end=layout.changes.get("open_end", False),
    ).store
    height, width = layout.frame
    return StorePlan(**{**dict(plan), "height": height, "width": width, **layout.changes})


def write_layout(layout: Layout, core: Any, models: Mapping[str, str], path: Path) -> Written:
    """Write a store of a layout as a run does, plane by plane, and close it."""
    written = Written(path, layout.kind, make_plan(layout, core, models))
    with create_store(path, written.plan) as store:
        (layout.write or write_all)(store, written)
    if layout.after is not None:
        layout.after(written)
    return written


def put(store: Any, written: Written, index: PlaneIndex) -> None:
    """Write a plane that tells its place, and its levels: raw counts, or a prediction in its unit."""
    rng = np.random.default_rng(np.asarray(index) + 1)
    virtual = store.plan.channels[index.c].virtual
    # A prediction is never stored as 0, which stands for "not predicted".
    counts = rng.integers(int(virtual is not None), 65536, (store.plan.height, store.plan.width))
    plane = counts.astype(np.uint16)
    if virtual is None:
        store.write(index, plane).result()
        store.write_levels(index, plane)
    else:
        store.write_virtual(index, counts * virtual.scale + virtual.offset)
    written.planes[index] = plane


def planned(plan: StorePlan) -> list[PlaneIndex]:
    """Return all planes that are planned, the last first: the order is nobody's business."""
    indices = [i for c in range(len(plan.channels)) for i in plan.planned_indices(c)]
    return indices[::-1]


def write_all(store: Any, written: Written) -> None:
    """Write every plane that is planned."""
    for index in planned(written.plan):
        put(store, written, index)


def write_some(store: Any, written: Written) -> None:
    """Leave out every third plane, as after a crash, and write zeros where a camera saw nothing."""
    for number, index in enumerate(planned(written.plan)):
        if number % 3:
            put(store, written, index)
    dark = next(i for i in written.planes if i.c == 0)
    written.planes[dark] = np.zeros_like(written.planes[dark])
    store.write(dark, written.planes[dark]).result()
    store.write_levels(dark, written.planes[dark])


def write_and_settle(store: Any, written: Written) -> None:
    """Decide events on the way, for longer than there was room at first, then give the run its end."""
    n_t = written.plan.n_t + 3
    store.grow(n_t)
    for index in planned(written.plan):
        for t in (*range(0, n_t, 3 + index.c), n_t - 1):
            put(store, written, index.at(t=t))
    settle(store)
    written.plan = store.plan
    assert written.plan.n_t == n_t


def compact(written: Written) -> None:
    """Merge planes into fewer files; what is missing still is."""
    done = compact_store(written.path, unfinished=True)
    assert done.files_after < done.files_before


def add_later(written: Written) -> None:
    """Add a virtual channel that the run did not have, and predict some of its planes."""
    with open_store(written.path, mode="r+") as store:
        first = store.plan.channels[store.plan.c_of("mitochondria")]
        store.add_channels([first.model_copy(update={"name": "later", "color": "00FFFF"})])
        for index in store.plan.planned_indices(store.plan.c_of("later"))[::2]:
            put(store, written, index)
        written.plan = store.plan


def compact_and_add_later(written: Written) -> None:
    """Add the channel to a store whose files hold several planes."""
    compact(written)
    add_later(written)


def half(plane: np.ndarray) -> np.ndarray:
    """Return the 2x2 mean over the pixels that there are, halves up: by another way than the product's."""
    y, x = plane.shape
    whole = np.full((y + y % 2, x + x % 2), np.nan)
    whole[:y, :x] = plane
    blocks = whole.reshape(whole.shape[0] // 2, 2, whole.shape[1] // 2, 2)
    return np.floor(np.nanmean(blocks, axis=(1, 3)) + 0.5).astype(np.uint16)


LAYOUTS: dict[str, Layout] = {
    "one plane": Layout({"channels": [BRIGHTFIELD]}),
    "one small plane": Layout({"channels": [BRIGHTFIELD]}, frame=(61, 45)),
    "stack": Layout({"z_plan": STACK, "channels": [BRIGHTFIELD, MITOCHONDRIA]}),
    "time, stack, two raw and two virtual channels": Layout(
        {
            "axis_order": "tzpgc",
            "time_plan": TWICE,
            "z_plan": STACK,
            # As a person may put them: in the store the raw ones come first.
            "channels": [NUCLEI, BRIGHTFIELD, MITOCHONDRIA, FLUORESCENCE],
            "metadata": {"livestain": {"channels": {"nuclei": OF_NUCLEI}}},
        },
        frame=(75, 905),
    ),
    "positions": Layout(
        {
            "axis_order": "ptgcz",
            "time_plan": TWICE,
            "stage_positions": FIELDS,
            "channels": [BRIGHTFIELD, MITOCHONDRIA],
        },
        kind="positions",
    ),
    "grid": Layout(
        {
            "stage_positions": FIELDS[:1],
            "grid_plan": {"rows": 2, "columns": 2, "overlap": 10},
            "channels": [BRIGHTFIELD, MITOCHONDRIA],
        },
        kind="positions",
    ),
    "plate": Layout(
        {"time_plan": TWICE, "stage_positions": PLATE, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        kind="plate",
    ),
    "an open end, settled": Layout(
        {"channels": [BRIGHTFIELD, MITOCHONDRIA]},
        changes={"open_end": True},
        write=write_and_settle,
    ),
    "positions, an open end, settled": Layout(
        {"stage_positions": FIELDS, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        kind="positions",
        frame=(61, 45),
        changes={"open_end": True},
        write=write_and_settle,
    ),
    "channels at some times and depths alone": Layout(
        {
            "time_plan": {"interval": 0, "loops": 4},
            "z_plan": STACK,
            "channels": [
                {**BRIGHTFIELD, "acquire_every": 2},
                {**FLUORESCENCE, "do_stack": False},
                {**MITOCHONDRIA, "acquire_every": 4},
            ],
        }
    ),
    "positions with stacks of their own": Layout(
        {
            "stage_positions": (
                {"x": 0, "y": 0, "z": 0},
                {"x": 5, "y": 0, "z": 0, "sequence": {"z_plan": STACK}},
            ),
            "channels": [BRIGHTFIELD, MITOCHONDRIA],
        },
        kind="positions",
    ),
    "planes missing": Layout(
        {"time_plan": TWICE, "z_plan": STACK, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        write=write_some,
    ),
    "planes of a plate missing": Layout(
        {"stage_positions": PLATE, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        kind="plate",
        write=write_some,
    ),
    "uncompressed": Layout(
        {"z_plan": STACK, "channels": [BRIGHTFIELD, MITOCHONDRIA]}, changes={"codec": "none"}
    ),
    "blosc-zstd": Layout(
        {"stage_positions": FIELDS, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        kind="positions",
        changes={"codec": "blosc-zstd"},
    ),
    "tiles in a large plane": Layout({"channels": [BRIGHTFIELD, MITOCHONDRIA]}, frame=(903, 4655)),
    "compacted": Layout(
        {"time_plan": TWICE, "z_plan": STACK, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        after=compact,
    ),
    "compacted, planes missing": Layout(
        {"time_plan": TWICE, "stage_positions": PLATE, "channels": [BRIGHTFIELD, MITOCHONDRIA]},
        kind="plate",
        write=write_some,
        after=compact,
    ),
    "a channel added later": Layout(
        {"z_plan": STACK, "channels": [BRIGHTFIELD, MITOCHONDRIA]}, after=add_later
    ),
    "compacted positions, a channel added later": Layout(
        {
            "time_plan": TWICE,
            "stage_positions": FIELDS,
            "channels": [BRIGHTFIELD, MITOCHONDRIA],
        },
        kind="positions",
        after=compact_and_add_later,
    ),
}
"""By name, every layout that a store can have."""

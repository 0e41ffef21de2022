"""Fields of view: the tiles of a grid become stage positions, and a plate's positions know their wells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import useq

from livestain.errors import SequenceError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["has_grid", "wells_of", "with_tiles_as_positions"]


def has_grid(sequence: useq.MDASequence) -> bool:
    """Return whether a sequence, or one of its positions, goes over the tiles of a grid."""
    return sequence.grid_plan is not None or any(
        p.sequence is not None and p.sequence.grid_plan is not None
        for p in sequence.stage_positions
    )


def with_tiles_as_positions(
    core: CMMCorePlus, sequence: useq.MDASequence, pixel_size_um: float
) -> useq.MDASequence:
    """Return a sequence whose grids are stage positions of their own, visited in the same order.

    A store has one axis for fields of view. The tiles' places on the stage are useq's, for the camera's field
    where the grid does not say another.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope; nothing on it is moved.
    sequence : useq.MDASequence
        With or without grids.
    pixel_size_um : float
        Pixel size in the sample, in micrometres.

    Raises
    ------
    SequenceError
        If something lies between positions and tiles in the axis order, or a plate has a grid beside that of
        its wells.
    """
    if not has_grid(sequence):
        return sequence
    if isinstance(sequence.stage_positions, useq.WellPlatePlan):
        raise SequenceError(
            "The sequence has a plate and a grid_plan. Give the fields within a well as the plate's "
            "well_points_plan."
        )
    order = [str(axis) for axis in sequence.axis_order]
    between = order[order.index("p") + 1 : order.index("g")] if {"p", "g"} <= set(order) else []
    if order.index("g") < order.index("p") or any(
        sequence.sizes.get(axis, 0) > 1 for axis in between
    ):
        raise SequenceError(
            f"The axis order {''.join(order)} goes over something else between positions and the tiles of "
            "their grid; a store has one axis for fields of view. Put g right after p, as in tpgcz."
        )
    field_um = (core.getImageWidth() * pixel_size_um, core.getImageHeight() * pixel_size_um)
    # Places alone: no times, channels or depths, so that each field is one event.
    places = useq.MDASequence(
        axis_order="tpgcz",
        stage_positions=[
            p.model_copy(update={"sequence": _grid_alone(p.sequence, field_um)})
            for p in sequence.stage_positions
        ],
        grid_plan=_of_field(sequence.grid_plan, field_um),
        channels=["any"],
    )
    fields = []
    for event in places:
        p, g = event.index.get("p", 0), event.index.get("g")
        given = sequence.stage_positions[p] if sequence.stage_positions else useq.Position()
        inner = given.sequence
        if inner is not None and inner.grid_plan is not None:
            inner = inner.replace(grid_plan=None)
            if not inner.used_axes and inner.autofocus_plan is None:
                inner = None  # an empty one is not none to useq
        name = given.name or (f"Pos{p:03d}" if len(sequence.stage_positions) > 1 else "")
        tile = f"Tile{g:03d}" if g is not None else ""
        fields.append(
            useq.Position(
                x=event.x_pos,
                y=event.y_pos,
                z=event.z_pos,
                name="-".join(filter(None, (name, tile))) or None,
                sequence=inner,
            )
        )
    return sequence.replace(stage_positions=fields, grid_plan=None)


def wells_of(sequence: useq.MDASequence) -> list[str]:
    """Return where in a plate each stage position lies, as "row/column/field"; empty for no plate.

    Raises
    ------
    SequenceError
        If a well has no name of letters and digits, such as B3.
    """
    plan = sequence.stage_positions
    if not isinstance(plan, useq.WellPlatePlan):
        return []
    wells = [str(name) for name in plan.selected_well_names]
    fields = len(plan) // max(len(wells), 1)
    paths = []
    for n, _ in enumerate(plan):
        well = re.fullmatch(r"([A-Za-z]+)0*(\d+)", wells[n // fields])
        if well is None:
            raise SequenceError(
                f"The plate has a well named {wells[n // fields]!r}; expected letters and a number, as in B3."
            )
        paths.append(f"{well[1]}/{well[2]}/{n % fields}")
    return paths


def _grid_alone(
    inner: useq.MDASequence | None, field_um: tuple[float, float]
) -> useq.MDASequence | None:
    if inner is None or inner.grid_plan is None:
        return None
    return useq.MDASequence(grid_plan=_of_field(inner.grid_plan, field_um))


def _of_field(grid: Any, field_um: tuple[float, float]) -> Any:
    """Return a grid that knows the size of a field; useq takes micrometres of the stage for it."""
    if grid is None:
        return None
    width, height = field_um
    return grid.replace(fov_width=grid.fov_width or width, fov_height=grid.fov_height or height)

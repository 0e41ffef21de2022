"""From a model and what is acquired to a virtual channel: which planes, from which, stored how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livestain.bundle import check_fit
from livestain.errors import SequenceError
from livestain.flat_field import FlatField
from livestain.planes import PlaneIndex
from livestain.stain.sources import all_sources, first_source, output_of
from livestain.store import (
    ChannelPlan,
    CorrectionPlan,
    PlannedBlock,
    VirtualPlan,
    WindowPlan,
    blocks_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from livestain.bundle import Bundle
    from livestain.stain.asked import Place, VirtualChannel
    from livestain.store import StorePlan

__all__ = ["PlannedVirtual", "RawPlanes", "blocks_from", "plan_virtual"]

_MAGENTA = "FF00FF"


@dataclass(frozen=True)
class RawPlanes:
    """What is acquired, or was: what predictions can be made from.

    Attributes
    ----------
    names : tuple of str
        The raw channels, by their places.
    planned : mapping of int to set of (p, t, z)
        By channel, the planes that there will be, or are.
    shape : tuple of int
        Numbers of positions, time points and depths.
    frame : tuple of int
        Height and width, pixels.
    pixel_size_um : float
    z_step_um : float or None
        None: one plane, or uneven.
    most : int
        Largest count that there may be.
    """

    names: tuple[str, ...]
    planned: dict[int, set[Place]]
    shape: tuple[int, int, int]
    frame: tuple[int, int]
    pixel_size_um: float
    z_step_um: float | None
    most: int = 65535

    @classmethod
    def of(cls, plan: StorePlan) -> RawPlanes:
        """Return what a store's plan says of its raw planes."""
        raw = [c for c, channel in enumerate(plan.channels) if channel.kind == "raw"]
        displays = [plan.channels[c].display for c in raw] or [None]
        return cls(
            names=tuple(plan.channels[c].name for c in raw),
            planned={c: {(i.p, i.t, i.z) for i in plan.planned_indices(c)} for c in raw},
            shape=(plan.n_p, plan.n_t, plan.n_z),
            frame=(plan.height, plan.width),
            pixel_size_um=plan.pixel_size_um,
            z_step_um=plan.z_step_um,
            # A run writes the range of the camera's bits as what is shown.
            most=int(max(shown[1] if shown else 65535 for shown in displays)),
        )


@dataclass(frozen=True)
class PlannedVirtual:
    """A virtual channel, planned.

    Attributes
    ----------
    channel : ChannelPlan
    output : str
        Of the bundle.
    sources : tuple of int
        Places of the raw channels that it is predicted from, in the model's order.
    needed : dict
        For each planned plane, the raw ones that it needs.
    """

    channel: ChannelPlan
    output: str
    sources: tuple[int, ...]
    needed: dict[PlaneIndex, list[PlaneIndex]] = field(repr=False)


def plan_virtual(virtual: VirtualChannel, bundle: Bundle, raw: RawPlanes, c: int) -> PlannedVirtual:
    """Plan a virtual channel.

    A plane of it is planned if it was asked for and all its sources are planned: a sparse source gives a
    sparse prediction (docs/decisions/0002).

    Parameters
    ----------
    virtual : VirtualChannel
        What is asked for.
    bundle : Bundle
        The model.
    raw : RawPlanes
        What it is predicted from.
    c : int
        The channel's place in the store.

    Raises
    ------
    LivestainError
        If model, sources and planes do not fit together.
    """
    first_c, kind = first_source(virtual, raw.names)
    output = output_of(virtual, bundle)
    check_fit(
        bundle.description,
        kind=kind,
        pixel_size_um=raw.pixel_size_um,
        # Of the source alone: another channel's stack is of no use to the model.
        n_z=len({z for _, _, z in raw.planned[first_c]}),
        z_step_um=raw.z_step_um,
        most=raw.most,
    )
    sources = all_sources(virtual, bundle, raw.names)
    window_plan = WindowPlan.model_validate(
        bundle.description.input.window.model_dump(exclude={"depth"})
    )
    window = window_plan.window()
    if window.needs_stack and raw.z_step_um is None:
        cure = " Give a z_plan with one step." if virtual.of == "sequence" else ""
        raise SequenceError(
            f"{bundle.name} looks at several depths, {bundle.description.input.z_step_um:g} um apart, "
            f"and the {virtual.of}'s planes are not evenly spaced.{cure}"
        )
    _, n_t, n_z = raw.shape
    needed: dict[PlaneIndex, list[PlaneIndex]] = {}
    for p, t, z in sorted(virtual.requested):
        target = PlaneIndex(p, t, c, z)
        wanted = [i for s in sources for i in window.sources(target, s, n_t=n_t, n_z=n_z)]
        if t < n_t and z < n_z and all((i.p, i.t, i.z) in raw.planned[i.c] for i in wanted):
            needed[target] = wanted
    if not needed:
        raise SequenceError(
            f"No plane of the virtual channel {virtual.name!r} can be predicted: its source "
            f"{' and '.join(repr(raw.names[s]) for s in sources)} is acquired at none of the time "
            "points and depths asked for."
        )
    spec = next(o for o in bundle.description.outputs if o.name == output)
    start, end = ((value - spec.offset) / spec.scale for value in spec.display)
    channel = ChannelPlan(
        name=virtual.name,
        kind="virtual",
        color=spec.color or _MAGENTA,
        planned=blocks_from(((i.p, i.t, i.z) for i in needed), raw.shape),
        display=(start, end),
        virtual=VirtualPlan(
            source=raw.names[sources[0]],
            more_sources=tuple(raw.names[s] for s in sources[1:]),
            window=window_plan,
            scale=spec.scale,
            offset=spec.offset,
            unit=spec.unit,
            bundle=bundle.name,
            bundle_sha256=bundle.sha256,
            output=output,
            lag=virtual.settings.lag,
            correction=_correction(virtual, raw.frame),
        ),
    )
    return PlannedVirtual(channel, output, sources, needed)


def blocks_from(planes: Iterable[Place], shape: tuple[int, int, int]) -> tuple[PlannedBlock, ...]:
    """Return planes (p, t, z) as few blocks; `shape` = (n_p, n_t, n_z)."""
    grid = np.zeros(shape, dtype=bool)
    places: Collection[Place] = sorted(set(planes))
    if places:  # an empty index would mean all
        grid[tuple(np.array(places).T)] = True
    return blocks_of(grid)


def _correction(virtual: VirtualChannel, shape: tuple[int, int]) -> CorrectionPlan | None:
    """Read flat field and dark frame once, so that what does not fit is told before anything moves."""
    names = (virtual.settings.flat_field, virtual.settings.dark_frame)
    if names == (None, None):
        return None
    flat, dark = (Path(name).absolute() if name else None for name in names)
    correction = FlatField(flat, dark)
    correction.check(shape, "The camera's frame")
    return CorrectionPlan(
        flat_field=str(flat) if flat else None,
        dark_frame=str(dark) if dark else None,
        sha256=correction.sha256,
    )

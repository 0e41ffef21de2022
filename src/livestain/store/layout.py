"""A plan as OME-Zarr 0.5: axes, pixel sizes, channels, in the words of that format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from yaozarrs import v05

from livestain._version import __version__
from livestain.store.group import FORMAT
from livestain.store.pyramid import level_shapes

if TYPE_CHECKING:
    from pathlib import Path

    from livestain.store.plan import ChannelPlan, StorePlan

__all__ = [
    "AXES",
    "encoding_attributes",
    "ome_image",
    "omero_channel",
    "own_attributes",
    "position_name",
    "run_name",
]

AXES = ("t", "c", "z", "y", "x")

_MAX_COUNT = 65535


def ome_image(plan: StorePlan, name: str) -> v05.Image:
    """Return the attributes `ome` of a store."""
    # A scale of 0 is not allowed, so what is unknown is 1; `own_attributes` says which.
    seconds = plan.t_interval_s or 1.0
    z_um = plan.z_step_um or 1.0
    datasets = []
    for level in range(len(level_shapes(plan.height, plan.width))):
        factor = 2**level
        pixel = plan.pixel_size_um * factor
        # The centre of a 2x2 mean lies half a pixel from the centre of its first pixel.
        shift = plan.pixel_size_um * (factor - 1) / 2
        transformations: list[v05.ScaleTransformation | v05.TranslationTransformation] = [
            v05.ScaleTransformation(scale=[seconds, 1.0, z_um, pixel, pixel])
        ]
        if level:
            transformations.append(
                v05.TranslationTransformation(translation=[0.0, 0.0, 0.0, shift, shift])
            )
        datasets.append(v05.Dataset(path=str(level), coordinateTransformations=transformations))
    multiscale = v05.Multiscale(
        name=name,
        type="mean",
        metadata={"description": "each level is the 2x2 mean in y and x of the one before"},
        axes=[
            v05.TimeAxis(name="t", type="time", unit="second"),
            v05.ChannelAxis(name="c", type="channel"),
            v05.SpaceAxis(name="z", type="space", unit="micrometer"),
            v05.SpaceAxis(name="y", type="space", unit="micrometer"),
            v05.SpaceAxis(name="x", type="space", unit="micrometer"),
        ],
        datasets=datasets,
    )
    omero = {"channels": [omero_channel(channel) for channel in plan.channels[plan.first_c :]]}
    return v05.Image.model_validate({"multiscales": [multiscale], "omero": omero})


def run_name(path: Path) -> str:
    """Return what a run is called by its store's path: RUN of RUN.ome.zarr."""
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def position_name(plan: StorePlan, p: int) -> str:
    """Return how a position is called: as in the sequence, else by its number."""
    return plan.positions[p].name or f"Pos{p:03d}"


def omero_channel(channel: ChannelPlan) -> dict[str, Any]:
    """Return how viewers show a channel; a prediction's label says that it is one."""
    start, end = channel.display or (0, _MAX_COUNT)
    return {
        "label": f"{channel.name} (predicted)" if channel.kind == "virtual" else channel.name,
        "color": channel.color.upper(),
        "active": True,
        "window": {"min": 0, "max": _MAX_COUNT, "start": start, "end": end},
    }


def own_attributes(plan: StorePlan) -> dict[str, Any]:
    """Return the attributes `livestain` that every store has."""
    assumed = {}
    if not plan.t_interval_s:
        assumed["t"] = (
            "the scale of t is 1.0 second because the interval is "
            f"{'unknown' if plan.t_interval_s is None else '0'}; the journal has the real times"
        )
    if plan.z_step_um is None:
        assumed["z"] = "the scale of z is 1.0 micrometer because the z-step is unknown"
    return {
        "format": FORMAT,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": plan.as_json(),
        "encoding": encoding_attributes(plan),
        "assumed": assumed,
    }


def encoding_attributes(plan: StorePlan) -> dict[str, Any]:
    """Return what the stored counts of each virtual channel mean, and its place on the axis c of array 0."""
    return {
        channel.name: {
            "c": c - plan.first_c,
            "formula": "value = offset + scale * stored; stored 0 = not predicted",
            "scale": channel.virtual.scale,
            "offset": channel.virtual.offset,
            "unit": channel.virtual.unit,
        }
        for c, channel in enumerate(plan.channels)
        if channel.virtual is not None
    }

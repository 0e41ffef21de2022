"""A plan as OME-Zarr 0.5: axes, pixel sizes, channels, in the words of that format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from yaozarrs import v05

from livestain._version import __version__
from livestain.store.group import FORMAT
from livestain.store.pyramid import level_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from livestain.store.plan import ChannelPlan, StorePlan

__all__ = [
    "AXES",
    "encoding_attributes",
    "label_image",
    "ome_image",
    "omero_channel",
    "own_attributes",
    "position_name",
    "run_name",
]

AXES = ("t", "c", "z", "y", "x")

_AXES = {
    "t": v05.TimeAxis(name="t", type="time", unit="second"),
    "c": v05.ChannelAxis(name="c", type="channel"),
    "z": v05.SpaceAxis(name="z", type="space", unit="micrometer"),
    "y": v05.SpaceAxis(name="y", type="space", unit="micrometer"),
    "x": v05.SpaceAxis(name="x", type="space", unit="micrometer"),
}

_MAX_COUNT = 65535


def ome_image(plan: StorePlan, name: str) -> v05.Image:
    """Return the attributes `ome` of a store."""
    multiscale = v05.Multiscale(
        name=name,
        type="mean",
        metadata={"description": "each level is the 2x2 mean in y and x of the one before"},
        axes=list(_AXES.values()),
        datasets=_datasets(plan, AXES),
    )
    omero = {"channels": [omero_channel(channel) for channel in plan.channels[plan.first_c :]]}
    return v05.Image.model_validate({"multiscales": [multiscale], "omero": omero})


def _datasets(plan: StorePlan, axes: Sequence[str]) -> list[v05.Dataset]:
    """Return the levels of an image with such axes, with their pixel sizes."""
    # A scale of 0 is not allowed, so what is unknown is 1; `own_attributes` says which.
    seconds = plan.t_interval_s or 1.0
    z_um = plan.z_step_um or 1.0
    datasets = []
    for level in range(len(level_shapes(plan.height, plan.width))):
        factor = 2**level
        pixel = plan.pixel_size_um * factor
        scale = {"t": seconds, "c": 1.0, "z": z_um, "y": pixel, "x": pixel}
        # The centre of a 2x2 mean lies half a pixel from the centre of its first pixel.
        shift = plan.pixel_size_um * (factor - 1) / 2
        transformations: list[v05.ScaleTransformation | v05.TranslationTransformation] = [
            v05.ScaleTransformation(scale=[scale[axis] for axis in axes])
        ]
        if level:
            away = [shift if axis in "yx" else 0.0 for axis in axes]
            transformations.append(v05.TranslationTransformation(translation=away))
        datasets.append(v05.Dataset(path=str(level), coordinateTransformations=transformations))
    return datasets


def label_image(plan: StorePlan, name: str) -> v05.LabelImage:
    """Return the attributes `ome` of a label image (t, z, y, x), two folders below the image's."""
    multiscale = v05.Multiscale(
        name=name,
        type="max",
        metadata={"description": "each level is the largest of 2x2 in y and x of the one before"},
        axes=[axis for key, axis in _AXES.items() if key != "c"],
        datasets=_datasets(plan, [axis for axis in AXES if axis != "c"]),
    )
    return v05.LabelImage.model_validate(
        {"multiscales": [multiscale], "image-label": {"source": {"image": "../../"}}}
    )


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
    """Return what the stored counts of channels of values mean, and their places on the axis c of array 0."""
    return {
        channel.name: {
            "c": c - plan.first_c,
            "formula": "value = offset + scale * stored; stored 0 = "
            + ("not predicted" if channel.virtual is not None else "not known"),
            "scale": coded.scale,
            "offset": coded.offset,
            "unit": coded.unit,
        }
        for c, channel in enumerate(plan.channels)
        if (coded := channel.virtual or channel.truth) is not None
    }

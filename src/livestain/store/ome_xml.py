"""A plan in OME-XML: beside the images of a run of several positions, and inside exported TIFF files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain._version import __version__
from livestain.errors import StoreError
from livestain.files import replacing
from livestain.store.layout import omero_channel, position_name, run_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from livestain.planes import PlaneIndex
    from livestain.store.plan import StorePlan

__all__ = ["SIMULATED", "ome_xml", "tiff_xml", "write_series"]

SIMULATED = "livestain/simulated"
"""Namespace of the annotation of images whose cells are simulated."""


def ome_xml(plan: StorePlan, name: str) -> str:
    """Return OME-XML that names the images of a run, for readers of bioformats2raw's layout.

    napari-ome-zarr finds a series by it; the pixels' own description is each image's OME-Zarr metadata.
    """
    # It takes a second to import, and runs of one position never need it.
    from ome_types import OME

    images = [_image(plan, name, p, metadata_only=True) for p in range(plan.n_p)]
    return OME(images=images, creator=_creator()).to_xml()


def write_series(path: Path, plan: StorePlan) -> None:
    """Write the OME-XML of a run of several positions anew, for a plan that has changed.

    Parameters
    ----------
    path : Path
        The store; of one position, or a plate, it has none, and nothing is done.
    plan : StorePlan

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    series = path / "OME" / "METADATA.ome.xml"
    if not series.is_file():
        return
    try:
        with replacing(series) as part:
            part.write_text(ome_xml(plan, run_name(path)), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"Cannot write {series}: {error.strerror or error}. Expected a folder that can be written to, on "
            "a disk with space."
        ) from error


def tiff_xml(
    plan: StorePlan,
    name: str,
    p: int,
    planes: Sequence[PlaneIndex],
    *,
    simulated: bool = False,
) -> str:
    """Return the OME-XML of a TIFF file that holds one position.

    Parameters
    ----------
    plan : StorePlan
    name : str
        Of the run.
    p : int
        The position.
    planes : sequence of PlaneIndex
        What the file's pages hold, in their order; planes that are not there have no page.
    simulated : bool
        Whether the cells are simulated; an annotation of the image then says so.
    """
    from ome_types import OME
    from ome_types.model import AnnotationRef, MapAnnotation, StructuredAnnotations, TiffData

    pages = [
        TiffData(ifd=n, first_t=i.t, first_c=i.c - plan.first_c, first_z=i.z, plane_count=1)
        for n, i in enumerate(planes)
    ]
    notes = [
        MapAnnotation(
            id=f"Annotation:{c}",
            namespace="livestain/predicted",
            value={
                "channel": channel.name,
                "predicted": f"from {' and '.join(channel.virtual.sources)}; not measured",
                "bundle": channel.virtual.bundle,
                "bundle SHA-256": channel.virtual.bundle_sha256,
                "formula": "value = offset + scale * stored; stored 0 = not predicted",
                "scale": repr(channel.virtual.scale),
                "offset": repr(channel.virtual.offset),
                "unit": channel.virtual.unit,
            },
        )
        for c, channel in enumerate(plan.channels)
        if channel.virtual is not None
    ]
    notes += [
        MapAnnotation(
            id=f"Annotation:{c}",
            namespace="livestain/simulated-truth",
            value={
                "channel": channel.name,
                "truth": "of a simulation, free of noise; not measured",
                "formula": "value = offset + scale * stored; stored 0 = not known",
                "scale": repr(channel.truth.scale),
                "offset": repr(channel.truth.offset),
                "unit": channel.truth.unit,
            },
        )
        for c, channel in enumerate(plan.channels)
        if channel.truth is not None
    ]
    image = _image(plan, name, p, tiff_data_blocks=pages)
    if simulated:
        notes.append(
            MapAnnotation(
                id="Annotation:simulated",
                namespace=SIMULATED,
                value={"simulated": "true", "cells": "of a simulation; no microscope saw them"},
            )
        )
        image.annotation_refs.append(AnnotationRef(id="Annotation:simulated"))
    ome = OME(
        images=[image],
        creator=_creator(),
        structured_annotations=StructuredAnnotations(map_annotations=notes),
    )
    return ome.to_xml()


def _creator() -> str:
    return f"livestain {__version__}"


def _image(plan: StorePlan, name: str, p: int, **pixels: Any) -> Any:
    from ome_types.model import Channel, Image, Pixels, Pixels_DimensionOrder, PixelType, Plane
    from ome_types.model.simple_types import Color

    position = plan.positions[p]
    channels = [
        Channel(
            id=f"Channel:{p}:{c}",
            name=omero_channel(channel)["label"],
            color=Color(f"#{channel.color}"),
            samples_per_pixel=1,
        )
        for c, channel in enumerate(plan.channels[plan.first_c :])
    ]
    return Image(
        id=f"Image:{p}",
        name=f"{name} {position_name(plan, p)}" if plan.n_p > 1 else name,
        pixels=Pixels(
            id=f"Pixels:{p}",
            dimension_order=Pixels_DimensionOrder.XYZCT,
            type=PixelType.UINT16,
            size_x=plan.width,
            size_y=plan.height,
            size_z=plan.n_z,
            size_c=len(channels),
            size_t=plan.n_t,
            physical_size_x=plan.pixel_size_um,
            physical_size_y=plan.pixel_size_um,
            physical_size_z=plan.z_step_um,
            time_increment=plan.t_interval_s or None,
            channels=channels,
            planes=[
                # Where the stage was sent for the position; each plane's own is in the journal.
                Plane(
                    the_t=0,
                    the_c=0,
                    the_z=0,
                    position_x=position.x_um,
                    position_y=position.y_um,
                    position_z=position.z_um,
                    position_x_unit="µm",
                    position_y_unit="µm",
                    position_z_unit="µm",
                )
            ],
            **pixels,
        ),
    )

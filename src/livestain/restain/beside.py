"""A store beside the recording of another program: the predictions alone; the data are only read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livestain.errors import DataError
from livestain.recordings import open_recording
from livestain.stain.asked import kind_of_channel
from livestain.stain.planes import first_planes
from livestain.stain.planning import RawPlanes, blocks_from
from livestain.store import ChannelPlan, PositionPlan, RecordingPlan, StorePlan

if TYPE_CHECKING:
    from livestain.recordings import Recording

__all__ = ["beside", "open_foreign", "plan_beside", "raw_channels", "raw_planes"]

_ENDINGS = re.compile(r"(\.ome)?\.(zarr|tiff?)$", re.IGNORECASE)


def beside(recording: Path) -> Path:
    """Return where the predictions of a recording lie by default: NAME.stained.ome.zarr beside it."""
    return recording.with_name(f"{_ENDINGS.sub('', recording.name)}.stained.ome.zarr")


def open_foreign(path: Path) -> Recording:
    """Open the recording of another program for staining.

    Raises
    ------
    DataError
        If there is none, or its planes are not counts of one size.
    """
    recording = open_recording(path)
    formats = {place.name: recording.frame_format(p) for p, place in enumerate(recording.places)}
    (first, (shape, _)), *others = formats.items()
    for name, (other, _) in others:
        if other != shape:
            raise DataError(
                f"The positions {first} and {name} of {path} have planes of {shape} and {other} pixels. Save "
                "each in a file of its own."
            )
    for name, (_, kind) in formats.items():
        if kind.newbyteorder("=") not in (np.uint8, np.uint16):
            raise DataError(
                f"The planes of {name or path} are {kind}; models take the camera's own counts, of 8 or 16 "
                "bits (uint8, uint16). Save those."
            )
    if not recording.channels or not any(
        recording.present(p, c).any()
        for p in range(len(recording.places))
        for c in range(len(recording.channels))
    ):
        raise DataError(f"{path} has no plane, so nothing can be predicted from it.")
    return recording


def raw_planes(
    recording: Recording, pixel_size_um: float | None, z_step_um: float | None
) -> RawPlanes:
    """Return what predictions can be made from.

    Parameters
    ----------
    recording : Recording
    pixel_size_um, z_step_um : float or None
        Instead of what the recording says.

    Raises
    ------
    DataError
        If nobody knows the pixel size.
    """
    pixel = pixel_size_um or recording.pixel_size_um
    if not pixel:
        raise DataError(
            f"{recording.path} ({recording.kind}) does not say its pixel size, and a model is for one. Give "
            "it with --pixel-size UM, the side of a pixel in the sample in micrometres."
        )
    places = recording.places
    planned = {
        c: {
            (p, t, z)
            for p in range(len(places))
            for t, z in np.argwhere(recording.present(p, c)).tolist()
        }
        for c in range(len(recording.channels))
    }
    shape = (len(places), max(place.n_t for place in places), max(place.n_z for place in places))
    frame, dtype = recording.frame_format(0)
    return RawPlanes(
        names=recording.channels,
        planned=planned,
        shape=shape,
        frame=frame,
        pixel_size_um=pixel,
        z_step_um=z_step_um or recording.z_step_um,
        most=255 if dtype == np.uint8 else 65535,
    )


def raw_channels(raw: RawPlanes) -> list[ChannelPlan]:
    """Return the recording's channels as a plan has them."""
    bright = ("brightfield", "phase", "dic")
    return [
        ChannelPlan(
            name=name,
            kind="raw",
            color="FFFFFF" if kind_of_channel(name) in bright else "00FF00",
            planned=blocks_from(raw.planned[c], raw.shape),
            display=(0.0, float(raw.most)) if raw.most < 65535 else None,
        )
        for c, name in enumerate(raw.names)
    ]


def plan_beside(
    recording: Recording, raw: RawPlanes, virtual: list[ChannelPlan], store: Path
) -> StorePlan:
    """Plan the store of a recording's predictions."""
    source = recording.path.absolute()
    try:
        near = os.path.relpath(source, store.absolute().parent)
    except ValueError:  # on another drive, on Windows
        near = str(source)
    several = len(recording.places) > 1
    _, n_t, n_z = raw.shape
    return StorePlan(
        positions=tuple(
            PositionPlan(
                name=place.label or place.name,
                path=str(p) if several else "",
                x_um=place.x_um,
                y_um=place.y_um,
                z_um=place.z_um,
            )
            for p, place in enumerate(recording.places)
        ),
        n_t=n_t,
        n_z=n_z,
        height=raw.frame[0],
        width=raw.frame[1],
        pixel_size_um=raw.pixel_size_um,
        z_step_um=raw.z_step_um,
        t_interval_s=recording.interval_s,
        channels=(*raw_channels(raw), *virtual),
        recording=RecordingPlan(
            path=str(source),
            beside=Path(near).as_posix(),
            kind=recording.kind,
            first_planes=first_planes(recording),
        ),
    )

"""The newest prediction as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.pictures import Panel, draw_panels, overlay, save_picture, stretched
from livestain.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from livestain.planes import PlaneIndex

__all__ = ["draw_latest"]


def draw_latest(store_path: Path, index: PlaneIndex, picture_path: Path) -> None:
    """Draw a predicted plane beside its source, and both over each other, into a PNG.

    Parameters
    ----------
    store_path : Path
        The store of the run; it may still be written to.
    index : PlaneIndex
        A virtual plane that is there.
    picture_path : Path
        Replaced in one step, so that a viewer never sees half a picture.

    Raises
    ------
    MissingPlaneError
        If the plane or its source is not there.
    """
    with open_store(store_path) as store:
        plan = store.plan
        channel = plan.channels[index.c]
        if channel.virtual is None:
            raise ValueError(f"Channel {channel.name!r} is not predicted; give a virtual plane.")
        grey = stretched(store.read(index.at(c=plan.c_of(channel.virtual.source))))
        predicted = stretched(store.read_decoded(index), 50.0, 99.8)
    panels = [
        Panel(channel.virtual.source, grey),
        Panel(f"{channel.name} (predicted)", predicted),
        Panel("overlay", overlay(grey, predicted, channel.color)),
    ]
    field = f"{plan.positions[index.p].name or f'position {index.p}'}, " if plan.n_p > 1 else ""
    caption = (
        f"{field}t {index.t}, z {index.z}: predicted by {channel.virtual.bundle}, not measured"
    )
    picture = draw_panels([panels], pixel_size_um=plan.pixel_size_um, caption=caption)
    save_picture(picture, picture_path)

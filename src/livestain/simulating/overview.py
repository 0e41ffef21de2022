"""The picture that shows people what was simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livestain.pictures import Panel, coloured, draw_panels, overlay, save_picture, stretched
from livestain.planes import PlaneIndex
from livestain.store import Labels, level_shapes, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from livestain.store import Store

__all__ = ["draw_overview"]

_ROWS = 4
"""Fields in the picture."""

_SIDE_PX = 512
"""Larger planes are shown at a level of their pyramid."""


def draw_overview(movies: list[Path], picture: Path) -> None:
    """Draw brightfield, what the camera sees of the fluorescence, truth and mask of a few fields.

    Of each movie the first field, of further fields as many as there is room for; the middle plane of the
    first time point.

    Parameters
    ----------
    movies : list of Path
        Stores of simulated movies, of one size and the same channels.
    picture : Path
        A PNG file; replaced.

    Raises
    ------
    StoreError
        If a store cannot be read.
    """
    rows: list[list[Panel]] = []
    pixel_size_um = 1.0
    chosen = movies[:_ROWS]
    for n, path in enumerate(chosen):
        with open_store(path) as store:
            plan = store.plan
            shapes = level_shapes(plan.height, plan.width)
            level = next((k for k, s in enumerate(shapes) if max(s) <= _SIDE_PX), len(shapes) - 1)
            pixel_size_um = plan.pixel_size_um * 2**level
            here = _ROWS // len(chosen) + (n < _ROWS % len(chosen))
            rows += [_row(store, p, level) for p in range(min(here, plan.n_p))]
    save_picture(
        draw_panels(
            rows,
            pixel_size_um=pixel_size_um,
            caption="Simulated by livestain; the middle plane of the first time point.",
        ),
        picture,
    )


def _row(store: Store, p: int, level: int) -> list[Panel]:
    plan, z = store.plan, store.plan.n_z // 2
    name = store.path.name.removesuffix(".ome.zarr")
    if plan.n_p > 1:
        name += f" {plan.positions[p].name}"
    panels: list[Panel] = []
    grey = np.zeros((0, 0), np.uint8)
    for c, channel in enumerate(plan.channels):
        grey_here = stretched(store.read(PlaneIndex(p, 0, c, z), level=level))
        if not panels:
            grey = grey_here
            panels.append(Panel(f"{name}: {channel.name}", grey))
        else:
            panels.append(Panel(channel.name, coloured(grey_here, channel.color)))
    mask = Labels(store, "mitochondria").read(PlaneIndex(p, 0, 0, z), level=level)
    marked = (np.minimum(mask, 1) * np.uint8(150)).astype(np.uint8)
    panels.append(Panel("mask of the mitochondria", overlay(grey, marked, "FF00FF")))
    return panels

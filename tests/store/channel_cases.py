"""Stores whose channels are all there, or all but some planes."""

from __future__ import annotations

import numpy as np
from store_cases import plane_of

from livestain.store import PositionPlan

TWO = (
    PositionPlan(name="A1", path="0", x_um=-10.0, y_um=5.5),
    PositionPlan(path="1"),
)


def values_of(index, shape=(24, 32)):
    return np.random.default_rng(index).normal(100, 20, shape).astype(np.float32)


def fill(store, *, leave=()):
    """Write every planned plane but some, in both channels, with their levels."""
    for c in range(len(store.plan.channels)):
        for index in store.plan.planned_indices(c):
            if index in leave:
                continue
            shape = (store.plan.height, store.plan.width)
            if c:
                store.write_virtual(index, values_of(index, shape))
            else:
                image = plane_of(index, *shape)
                store.write_levels(index, image)
                store.write(index, image).result()


def damage(path, index):
    (file,) = (path / "0").glob(f"c.{index.t}.{index.c}.{index.z}.*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)

"""Label images of a store: whole numbers a pixel, beside the planes that they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.errors import StoreError
from livestain.store.arrays import Layout, open_array
from livestain.store.chunks import tile_shape
from livestain.store.layout import label_image
from livestain.store.pyramid import level_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from livestain.planes import PlaneIndex
    from livestain.store.plan import Codec
    from livestain.store.store import Store

__all__ = ["Labels"]

_DIMENSIONS = ("t", "z", "y", "x")


class Labels:
    """The label images of one name, one in each position of a store: labels/NAME, as OME-Zarr has them.

    Axes t, z, y, x; uint8; 0 = nothing. Every level holds the largest label of the 2x2 pixels of the one
    before, so that what is thin is seen in all of them.

    Parameters
    ----------
    store : Store
        Whose planes are labelled.
    name : str
        What is labelled.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name
        self._arrays: dict[tuple[int, int], Any] = {}

    @classmethod
    def create(
        cls, store: Store, name: str, labels: Mapping[int, tuple[str, tuple[int, int, int]]]
    ) -> Self:
        """Make room for label images in a store that is open for writing, in each position.

        Parameters
        ----------
        store : Store
        name : str
            Letters, digits, `-` and `_`.
        labels : mapping
            What each number but 0 stands for, and its colour for viewers (red, green, blue; 0 to 255).

        Raises
        ------
        StoreError
            If the disk refuses, or there are such labels.
        """
        from yaozarrs.write.v05 import LabelsBuilder

        plan = store.plan

        def create_array(path: Path, *, shape: Sequence[int], **_: Any) -> Any:
            return open_array(Path(path), mode="r+", create=_layout(shape, plan.codec))

        writer: Any = create_array
        levels: list[Any] = [
            ((plan.n_t, plan.n_z, y, x), "uint8") for y, x in level_shapes(plan.height, plan.width)
        ]
        try:
            for position in plan.positions:
                builder = LabelsBuilder(store.path / position.path / "labels", writer=writer)
                builder.add_label(name, label_image(plan, name), levels)
                folder, _ = builder.prepare()
                _write_words(folder / name / "zarr.json", labels)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"Cannot make the labels '{name}' of {store.path}: {error}. Expected a store without them, "
                "in a folder that can be written to, on a disk with space."
            ) from error
        return cls(store, name)

    def write(self, index: PlaneIndex, labels: NDArray[Any]) -> None:
        """Write the labels of a plane, all levels; returns when they are readable.

        Parameters
        ----------
        index : PlaneIndex
            Of the plane; its channel does not matter.
        labels : array of bool or uint8, (y, x)

        Raises
        ------
        StoreError
            If they have another shape or type, or cannot be written.
        """
        plan = self._store.plan
        if labels.shape != (plan.height, plan.width) or labels.dtype not in (np.bool_, np.uint8):
            raise StoreError(
                f"The labels '{self.name}' of plane {index.words} have shape {labels.shape} and type "
                f"{labels.dtype}; expected {(plan.height, plan.width)} and bool or uint8."
            )
        plane = labels.astype(np.uint8, copy=False)
        try:
            for level in range(len(level_shapes(plan.height, plan.width))):
                self._array(index.p, level)[index.t, index.z].write(plane).result()
                plane = _largest(plane)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"Cannot write the labels '{self.name}' of plane {index.words} to {self._store.path}: "
                f"{error}. Expected a folder that can be written to, on a disk with space."
            ) from error

    def read(self, index: PlaneIndex, *, level: int = 0) -> NDArray[np.uint8]:
        """Read the labels of a plane.

        Parameters
        ----------
        index : PlaneIndex
            Of the plane; its channel does not matter.
        level : int
            Pyramid level.

        Returns
        -------
        array of uint8, (y, x)

        Raises
        ------
        StoreError
            If they are not there, or damaged.
        """
        try:
            plane: NDArray[np.uint8] = self._array(index.p, level)[index.t, index.z].read().result()
        except (OSError, ValueError, IndexError) as error:
            raise StoreError(
                f"The labels '{self.name}' of plane {index.words} of {self._store.path} are not there, or "
                f"damaged: {error}."
            ) from error
        return plane

    def _array(self, p: int, level: int) -> Any:
        if (p, level) not in self._arrays:
            image = self._store.path / self._store.plan.positions[p].path
            self._arrays[p, level] = open_array(
                image / "labels" / self.name / str(level), mode=self._store.mode
            )
        return self._arrays[p, level]


def _write_words(file: Path, labels: Mapping[int, tuple[str, tuple[int, int, int]]]) -> None:
    """Say what the labels are: yaozarrs writes numbers as 1.0, which ome-zarr-py refuses, and no words."""
    group = json.loads(file.read_text(encoding="utf-8"))
    group["attributes"]["ome"]["image-label"] |= {
        "colors": [
            {"label-value": value, "rgba": [*color, 255]} for value, (_, color) in labels.items()
        ],
        "properties": [
            {"label-value": value, "name": words} for value, (words, _) in labels.items()
        ],
    }
    file.write_text(json.dumps(group), encoding="utf-8")


def _layout(shape: Sequence[int], codec: Codec) -> Layout:
    """Return the layout of label planes (t, z, y, x): a file a plane, as of the planes themselves."""
    return Layout(
        shape=shape,
        chunk_shape=(1, 1, *shape[2:]),
        inner_shape=(1, 1, *tile_shape(*shape[2:])),
        dtype="uint8",
        fill_value=0,
        dimension_names=_DIMENSIONS,
        codec=codec,
    )


def _largest(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest label of each 2x2 pixels; at an odd side's end of those that exist."""
    y, x = plane.shape
    padded = np.pad(plane, ((0, y % 2), (0, x % 2)))
    squares = padded.reshape((y + 1) // 2, 2, (x + 1) // 2, 2)
    largest: NDArray[np.uint8] = squares.max(axis=(1, 3))
    return largest

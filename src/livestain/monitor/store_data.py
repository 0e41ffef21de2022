"""A store as data of ndv, the viewer: planes are read when they are looked at."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from ndv import DataWrapper

from livestain.errors import StoreError
from livestain.planes import PlaneIndex
from livestain.store import Store

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from livestain.store import ChannelPlan

__all__ = ["DIMS", "StoreData", "shown_name"]

DIMS = ("p", "t", "c", "z", "y", "x")
"""The axes, in the order of the viewer's sliders."""


class StoreData(DataWrapper[Store]):
    """The planes of a store, level 0, in stored counts, also while the run goes on.

    A plane that is not there, or cannot be read, comes as zeros, since an image has no other word for
    nothing; `is_there` tells it from a plane that is black.

    Parameters
    ----------
    store : Store
        Open; it stays the caller's to close.
    """

    PRIORITY = 10

    def __init__(self, store: Store) -> None:
        self._damaged: set[PlaneIndex] = set()
        super().__init__(store)

    @classmethod
    def supports(cls, obj: Any) -> TypeGuard[Store]:
        """Return whether ndv may take this class for an object."""
        return isinstance(obj, Store)

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Names of the axes."""
        return DIMS

    @property
    def coords(self) -> Mapping[Hashable, Sequence[Any]]:
        """What the places along each axis are called: channels by name, the rest by number."""
        plan = self.data.plan
        return {
            "p": range(plan.n_p),
            "t": range(plan.n_t),
            "c": [shown_name(channel) for channel in plan.channels],
            "z": range(plan.n_z),
            "y": range(plan.height),
            "x": range(plan.width),
        }

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored counts."""
        return np.dtype(np.uint16)

    def guess_channel_axis(self) -> Hashable | None:
        """Return the axis of channels."""
        return DIMS.index("c")

    def guess_z_axis(self) -> Hashable | None:
        """Return the axis that three dimensions are shown with."""
        return DIMS.index("z")

    def axis_scales(self) -> dict[Hashable, float]:
        """Return how far apart neighbours are, in pixels, so that a stack keeps its shape."""
        plan = self.data.plan
        return {
            "z": (plan.z_step_um or plan.pixel_size_um) / plan.pixel_size_um,
            "y": 1.0,
            "x": 1.0,
        }

    def summary_info(self) -> str:
        """Return the line above the image."""
        plan = self.data.plan
        shape = f"{plan.n_t} t, {len(plan.channels)} c, {plan.n_z} z, {plan.height} x {plan.width}"
        return f"{f'{plan.n_p} p, ' if plan.n_p > 1 else ''}{shape}, {plan.pixel_size_um:g} um"

    def isel(self, index: Mapping[int, int | slice]) -> NDArray[np.uint16]:
        """Read a part of the store.

        Parameters
        ----------
        index : mapping of int to int or slice
            By axis, as numpy indexes; an axis that is left out is taken whole.

        Returns
        -------
        array of uint16
            Axes of the slices, in the order of `DIMS`.
        """
        sizes = tuple(self.sizes().values())
        cuts = [index.get(axis, slice(None)) for axis in range(len(DIMS))]
        places = [range(n)[cut] for n, cut in zip(sizes, cuts, strict=True)]
        numbers = [(place,) if isinstance(place, int) else place for place in places]
        within = tuple([cut] if isinstance(cut, int) else cut for cut in cuts[4:])
        out = np.zeros([len(n) for n in numbers], dtype=np.uint16)
        for at in product(*(range(len(n)) for n in numbers[:4])):
            p, t, c, z = (n[i] for n, i in zip(numbers[:4], at, strict=True))
            plane = self._read(PlaneIndex(p, t, c, z))
            if plane is not None:
                out[at] = plane[within]
        return out[tuple(0 if isinstance(place, int) else slice(None) for place in places)]

    def is_there(self, index: PlaneIndex) -> bool:
        """Return whether a plane is in the store, and can be read as far as is known."""
        return index not in self._damaged and self._has_file(index)

    def _has_file(self, index: PlaneIndex) -> bool:
        # A viewer may look beyond the time points that there is room for by now.
        return index.t < self.data.plan.n_t and self.data.is_present(index)

    def _read(self, index: PlaneIndex) -> NDArray[np.uint16] | None:
        try:
            if not self._has_file(index):
                return None
            plane = self.data.read(index)
        except StoreError:
            # Were it raised, ndv would leave the plane that it showed before, which would pass for this one.
            self._damaged.add(index)
            return None
        self._damaged.discard(index)
        return plane


def shown_name(channel: ChannelPlan) -> str:
    """Return how a channel is called where it is shown; nobody takes a prediction for a measurement."""
    return f"predicted {channel.name}" if channel.virtual is not None else channel.name

"""Our own stores as recordings: live runs, whose fluorescence may be as sparse as it likes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.planes import PlaneIndex
from livestain.recordings.base import Place, Recording, movie_name
from livestain.store import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["StoreRecording"]


class StoreRecording(Recording):
    """The raw channels of one store; predictions are never learnt from.

    Parameters
    ----------
    path : Path
        A store of livestain.

    Raises
    ------
    StoreError
        If it is none, or damaged.
    """

    kind = "livestain store"
    kind_of_channel = "raw channel"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = movie_name(path.name)
        with open_store(path) as store:
            self._present = store.present_grid()
            plan = store.plan  # as it is after the look, of a run that goes on
            self.simulated = store.attributes.get("simulated") is True
        # Raw channels come first in a store, so that their numbers are the store's.
        self.channels = tuple(channel.name for channel in plan.channels if channel.kind == "raw")
        several = plan.n_p > 1
        given = [position.name for position in plan.positions]
        # Two places of one name would be one frame, and their images taken for the same cells.
        clear = all(given) and len(set(given)) == len(given)
        names = [
            name if clear else "-".join(filter(None, (name, f"p{p}")))
            for p, name in enumerate(given)
        ]
        self.places = tuple(
            Place(
                name if several else "",
                str(p),
                name if several else "",
                plan.n_t,
                plan.n_z,
                label=position.name or None,
                x_um=position.x_um,
                y_um=position.y_um,
                z_um=position.z_um,
            )
            for p, (name, position) in enumerate(zip(names, plan.positions, strict=True))
        )
        self.pixel_size_um = plan.pixel_size_um
        self.z_step_um = plan.z_step_um
        self.interval_s = plan.t_interval_s or None
        self._format = (plan.height, plan.width), np.dtype(np.uint16)

    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""
        return self._present[place, :, c]

    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) uint16 each."""
        store = self._opened()
        return [store.read(PlaneIndex(place, t, c, z)) for t, z in at]

    def frame_format(self, place: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size (y, x) and data type of a place's planes."""
        del place
        return self._format

    def _open(self) -> Any:
        return open_store(self.path)

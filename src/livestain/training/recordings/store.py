"""Our own stores as recordings: live runs, whose fluorescence may be as sparse as it likes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.planes import PlaneIndex
from livestain.store import open_store
from livestain.training.recordings.base import Place, Recording, movie_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
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

    kind_of_channel = "raw channel"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = movie_name(path.name)
        with open_store(path) as store:
            self._present = store.present_grid()
            plan = store.plan  # as it is after the look, of a run that goes on
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
            Place(name if several else "", str(p), name if several else "", plan.n_t, plan.n_z)
            for p, name in enumerate(names)
        )
        self.pixel_size_um = plan.pixel_size_um
        self.z_step_um = plan.z_step_um

    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""
        return self._present[place, :, c]

    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) uint16 each."""
        store = self._opened()
        return [store.read(PlaneIndex(place, t, c, z)) for t, z in at]

    def _open(self) -> Any:
        return open_store(self.path)

"""The words everyone speaks: which plane, and which planes a prediction needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

__all__ = ["PlaneIndex", "Window"]


class PlaneIndex(NamedTuple):
    """The place of one plane in a run: position, time, channel, z. All count from 0.

    `c` is the channel's place in the store: raw channels in the sequence's order, then virtual ones.
    """

    p: int
    t: int
    c: int
    z: int

    @property
    def words(self) -> str:
        """The place as messages name it: "p=0 t=4 c=1 z=2"."""
        return f"p={self.p} t={self.t} c={self.c} z={self.z}"

    def at(self, *, t: int | None = None, c: int | None = None, z: int | None = None) -> Self:
        """Return the same place with some of its coordinates changed."""
        return self._replace(
            t=self.t if t is None else t,
            c=self.c if c is None else c,
            z=self.z if z is None else z,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """The source planes that one prediction needs, around its own place.

    A window of depth `z` reaches `z // 2` planes to either side. At the edge of a stack, and before
    the first time point, the nearest plane that exists in the plan stands in (edge rule "repeat").

    Attributes
    ----------
    z : int or "all"
        Number of z-planes (odd), or "all" for the whole stack.
    past, future : int
        Number of time points before and after.
    """

    z: int | Literal["all"] = 1
    past: int = 0
    future: int = 0

    def __post_init__(self) -> None:
        """Refuse a window that has no centre."""
        if self.z != "all" and (self.z < 1 or self.z % 2 == 0):
            raise ValueError(f"A z-window has an odd number of planes; given {self.z}.")
        if self.past < 0 or self.future < 0:
            raise ValueError(f"past and future count from 0; given {self.past}, {self.future}.")

    @property
    def needs_stack(self) -> bool:
        """Whether more than one z-plane is needed."""
        return self.z == "all" or self.z > 1

    def sources(
        self, target: PlaneIndex, source_c: int, *, n_t: int, n_z: int
    ) -> tuple[PlaneIndex, ...]:
        """Return the source planes of `target`, time-major then z, edges repeated.

        Parameters
        ----------
        target : PlaneIndex
            The virtual plane to predict.
        source_c : int
            The source channel's place in the store.
        n_t, n_z : int
            Planned number of time points and z-planes.

        Returns
        -------
        tuple of PlaneIndex
            As many as the network has input planes; a plane may occur more than once.
        """
        times = range(target.t - self.past, target.t + self.future + 1)
        if self.z == "all":
            depths = range(n_z)
        else:
            half = self.z // 2
            depths = range(target.z - half, target.z + half + 1)
        return tuple(
            target.at(t=min(max(t, 0), n_t - 1), c=source_c, z=min(max(z, 0), n_z - 1))
            for t in times
            for z in depths
        )

    def targets(self, source: PlaneIndex, c: int, *, n_t: int, n_z: int) -> tuple[PlaneIndex, ...]:
        """Return the planes of the virtual channel `c` that have `source` in their window.

        Parameters
        ----------
        source : PlaneIndex
            A plane of the source channel.
        c : int
            The virtual channel's place in the store.
        n_t, n_z : int
            Planned number of time points and z-planes.
        """
        half = n_z if self.z == "all" else self.z // 2
        return tuple(
            source.at(t=t, c=c, z=z)
            for t in range(max(source.t - self.future, 0), min(source.t + self.past, n_t - 1) + 1)
            for z in range(max(source.z - half, 0), min(source.z + half, n_z - 1) + 1)
        )

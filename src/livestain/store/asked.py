"""Which planes were asked for: by the plan, or, where its end is open, by what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from livestain.store.plan import StorePlan

__all__ = ["planes_asked_for"]


def planes_asked_for(
    plan: StorePlan, there: NDArray[np.bool_], told: Iterable[PlaneIndex] = ()
) -> dict[int, NDArray[np.bool_]]:
    """Return the planned planes of each channel.

    Where the plan has its end, they are the plan's. Where it is open, a raw plane was asked for if it is
    there, or if the journal says that it will not come; a virtual plane if it is there, or if all its
    sources were asked for and its channel is predicted at its position and depth.

    Parameters
    ----------
    plan : StorePlan
    there : array of bool, (n_p, n_t, n_c, n_z)
        The planes that are there.
    told : iterable of PlaneIndex
        The planes that the journal says will not come.

    Returns
    -------
    dict of int to array of bool, (n_p, n_t, n_z)
        By channel.
    """
    if not plan.open_end:
        return {c: plan.planned(c) for c in range(len(plan.channels))}
    asked = {c: there[:, :, c].copy() for c in range(len(plan.channels))}
    for p, t, c, z in told:
        # What is told of a virtual plane may be of one with a source that nobody asked for.
        if t < plan.n_t and plan.channels[c].virtual is None:
            asked[c][p, t, z] = True
    for c, channel in enumerate(plan.channels):
        if channel.virtual is None:
            continue
        may = plan.planned(c)[:, 0]  # of any time point
        sources = [plan.c_of(name) for name in channel.virtual.sources]
        candidates = {
            target
            for source in sources
            for p, t, z in np.argwhere(asked[source]).tolist()
            for target in plan.targets_of(PlaneIndex(p, t, source, z))
            if target.c == c and target.t < plan.n_t and may[target.p, target.z]
        }
        for target in candidates:
            asked[c][target.p, target.t, target.z] |= all(
                asked[s.c][s.p, s.t, s.z] for s in plan.sources_of(target)
            )
    return asked

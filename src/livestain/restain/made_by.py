"""What a store's journal says of how each of its predictions was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from livestain.planes import PlaneIndex
from livestain.store import journal_lines

if TYPE_CHECKING:
    from livestain.store import Store

__all__ = ["MadeBy", "made_by"]


@dataclass(frozen=True)
class MadeBy:
    """Workers and their planes.

    Attributes
    ----------
    last : dict
        Facts of each channel's model, by its place in the store, as they were told last.
    versions : dict
        Of packages.
    by_plane : dict
        Facts of the worker that made a plane, where the journal knows it.
    """

    last: dict[int, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    by_plane: dict[PlaneIndex, dict[str, Any]] = field(default_factory=dict)

    def of(self, index: PlaneIndex) -> dict[str, Any]:
        """Return how a plane was made, as far as it is known."""
        return self.by_plane.get(index) or self.last.get(index.c, {})


def made_by(store: Store) -> MadeBy:
    """Read a store's journal."""
    found = MadeBy(versions=dict(store.attributes.get("versions") or {}))
    workers: dict[tuple[Any, int], dict[str, Any]] = {}
    for line in journal_lines(store.path):
        for facts in line.get("models") or []:
            if isinstance(facts, dict) and "c" in facts:
                found.last[facts["c"]] = facts
                if line.get("kind") == "worker":
                    workers[line.get("pid"), facts["c"]] = facts
        if line.get("kind") == "restain":
            found.versions.update(line.get("versions") or {})
        if line.get("kind") == "stained" and "pid" in line:
            index = PlaneIndex(*line["index"])
            if (facts := workers.get((line["pid"], index.c))) is not None:
                found.by_plane[index] = facts
    return found

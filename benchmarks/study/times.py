"""What a prediction takes, by network, backend and size; measured by benchmarks/pareto.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SAME_NETWORK", "SIZES", "Times", "read_times"]

SIZES = (512, 1024)
"""Sides of the planes that were timed, in pixels."""

SAME_NETWORK = {
    "fnet2d-b4": "fnet2d",
    "fnet2d-b4-long": "fnet2d",
    "teacher": "unet16",
    "student": "slim-4",
}
"""Recipes that differ in training alone: the one's times are the other's."""

_COARSER = ("bf16", "fp16", "int8", "tf32")
"""In the names of backends that do not compute in float32, as the networks were scored."""


@dataclass(frozen=True)
class Times:
    """Milliseconds a plane.

    Attributes
    ----------
    hardware : str
        What they were measured on.
    ms : mapping of (network, size) to (float, str)
        The least of all backends of float32, and which one that is.
    """

    hardware: str
    ms: Mapping[tuple[str, int], tuple[float, str]]

    def fastest(self, recipe: str, size: int) -> float | None:
        """Return the time of a recipe's network by its fastest backend, in ms; None if not timed."""
        found = self._cell(recipe, size)
        return None if found is None else found[0]

    def backend(self, recipe: str, size: int) -> str:
        """Return the backend that is the fastest; empty if it was not timed."""
        found = self._cell(recipe, size)
        return "" if found is None else found[1]

    def _cell(self, recipe: str, size: int) -> tuple[float, str] | None:
        network = SAME_NETWORK.get(recipe, recipe)
        return self.ms.get((network, size)) or self.ms.get((recipe, size))


def read_times(path: Path) -> Times | None:
    """Read benchmarks/results/pareto.json; None where it is not there.

    Backends of less than float32 are left out: the scores beside these times are of float32.
    """
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    latency = told["latency"]
    best: dict[tuple[str, int], tuple[float, str]] = {}
    for row in latency["table"]:
        if any(word in row["backend"] for word in _COARSER):
            continue
        key = row["network"], row["size"]
        if key not in best or row["ms"] < best[key][0]:
            best[key] = row["ms"], row["backend"]
    hardware = told["hardware"]
    threads = latency.get("threads")
    words = f"{hardware['cpu']}, {hardware['cores']} cores" + (
        f", {threads} threads" if threads else ""
    )
    if hardware["device"] != "cpu":
        words = f"{hardware['device']}, {words}"
    return Times(words, best)

"""What a training tells of its data before it begins."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livestain.training.checks.registration import Registration
    from livestain.training.checks.report import CheckReport

__all__ = ["sentences"]

_TOLD_PX, _TOLD_PLANES = 2.0, 0.5
"""Displacements from here on are told: edges in brightfield lie beside what they are the edges of."""


def sentences(report: CheckReport) -> Iterator[str]:
    """Yield what the user should know before the steps begin; nothing where all is well.

    Movies without a pair; of each target the largest displacement, and what the recipe does about it;
    how many pairs are bad, and what becomes of them.
    """
    without = report.recorded.without_pairs
    if without:
        yield f"No pairs in {', '.join(without)}: no place there has both what is seen and what is predicted."
    for target in dict.fromkeys(one.target for one in report.registration):
        found = [one for one in report.registration if one.target == target and one.told]
        yield from _displacement(report, target, found)
    bad = {(one.movie, one.pair) for one in report.bad}
    if bad:
        kinds = Counter(kind for kind, _, _ in {(b.kind, b.movie, b.pair) for b in report.bad})
        words = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        fate = (
            "they are left out"
            if report.recipe.checks.bad_pairs == "drop"
            else "they are trained on all the same (checks.bad_pairs: drop leaves them out)"
        )
        yield (
            f"{len(bad)} of {len(report.recorded.pairs)} pairs are bad ({words}); {fate}. checks.json and "
            "livestain check-data name them."
        )


def _displacement(report: CheckReport, target: str, found: list[Registration]) -> Iterator[str]:
    far = [
        one
        for one in found
        if max(abs(one.dy_px), abs(one.dx_px)) >= _TOLD_PX
        or abs(one.dz_planes or 0.0) >= _TOLD_PLANES
    ]
    if not far:
        return
    most = max(
        far, key=lambda one: (max(abs(one.dy_px), abs(one.dx_px)), abs(one.dz_planes or 0.0))
    )
    others = ""
    if len(found) > 1:
        others = f" ({len(far)} of {len(found)} movies are displaced by 2 pixels, or half a plane, or more)"
    fate = (
        "it is corrected"
        if report.corrections
        else "look with livestain check-data --picture; checks.registration: shift corrects such"
    )
    yield f"{target} lies {report.words(most)} from its source in movie {most.movie}{others}; {fate}."

"""The table of a paper's claims: its numbers, ours, and whether the order is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.claims import arrival, estimates, verdict
from study.markdown import LINE, estimate, number, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from study.claims import Claim, Value
    from study.estimate import Estimate
    from study.finished import Finished
    from study.judging import Verdict

__all__ = ["JUDGED", "claims_table", "recalibrated", "unexplained"]

JUDGED = ("same", "not told apart", "different")


def claims_table(finished: Finished, claims: Iterable[Claim]) -> str:
    """Return a table of claims: the paper's numbers, ours, whether the order is the same, a note."""
    rows = []
    for claim in claims:
        found = estimates(claim, finished)
        judged = verdict(claim, finished)
        again = recalibrated(claim, finished)
        others = {} if again is None else estimates(claim, again)
        ours = [
            _ours(claim, value, found[value.label], others.get(value.label))
            for value in claim.values
            if value.recipe
        ]
        theirs = [
            f"{value.label}: {claim.printed(value.label)}"
            for value in claim.values
            if value.theirs is not None
        ]
        if not all(value.theirs is not None for value in claim.values):
            theirs += claim.orders
        ran = any(one is not None for one in found.values())
        word = "not run" if claim.not_run or not ran else _stressed(judged)
        state = arrival(claim, finished) if judged.word in JUDGED else ""
        told = [f"{word} ({state})" if state else word]
        settled = None if again is None else verdict(claim, again)
        if settled is not None:
            told.append(f"recalibrated: {_stressed(settled)}")
        rows.append(
            [
                f"{claim.claim} ({claim.where})",
                LINE.join(theirs) or "-",
                LINE.join(ours) or "-",
                LINE.join(told),
                " ".join(_notes(claim, judged, settled, finished.scale)) or "-",
            ]
        )
    return table(["claim", "paper", "ours", "same order?", "note"], rows, numbers_from=5)


def unexplained(finished: Finished, claims: Iterable[Claim]) -> list[str]:
    """Return the ids of the claims whose order is different and that do not say why.

    Where batch normalisation was recalibrated, it is that order.
    """
    return [
        claim.id
        for claim in claims
        if verdict(claim, recalibrated(claim, finished) or finished).word == "different"
        and finished.scale not in claim.differs
    ]


def recalibrated(claim: Claim, finished: Finished) -> Finished | None:
    """Return the cells with batch normalisation recalibrated, where a claim can be judged by them.

    None where one of the cells that it compares was not tried, or none of them has batch normalisation.
    """
    again = finished.recalibrated
    compared = [
        (value.study or claim.paper, value.recipe)
        for value in claim.compared()
        if value.recipe is not None and finished.of(value.study or claim.paper, value.recipe)
    ]
    found = [again.of(study, recipe) for study, recipe in compared]
    changed = any(cell.recalibrated for cells in found for cell in cells)
    return again if changed and all(found) else None


def _stressed(judged: Verdict) -> str:
    return f"**{judged.text}**" if judged.word == "different" else judged.text


def _ours(claim: Claim, value: Value, found: Estimate | None, again: Estimate | None) -> str:
    metric = claim.metric_of(value)
    text = f"{value.label}: {estimate(found, metric)}"
    if again is not None and found is not None and again.value != found.value:
        text += f", recalibrated {number(again.value, metric)}"
    if f"{value.label} above its control" in claim.orders and found is not None:
        control = "the input itself" if claim.paper == "koelln" else "control"
        text += f", {control} {number(found.control, metric)}"
    return text


def _notes(claim: Claim, judged: Verdict, settled: Verdict | None, scale: str) -> Iterable[str]:
    if claim.not_run:
        yield claim.not_run
    if claim.note:
        yield claim.note
    if claim.repeats:
        yield "A part of another row's order, and not counted again."
    said = claim.differs.get(scale)
    last = judged if settled is None else settled
    if judged.word == "different" and last.word != "different":
        yield "It was the statistics of batch normalisation, which had not settled, that differed."
    if said is not None and last.word in ("different", "not told apart"):
        yield f"Why: {said.why} Tried: {said.tried}"
    elif last.word == "different":
        yield "Not explained yet."

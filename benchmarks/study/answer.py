"""What a laboratory should deploy, in a few sentences made of the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.markdown import estimate, number, paragraph
from study.ranking import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from study.finished import Finished
    from study.ranking import Ranked
    from study.times import Times

__all__ = ["answer"]

_SIDE = 512
"""Of the plane whose time is told, in pixels."""


def answer(finished: Finished, rows: Sequence[Ranked], times: Times | None) -> str:
    """Return the answer that the scores of real cells give; where our student has none, that it is open.

    Parameters
    ----------
    finished : Finished
    rows : sequence of Ranked
        Of the real cells, the best first.
    times : Times, optional
        Of predictions.
    """
    whole = {row.name: row for row in rows if row.mean is not None}
    student, network = whole.get("student"), whole.get("slim-4")
    others = [row for row in whole.values() if kind_of(row.recipe) != "ours"]
    if student is None or not others:
        return f"Open: the scale {finished.scale} has not what it needs on real cells.\n"
    said = [
        (
            "On each of three movies of live cells, trained on the two others, our student predicts "
            f"mitochondria with a Pearson correlation of {_score(student)} in the "
            f"mean{_time(student, times)}."
        )
    ]
    if teacher := whole.get("teacher"):
        said.append(f"Its teacher, which is slower, has {_score(teacher)}{_time(teacher, times)}.")
    best = others[0]
    said.append(
        f"The best of the papers' recipes, and of those after them, is `{best.name}` with {_score(best)}"
        f"{_time(best, times)}{_trained(best)}."
    )
    if network is not None:
        said.append(
            "The student's network alone, from random weights and without a teacher, has "
            f"{_score(network)}{_trained(network)}."
        )
    assert student.mean is not None
    control = number(student.mean.control, "pearson")
    said.append(f"What the brightfield tells without learning is {control}.")
    above = student.mean.value > max(row.mean.value for row in others if row.mean is not None)
    said.append(
        "So the student (`h9c2-omp25`) is the default."
        if above
        else f"So `{best.name}` is the more accurate one here; the student is the default for its speed."
    )
    said.append(
        "All of it is of one cell line, one microscope and minutes of training; what follows says where "
        "that ends."
    )
    return paragraph(" ".join(said))


def _score(row: Ranked) -> str:
    return estimate(row.mean, "pearson")


def _time(row: Ranked, times: Times | None) -> str:
    ms = None if times is None else times.fastest(row.recipe, _SIDE)
    return "" if ms is None else f", in {ms:,.0f} ms a plane of {_SIDE} x {_SIDE}"


def _trained(row: Ranked) -> str:
    seconds = row.cells[0].budget_seconds
    return "" if seconds is None else f", trained for {seconds:,.0f} s"

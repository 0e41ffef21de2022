"""What a laboratory should deploy, in a few sentences made of the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.aims import above_on_each_movie, at_equal_time, time_of
from study.markdown import estimate, from_to, number, paragraph
from study.ranking import others, ranked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from study.finished import Finished
    from study.ranking import Ranked
    from study.times import Times

__all__ = ["answer"]

_SIDE = 512
"""Of the plane whose time is told, in pixels."""


def answer(scales: Sequence[Finished], movies: tuple[str, ...], times: Times | None) -> str:
    """Return the answer that the scores of real cells give, of the first scale that has one.

    Parameters
    ----------
    scales : sequence of Finished
    movies : tuple of str
        Of the real data.
    times : Times, optional
        Of predictions.
    """
    for finished in scales:
        whole = {row.name: row for row in ranked(finished, {}, movies) if row.mean is not None}
        theirs = others(finished, movies)
        if "student" in whole and theirs:
            said = _sentences(whole, theirs, times)
            return paragraph(f"(Of the scale {finished.scale}.) {' '.join(said)}")
    return "Open: no scale has all movies of our student and of a recipe of others.\n"


def _sentences(
    whole: dict[str, Ranked], theirs: list[Ranked], times: Times | None
) -> Iterable[str]:
    student, network, teacher = (whole.get(name) for name in ("student", "slim-4", "teacher"))
    assert student is not None
    assert student.mean is not None
    yield (
        "Each of three movies of live cells was predicted by models that were trained on the two others; "
        "numbers are mean Pearson correlations with the recorded mitochondria."
    )
    alike = [] if network is None else at_equal_time(network, theirs)
    if network is not None and alike:
        budget = network.cells[0].budget_seconds
        clock = "of one core" if network.cells[0].scale == "cpu" else "of wall time"
        within = "" if budget is None else f" ({budget:,.0f} s {clock})"
        yield (
            f"For the same time of training{within}, our student's network, from random weights, has "
            f"{_score(network)}, and the best of the papers' recipes and of those after them, "
            f"`{alike[0].name}`, {_score(alike[0])}."
        )
    yield (
        f"The student as we make it, begun with simulated cells and taught, has {_score(student)}"
        f"{_cost(student)}."
    )
    if teacher is not None:
        yield f"Its teacher has {_score(teacher)}{_cost(teacher)}."
    best = theirs[0]
    if best is not (alike[0] if alike else None):
        yield (
            f"The best of the others, whatever its time, is `{best.name}` with {_score(best)}{_cost(best)}."
        )
    yield f"What the brightfield tells without learning is {number(student.mean.control, 'pearson')}."
    assert best.mean is not None
    apart = student.mean.apart(best.mean)
    place = "above" if student.mean.value > best.mean.value else "below"
    verdict = f"is {place} `{best.name}`"
    if not apart and above_on_each_movie(student, best):
        verdict += " on each movie, though the intervals of the means overlap,"
    elif not apart:
        verdict = f"is not told apart from `{best.name}`"
    yield (
        f"So the student, which {verdict}{_faster(student, best, times)}, is the default "
        "(`h9c2-omp25`)."
    )
    yield (
        "All of it is of one cell line, one microscope and minutes of training, and for our two the movies "
        "are not wholly unseen: see below."
    )


def _score(row: Ranked) -> str:
    return estimate(row.mean, "pearson")


def _cost(row: Ranked) -> str:
    """Tell the time of a training, and of what it owes."""
    owed = [cell.owed_seconds for cell in row.cells]
    text = f" (trained for {time_of(row)}"
    return f"{text}, after {from_to(owed)} s for what it needs)" if any(owed) else f"{text})"


def _faster(own: Ranked, other: Ranked, times: Times | None) -> str:
    if times is None:
        return ""
    ms, theirs = (times.fastest(row.recipe, _SIDE) for row in (own, other))
    if ms is None or theirs is None:
        return ""
    return f" and takes {ms:,.0f} ms a plane of {_SIDE} x {_SIDE} where that takes {theirs:,.0f} ms"

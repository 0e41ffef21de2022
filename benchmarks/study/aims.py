"""What we had set ourselves for the real cells, and whether it is met."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.markdown import estimate, from_to, table
from study.times import SIZES, Times

if TYPE_CHECKING:
    from study.ranking import Ranked

__all__ = ["above_on_each_movie", "aims_table", "at_equal_time", "time_of"]


def aims_table(rows: list[Ranked], others: list[Ranked], times: Times | None) -> str:
    """Return a table of the aims, what was found, and whether they are met.

    Parameters
    ----------
    rows : list of Ranked
        All recipes on real cells.
    others : list of Ranked
        Those that are not ours, the best first: see `ranking.others`.
    times : Times, optional
        Of predictions.
    """
    plain = {row.name: row for row in rows if row.mean is not None and row.name == row.recipe}
    best = others[0] if others else None
    network = plain.get("slim-4")
    equal = "our network at equal time (`slim-4`, random weights) is not below any recipe of others"
    of_equal_time = [equal, "not run", "-"]
    if network is not None and others:
        alike = at_equal_time(network, others)
        of_equal_time = [equal, "no recipe of others was trained for the same time", "-"]
        if alike:
            of_equal_time = [equal, _found(network, alike[0]), _met(network, alike[0])]
    lines = [
        of_equal_time,
        _aim(
            "the student itself is not below any recipe of others, whatever its time",
            plain.get("student"),
            best,
        ),
        _aim(
            "the teacher is above every recipe of others, whatever its time",
            plain.get("teacher"),
            best,
        ),
        _time_aim(times),
    ]
    return table(["aim, by mean Pearson", "found", "met"], lines, numbers_from=3)


def at_equal_time(own: Ranked, others: list[Ranked]) -> list[Ranked]:
    """Return the others whose trainings had the same budget as one's own."""
    budgets = {cell.budget_seconds for cell in own.cells}
    return [row for row in others if {cell.budget_seconds for cell in row.cells} == budgets]


def _aim(aim: str, own: Ranked | None, best: Ranked | None) -> list[str]:
    if own is None or best is None:
        return [aim, "not run", "-"]
    owed = from_to([cell.owed_seconds for cell in own.cells])
    found = f"{_found(own, best)}; trained for {time_of(own)}, and owes {owed} s; theirs for {time_of(best)}"
    return [aim, found, f"{_met(own, best)}; not at equal time"]


def time_of(row: Ranked) -> str:
    """Return what a recipe's trainings took: their budget, or where there is none their wall time."""
    budgets = [cell.budget_seconds for cell in row.cells if cell.budget_seconds is not None]
    if len(budgets) == len(row.cells):
        return f"a budget of {from_to(budgets)} s"
    return f"{from_to([cell.wall_seconds for cell in row.cells])} s"


def _found(own: Ranked, best: Ranked) -> str:
    return (
        f"{estimate(own.mean, 'pearson')}; the best of theirs and after them, `{best.name}`, "
        f"{estimate(best.mean, 'pearson')}"
    )


def _time_aim(times: Times | None) -> list[str]:
    told, met = [], []
    for size in SIZES:
        own = None if times is None else times.fastest("student", size)
        base = None if times is None else times.fastest("fnet2d", size)
        if own is not None and base is not None:
            told.append(f"1/{base / own:.1f} at {size} x {size} ({own:,.0f} and {base:,.0f} ms)")
            met.append(base >= 10 * own)
    verdict = ("yes" if all(met) else "no") if met else "-"
    aim = "the student takes a tenth of fnet-2D's time, or less"
    return [aim, "; ".join(told) or "not run", verdict]


def _met(own: Ranked, other: Ranked) -> str:
    assert own.mean is not None
    assert other.mean is not None
    word = "no" if own.mean.value < other.mean.value else "yes"
    apart = own.mean.apart(other.mean)
    if apart is None:
        return f"{word}, without an interval"
    if apart:
        return word
    each = ", and on each movie" if word == "yes" and above_on_each_movie(own, other) else ""
    return f"{word}{each}, but the intervals overlap"


def above_on_each_movie(own: Ranked, other: Ranked) -> bool:
    """Return whether the one has the higher score on every movie."""
    return all(own.by_movie[movie].value > score.value for movie, score in other.by_movie.items())

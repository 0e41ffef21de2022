"""What we had set ourselves for the real cells, and whether it is met."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.markdown import estimate, from_to, table
from study.ranking import kind_of
from study.times import SIZES, Times

if TYPE_CHECKING:
    from study.estimate import Estimate
    from study.ranking import Ranked

__all__ = ["aims_table"]


def aims_table(rows: list[Ranked], times: Times | None) -> str:
    plain = {row.name: row for row in rows if row.mean is not None and row.name == row.recipe}
    others = [row for row in plain.values() if kind_of(row.recipe) != "ours"]
    best = others[0] if others else None  # Rows are ranked.
    network = plain.get("slim-4")
    budget = network.cells[0].budget_seconds if network is not None else None
    alike = [row for row in others if {cell.budget_seconds for cell in row.cells} == {budget}]
    equal = "our network at equal time (`slim-4`, random weights) is not below any recipe of others"
    of_equal_time = _aim(equal, network, alike[0] if alike else None, equal_time=True)
    if network is not None and others and not alike:
        of_equal_time = [equal, "no recipe of others was trained for the same time", "-"]
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


def _aim(
    aim: str, own: Ranked | None, best: Ranked | None, *, equal_time: bool = False
) -> list[str]:
    if own is None or best is None or own.mean is None or best.mean is None:
        return [aim, "not run", "-"]
    found = (
        f"{estimate(own.mean, 'pearson')}; the best of theirs and after them, `{best.name}`, "
        f"{estimate(best.mean, 'pearson')}"
    )
    met = _met(own.mean, best.mean)
    if equal_time:
        return [aim, found, met]
    seconds = from_to([cell.wall_seconds for cell in own.cells])
    owed = from_to([cell.owed_seconds for cell in own.cells])
    theirs = from_to([cell.wall_seconds for cell in best.cells])
    found += f"; trained for {seconds} s, and owes {owed} s; theirs for {theirs} s"
    longest = max(cell.wall_seconds + cell.owed_seconds for cell in own.cells)
    in_time = all(longest <= (cell.budget_seconds or 0.0) for cell in best.cells)
    return [aim, found, f"{met}, in no more time" if in_time else f"{met}; not at equal time"]


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


def _met(own: Estimate, other: Estimate) -> str:
    word = "no" if own.value < other.value else "yes"
    less, more = sorted((own, other), key=lambda one: one.value)
    if less.ends is None or more.ends is None:
        return f"{word}, without an interval"
    return word if less.ends[1] < more.ends[0] else f"{word}, but the intervals overlap"

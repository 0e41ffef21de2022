"""The section on real cells: every 2-D recipe with one movie left out, and what we had set ourselves."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from study.finished import CellResult, Estimate, Finished
from study.markdown import LINE, estimate, number, paragraph, table
from study.opening import changes
from study.times import SIZES, Times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["OWN", "PAPERS", "Ranked", "ranked", "real_section"]

PAPERS = ("fnet2d", "fnet2d-b4", "gvtnet2d", "pix2pix", "care2d")
"""The papers' recipes; all others are ours."""

OWN = ("student", "teacher")
"""Our recipes that aims were set for."""

VIEWS = "held-out, 8 views"
"""A prediction that is the mean over mirrored and turned views."""


@dataclass(frozen=True)
class Ranked:
    """One recipe of the real data.

    Attributes
    ----------
    name, recipe : str
        `name` also says how it predicts where that is not the plain way.
    about : str
    cells : tuple of CellResult
        By movie.
    by_movie : dict of str to Estimate
        Pearson of each movie that was left out.
    mean : Estimate or None
        Over the movies; None where one is not there.
    """

    name: str
    recipe: str
    about: str
    cells: tuple[CellResult, ...]
    by_movie: Mapping[str, Estimate]
    mean: Estimate | None


def ranked(finished: Finished, recipes: Mapping[str, str], movies: tuple[str, ...]) -> list[Ranked]:
    """Return the recipes that have a result, best mean first, those with movies missing last.

    Parameters
    ----------
    finished : Finished
    recipes : mapping of str to str
        Planned ones, and what they are; others that have results are added.
    movies : tuple of str
        Each is left out once.
    """
    about = dict(recipes)
    for cell in finished.of("real"):
        about.setdefault(cell.recipe, cell.about)
    found = []
    for recipe, text in about.items():
        cells = finished.of("real", recipe)
        looks = sorted(
            {label for cell in cells for label in cell.scores if label.startswith("held-out")}
        )
        for label in looks:
            name = recipe + label.removeprefix("held-out")
            scored = tuple(cell for cell in cells if label in cell.scores)
            by_movie = {}
            for cell in scored:
                one = Finished(finished.scale, (cell,)).estimate(
                    "real", recipe, "pearson", on=label
                )
                if one is not None and cell.fold is not None:
                    by_movie[cell.fold] = one
            whole = set(by_movie) == set(movies)
            mean = finished.estimate("real", recipe, "pearson", on=label) if whole else None
            found.append(Ranked(name, recipe, text, scored, by_movie, mean))
    return sorted(found, key=lambda r: (r.mean is None, -(r.mean.value if r.mean else 0.0), r.name))


def real_section(
    finished: Finished,
    recipes: Mapping[str, str],
    movies: tuple[str, ...],
    times: Times | None,
    chart: str,
) -> str:
    """Return the section, without its heading.

    Parameters
    ----------
    finished, recipes, movies
        As for `ranked`.
    times : Times, optional
        Of predictions; see `study.times`.
    chart : str
        Markdown of the chart and its caption.
    """
    rows = ranked(finished, recipes, movies)
    if not rows:
        return "No cell has been run.\n"
    missing = [name for name in recipes if not finished.of("real", name)]
    parts = [
        paragraph(
            "Each recipe is trained on two movies of live H9c2 cells and scored on the third, which "
            "chose nothing. Pearson, mean over a movie's images, with the 95 % interval of a "
            "bootstrap over its frames. Mean: over the movies; the half widths of its interval are "
            "those of the movies in quadrature, over their number, so that it says how sure the mean "
            "over these three movies is, and nothing of a fourth. Control: what a blurred "
            "|brightfield - median| scores without learning."
        ),
        _scores(rows, movies),
        chart,
        paragraph(
            "What was trained. Budget: what the number of steps was chosen for, in seconds of one "
            "core on a CPU and of the wall clock on a GPU; `-` where the recipe fixes its steps."
        ),
        _trained(rows),
        *_at_other_times(rows),
        paragraph(
            "At their own plateau: the held-out movie's Pearson at each look during the training (it "
            "chose nothing: every training ran to its last step), and whether the last third still "
            "gained 0.005."
        ),
        _plateaus(rows, movies),
        paragraph("What we had set ourselves."),
        _aims(rows, times),
    ]
    if missing:
        parts.insert(2, f"Not run: {', '.join(missing)}.\n")
    return "\n".join(parts)


def _scores(rows: list[Ranked], movies: tuple[str, ...]) -> str:
    lines = []
    for row in rows:
        by_movie = [
            estimate(row.by_movie[movie], "pearson") if movie in row.by_movie else "not run"
            for movie in movies
        ]
        ends = [f"{len(row.by_movie)} of {len(movies)} movies", "-", "-"]
        if row.mean is not None:
            control = row.mean.control
            gain = "-" if control is None else f"{row.mean.value - control:+.3f}"
            ends = [f"**{estimate(row.mean, 'pearson')}**", number(control, "pearson"), gain]
        lines.append([f"`{row.name}`{LINE}{row.about}", *by_movie, *ends])
    return table(["recipe", *movies, "mean", "control", "gain over control"], lines)


def _trained(rows: list[Ranked]) -> str:
    lines = []
    for row in {row.recipe: row for row in reversed(rows)}.values():
        cells = row.cells
        lines.append(
            [
                f"`{row.recipe}`",
                _all(f"{c.parameters:,}" for c in cells),
                _all(f"{c.steps:,}" for c in cells),
                _all(f"{c.samples:,}" for c in cells),
                _all(
                    "-" if c.budget_seconds is None else f"{c.budget_seconds:,.0f}" for c in cells
                ),
                _from_to([c.wall_seconds for c in cells]),
                _median([c.inference_ms for c in cells if c.inference_ms is not None]),
                _all(c.inference_of or "-" for c in cells),
                _all(changes(c.reduced) for c in cells),
            ]
        )
    head = [
        "recipe",
        "parameters",
        "steps",
        "samples",
        "budget, s",
        "wall time, s",
        "a prediction",
        "of",
    ]
    return table([*head, "smaller than the paper's"], lines[::-1])


def _at_other_times(rows: list[Ranked]) -> list[str]:
    fixed = [row.recipe for row in rows if any(cell.budget_seconds is None for cell in row.cells)]
    if not fixed:
        return []
    return [
        paragraph(
            "Not at equal time, since the recipe says how many steps there are: "
            f"{', '.join(dict.fromkeys(fixed))}. What begins with simulated cells or has a teacher "
            "also owes what was trained before it."
        )
    ]


def _plateaus(rows: list[Ranked], movies: tuple[str, ...]) -> str:
    lines = []
    for row in {row.recipe: row for row in reversed(rows)}.values():
        by_movie = {cell.fold: cell for cell in row.cells}
        line = [f"`{row.recipe}`"]
        for movie in movies:
            cell = by_movie.get(movie)
            if cell is None:
                line.append("not run")
                continue
            trail = ", ".join(f"{score:.3f}" for _, score in cell.looks)
            line.append(f"{trail}{LINE}{cell.plateau}" if trail else cell.plateau)
        reached = all(cell.plateau == "reached" for cell in row.cells)
        at_plateau = "-" if row.mean is None else "not reached"
        if reached and row.mean is not None:
            at_plateau = estimate(row.mean, "pearson")
        lines.append([*line, at_plateau])
    return table(["recipe", *movies, "mean at its plateau"], lines[::-1])


def _aims(rows: list[Ranked], times: Times | None) -> str:
    means = {row.name: row.mean for row in rows if row.mean is not None}
    papers = {name: mean for name, mean in means.items() if name in PAPERS}
    lines = []
    for name in OWN:
        own = means.get(name)
        if own is None or not papers:
            lines.append(
                [f"the {name}'s mean Pearson is not below any paper's recipe", "not run", "-"]
            )
            continue
        best = max(papers, key=lambda one: papers[one].value)
        theirs = f"the best of theirs, `{best}`, {estimate(papers[best], 'pearson')}"
        aim = "is not below" if name == "student" else "is above"
        lines.append(
            [
                f"the {name}'s mean Pearson {aim} that of every paper's recipe",
                f"{estimate(own, 'pearson')}; {theirs}",
                _met(own, papers[best]),
            ]
        )
    lines.append(_time_aim(times))
    return table(["aim", "found", "met"], lines, numbers_from=3)


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
    if own.value < other.value:
        return "no" if own.ends[1] < other.ends[0] else "no, but the intervals overlap"
    return "yes" if own.ends[0] > other.ends[1] else "yes, but the intervals overlap"


def _from_to(values: Sequence[float]) -> str:
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low} to {high}"


def _median(values: Sequence[float]) -> str:
    return number(median(values) if values else None, "inference_ms")


def _all(texts: Iterable[str]) -> str:
    """Return what the folds have in common, or all of it."""
    return ", ".join(dict.fromkeys(texts))

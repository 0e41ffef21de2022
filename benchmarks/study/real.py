"""The section on real cells: every 2-D recipe with one movie left out, and what we had set ourselves."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from study.aims import aims_table
from study.markdown import LINE, estimate, from_to, number, paragraph, table
from study.opening import differences
from study.ranking import Ranked, kind_of, others, ranked, recalibrated_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from study.finished import Finished
    from study.times import Times

__all__ = ["real_section"]

_NESTED = Path(__file__).parent.parent / "results" / "nested.json"


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
            "Each recipe is trained on two movies of live H9c2 cells and scored on the third, "
            "which chose nothing, but for what is said of our teacher below. Pearson, mean over a "
            "movie's images, with the 95 % interval of a bootstrap over its frames. Mean: over the "
            "movies; the half widths of its interval are those of the movies in quadrature, over "
            "their number, so that it says how sure the mean over these three movies is, and "
            "nothing of a fourth. Control: what a blurred |brightfield - median| scores without "
            "learning. After the papers: built after a paper's or a later network, with settings "
            "that are ours (GVTNet's 2-D form with our flips, averaged weights and clipped "
            "gradients; fnet-2D in batches of 4; UNeXt2's kind on single planes)."
        ),
        _scores(rows, movies),
        *_caveats(finished, rows),
        *_recalibrated(finished, rows, movies),
        chart,
        paragraph(
            "What was trained. Budget: what the number of steps was chosen for, in seconds of one "
            "core on a CPU and of the wall clock on a GPU; `-` where the recipe fixes its steps. "
            "Owed: seconds of wall time of what has to be trained before, a teacher or a network of "
            "simulated cells; the teacher's start had two cores. Wall times are of trainings that shared "
            "their cores with others, some at a low priority: budgets can be compared, wall times cannot."
        ),
        _trained(rows),
        *differences([cell for row in rows for cell in row.cells]),
        *_at_other_times(rows),
        paragraph(
            "At their own plateau: the held-out movie's Pearson at each look during the training "
            "(it chose nothing: every training ran to its last step). Reached: the second half "
            "moved by less than 0.03 and the last third gained less than 0.005. Schedule ended: "
            "the same, but the learning rate had gone to 0, so that the curve is flat by itself."
        ),
        _plateaus(rows, movies),
        paragraph("What we had set ourselves."),
        aims_table(rows, others(finished, movies), times),
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
        name = f"`{row.name}`{LINE}{row.about}"
        lines.append([name, kind_of(row.recipe), *by_movie, *ends])
    head = ["recipe", "whose", *movies, "mean", "control", "gain over control"]
    return table(head, lines, numbers_from=2)


def _caveats(finished: Finished, rows: list[Ranked]) -> Iterable[str]:
    """Say what is not as equal, or as blind, as the table looks."""
    there = {row.recipe: row for row in reversed(rows)}
    if there.keys() & {"teacher", "student"}:
        yield paragraph(
            "For the teacher, and so for the student, the movie left out is not wholly unseen. The "
            "teacher's 400 steps were the best of five candidates in the mean over all ordered "
            "pairs of the three movies (benchmarks/results/nested.json, with another start), so "
            "they are not nested: two of the three folds alone would have chosen 800. Both begin "
            "with simulated cells (profile h9c2-60x) whose numbers were set with the spectra of "
            "these movies in view (docs/decisions/0023-simulated-cells.md), though by no score and "
            "no pixel of theirs. `unet16` and `slim-4` are without all that: they begin with "
            "random weights, and their steps are what the time buys."
        )
        yield paragraph(
            "The teacher that is shipped (models/teachers/h9c2-omp25-best) is of the same recipe but for "
            f"its start, which is the demo's model: {_nested()}, with the steps chosen within each fold "
            "(benchmarks/nested.py). The start of this table was tried as a better one, was no better, "
            "and was not taken up."
        )
    fnet = there.get("fnet2d")
    settled = finished.recalibrated.estimate("real", "fnet2d", "pearson")
    mean = None if fnet is None else fnet.mean
    if fnet is None or mean is None or mean.control is None or settled is None:
        return
    if mean.value < mean.control < settled.value:
        steps = max(cell.steps for cell in fnet.cells)
        yield paragraph(
            f"fnet-2D in {steps} steps of batch {fnet.cells[0].batch_size} is below the control because "
            "the running statistics of its batch normalisation, which predictions use, have not settled "
            f"(recalibrated, it has {estimate(settled, 'pearson')}: see the next table), and not because "
            "its weights have learnt nothing. Its place in this table says little of the network."
        )


def _recalibrated(finished: Finished, rows: list[Ranked], movies: tuple[str, ...]) -> Iterable[str]:
    """Tell what unsettled BatchNorm statistics cost each recipe."""
    again = {row.name: row for row in recalibrated_rows(finished, movies)}
    lines = []
    for row in rows:
        other = again.get(row.name)
        if other is None or row.name != row.recipe:
            continue
        by_movie = [
            estimate(other.by_movie[movie], "pearson") if movie in other.by_movie else "not run"
            for movie in movies
        ]
        before = "-" if row.mean is None else number(row.mean.value, "pearson")
        ends = ["-", "-"]
        if row.mean is not None and other.mean is not None:
            change = f"{other.mean.value - row.mean.value:+.3f}"
            ends = [f"**{estimate(other.mean, 'pearson')}**", change]
        lines.append([f"`{row.recipe}`", *by_movie, before, *ends])
    if lines:
        yield paragraph(
            "The same models with the statistics of batch normalisation computed again, of the final "
            "weights, over crops of what was trained on (`livestain export --recalibrate`; Wu and "
            "Johnson 2021, arXiv 2105.07576). The weights are the same. Recipes whose networks have no batch "
            "normalisation, or that were not tried, have no row."
        )
        heads = ["recipe", *movies, "mean as trained", "mean recalibrated", "difference"]
        yield table(heads, lines, numbers_from=1)


def _nested() -> str:
    """Return the earlier, nested scores of the teacher, by movie."""
    told = json.loads(_NESTED.read_text(encoding="utf-8"))["folds"]
    scores = (
        f"{fold['scores']['by_movie'][movie]['pearson']:.3f} on {movie}"
        for movie, fold in told.items()
    )
    return ", ".join(scores)


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
                from_to([c.wall_seconds for c in cells]),
                from_to([c.owed_seconds for c in cells]),
                _median([c.inference_ms for c in cells if c.inference_ms is not None]),
                _all(c.inference_of or "-" for c in cells),
            ]
        )
    head = [
        "recipe",
        "parameters",
        "steps",
        "samples",
        "budget, s",
        "wall time, s",
        "owed, s",
        "a prediction",
        "of",
    ]
    return table(head, lines[::-1])


def _at_other_times(rows: list[Ranked]) -> list[str]:
    fixed = [row.recipe for row in rows if any(cell.budget_seconds is None for cell in row.cells)]
    if not fixed:
        return []
    return [
        paragraph(
            "Not at equal time, since the recipe says how many steps there are: "
            f"{', '.join(dict.fromkeys(fixed))}. To their own time comes what they owe."
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
        states = {cell.plateau for cell in row.cells}
        at_plateau = "-"
        if row.mean is not None:
            at_plateau = (
                estimate(row.mean, "pearson") if states == {"reached"} else _least_arrived(states)
            )
        lines.append([*line, at_plateau])
    return table(["recipe", *movies, "mean at its plateau"], lines[::-1])


def _least_arrived(states: set[str]) -> str:
    order = ("not reached", "not looked at", "schedule ended")
    return next((state for state in order if state in states), "-")


def _median(values: Sequence[float]) -> str:
    return number(median(values) if values else None, "inference_ms")


def _all(texts: Iterable[str]) -> str:
    """Return what the folds have in common, or all of it."""
    return ", ".join(dict.fromkeys(texts))

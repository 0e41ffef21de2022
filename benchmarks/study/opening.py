"""How the page begins, and how it ends: what was run, how to read it, and every cell."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from study.markdown import LINE, number, paragraph, table
from study.plan import CELLS, cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from study.finished import CellResult, Finished

__all__ = [
    "PREFACE",
    "changes",
    "differences",
    "every_cell",
    "hardware",
    "how_to_read",
    "what_was_run",
]

PREFACE = """\
# The study: four papers on one bench

Written by `python benchmarks/papers.py report` from the files under benchmarks/results/papers and from
benchmarks/study/claims.yaml; not to be edited by hand.

Which of the papers' methods should a laboratory deploy? Every recipe here is trained by the same trainer on
the same data and scored by the same code, on images that no training saw; where it is not for the same time,
the page says so. Each claim of the papers that has a number or an order has a row, with our numbers beside
theirs.
"""

HOW = """\
## How to read it

- Our cells, data, microscope and training time are not the papers'. A number of ours that is higher or
  lower than theirs says nothing; whether two methods come in the same **order** does.
- Numbers in brackets are 95 % intervals. Of real cells: a bootstrap over the frames of the movie that was
  left out, so of that movie alone. Of simulated dishes, for scores and for numbers of objects: Student's t
  over the dishes, since planes of one dish are not independent; fewer than three dishes have none.
- **same**: in each comparison the intervals of the two numbers are apart, the paper's way round.
  **different**: in one or more they are apart the other way round. **not told apart**: neither, or a number
  has no interval. The images of both are the same, so that a paired comparison might tell more of them
  apart; ours errs to the safe side.
- The intervals hold for one training of each: another random start, or a few steps more, is not in them.
  {jumps}A verdict **(not at plateau)** compares trainings of which one or more had not arrived: it is of
  this many steps and no more. **(plateau not known)**: the learning rate went to 0 ("schedule ended"), which
  makes any curve flat at its end, or nothing was looked at.
- **recalibrated**: the same weights, with the running statistics of batch normalisation computed again over
  the training data (`livestain export --recalibrate`). During a short training these follow weights that
  change, over few images, so that they are of no one network. The papers' recipes do not do it: verdicts
  without that word are of the recipes as they are, those with it of what the weights had learnt.
- Quantiles have no intervals of their own. They are compared with the half widths of the mean's, which are
  rather too narrow.
- "a = b within 0.03": the interval of the difference lies within 0.03. "a not above b + 0.03": it lies below
  0.03; how far below does not matter.
- **not run**: no cell answers to it, or its cell has no result yet. **no order**: a number alone is
  claimed, or what is claimed cannot be judged here.
- At equal time a large network sees fewer samples than a small one. What a recipe would reach in the end is
  not told here, except where a training had reached its plateau.
"""


def how_to_read(scales: Sequence[Finished]) -> str:
    """Return what the words and brackets of the tables mean."""
    falls = [
        before - after
        for finished in scales
        for cell in finished.cells
        if cell.plateau == "not reached"
        for (_, before), (_, after) in itertools.pairwise(cell.looks)
    ]
    jumps = ""
    if falls and max(falls) >= 0.01:
        jumps = (
            f"Between two looks at a training its Pearson falls by up to {max(falls):.2f} here. "
        )
    blocks = HOW.format(jumps=jumps).split("\n- ")
    items = (paragraph(f"- {one}", indent="  ") for one in blocks[1:])
    return f"{blocks[0]}\n{''.join(items)}"


def what_was_run(scales: Sequence[Finished]) -> str:
    """Return a table with a column a scale."""
    if not scales:
        return "Nothing yet: there are no result files.\n"
    rows = [
        ["hardware", *(LINE.join(hardware(one)) for one in scales)],
        ["versions", *(LINE.join(_versions(one)) for one in scales)],
        ["cells finished", *(_finished_of_all(one) for one in scales)],
        ["training, in total", *(_hours(one) for one in scales)],
        ["seconds a training may take", *(_budgets(one) for one in scales)],
        ["dates", *(_dates(one) for one in scales)],
        ["commands", *(LINE.join(_commands(one)) for one in scales)],
    ]
    return table(["", *(f"scale {one.scale}" for one in scales)], rows, numbers_from=9)


def _unique(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts))


def hardware(finished: Finished) -> list[str]:
    """Return what the cells were computed on."""
    words = []
    for cell in finished.cells:
        told = cell.hardware
        device = told.get("device", "cpu")
        processor = f"{told.get('cpu', '?')}, {told.get('cores', '?')} cores"
        words.append(processor if device == "cpu" else f"{device} ({processor})")
    return _unique(words)


def _versions(finished: Finished) -> list[str]:
    return _unique(
        ", ".join(f"{name} {version}" for name, version in cell.versions.items())
        for cell in finished.cells
    )


def _planned(finished: Finished) -> list[tuple[str, str]]:
    order = list(CELLS)
    planned = [(cell.study, cell.name) for cell in cells(finished.scale)]
    return sorted(planned, key=lambda one: order.index(one[0]))


def _finished_of_all(finished: Finished) -> str:
    planned = set(_planned(finished))
    there = {(cell.study, cell.cell) for cell in finished.cells}
    text = f"{len(planned & there)} of {len(planned)}"
    return text + (f", and {len(there - planned)} more" if there - planned else "")


def _hours(finished: Finished) -> str:
    hours = sum(cell.wall_seconds for cell in finished.cells) / 3600
    return f"{hours:.1f} h of wall time, trainings beside each other counted each"


def _budgets(finished: Finished) -> str:
    clock = "of one core's processor time" if finished.scale == "cpu" else "of wall time"
    told = []
    for study in CELLS:
        seconds = {cell.budget_seconds for cell in finished.of(study) if cell.budget_seconds}
        if seconds:
            told.append(f"{study}: {', '.join(f'{s:,.0f}' for s in sorted(seconds))}")
    return f"{'; '.join(told)}; {clock}" if told else "-"


def _dates(finished: Finished) -> str:
    days = _unique(cell.when[:10] for cell in finished.cells)
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _commands(finished: Finished) -> list[str]:
    return [f"`{command}`" for command in _unique(cell.command for cell in finished.cells)]


def changes(keys: Mapping[str, object]) -> str:
    """Return keys of a recipe that differ from the paper's, and their values; "-" where none does."""
    return ", ".join(f"`{key}` {_value(value)}" for key, value in keys.items()) or "-"


def _value(value: object) -> str:
    if isinstance(value, dict):
        # Of a target, its channel says what is meant.
        if "channel" in value:
            return str(value["channel"])
        return f"({', '.join(f'{key} {_value(one)}' for key, one in value.items())})"
    if isinstance(value, list | tuple):
        return (
            ", ".join(map(_value, value))
            if len(value) < 2
            else f"[{', '.join(map(_value, value))}]"
        )
    return "none" if value is None else str(value)


def differences(found: Sequence[CellResult]) -> Iterable[str]:
    """Say what differs from the papers' recipes: for the question's sake, and for the scale's."""
    for words, kind in (
        ("Set for our data or the question, and not as in the paper's recipe", "changes"),
        ("Smaller here than in the paper's recipe", "reduced"),
    ):
        names: dict[str, list[str]] = {}
        for cell in found:
            keys: Mapping[str, object] = getattr(cell, kind)
            for key, value in keys.items():
                names.setdefault(changes({key: value}), []).append(cell.recipe)
        groups: dict[tuple[str, ...], list[str]] = {}
        for change, recipes in names.items():
            groups.setdefault(tuple(dict.fromkeys(recipes)), []).append(change)
        all_of_them = {cell.recipe for cell in found}
        told = [
            f"{', '.join(group)} ({'all' if set(recipes) == all_of_them else ', '.join(recipes)})"
            for recipes, group in groups.items()
        ]
        if told:
            yield paragraph(f"{words}: {'; '.join(told)}.")


def every_cell(finished: Finished) -> str:
    """Return a table of all finished cells, and the names of those that are not."""
    rows = [
        [
            cell.study,
            f"`{cell.cell}`",
            f"{cell.steps:,}",
            f"{cell.batch_size}",
            f"{cell.samples:,}",
            number(cell.wall_seconds, "wall_seconds"),
            number(cell.owed_seconds, "wall_seconds"),
            cell.plateau,
            cell.schedule or "-",
            f"{cell.parameters:,}",
            number(cell.inference_ms, "inference_ms"),
            cell.inference_of or "-",
            changes(cell.changes),
            changes(cell.reduced),
            f"`{cell.commit[:7]}`" if cell.commit else "-",
        ]
        for cell in sorted(finished.cells, key=lambda c: (list(CELLS).index(c.study), c.cell))
    ]
    there = {(cell.study, cell.cell) for cell in finished.cells}
    missing = [f"`{name}`" for study, name in _planned(finished) if (study, name) not in there]
    text = table(
        [
            *("study", "cell", "steps", "batch", "samples", "wall time", "owed before", "plateau"),
            *("learning rate", "parameters", "a prediction", "of", "set for the question"),
            *("smaller than the paper's", "commit"),
        ],
        rows,
        numbers_from=2,
    )
    return text + (f"\nNot run: {', '.join(missing)}.\n" if missing else "")

"""How the page begins, and how it ends: what was run, how to read it, and every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.markdown import LINE, number, table
from study.plan import CELLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from study.finished import Finished

__all__ = ["HOW", "PREFACE", "changes", "every_cell", "hardware", "what_was_run"]

PREFACE = """\
# The study: four papers on one bench

Written by `python benchmarks/papers.py report` from the files under benchmarks/results/papers and from
benchmarks/study/claims.yaml; not to be edited by hand.

Which of the papers' methods should a laboratory deploy? Every recipe here is trained by the same trainer on
the same data for the same time and scored by the same code, on images that no training saw. Each claim of
the papers that has a number or an order has a row, with our numbers beside theirs.
"""

HOW = """\
## How to read it

- Our cells, data, microscope and training time are not the papers'. A number of ours that is higher or
  lower than theirs says nothing; whether two methods come in the same **order** does.
- Numbers in brackets are 95 % intervals: of a bootstrap over frames for scores; exact for a Poisson count for
  numbers of objects (rather too narrow, since objects of one field are not independent). They hold for one
  training of each: another random start is not in them.
- **same**: in each comparison the intervals of the two numbers are apart, the paper's way round.
  **different**: in one or more they are apart the other way round. **not told apart**: neither. The images
  of both are the same, so that a paired comparison might tell more of them apart; ours errs to the safe
  side. Numbers without an interval are compared as they are.
- Quantiles have no intervals of their own. They are compared with the half widths of the mean's, which are
  rather too narrow.
- "a = b within 0.03": the interval of the difference lies within 0.03.
- **not run**: no cell answers to it, or its cell has no result yet. **no order**: a number alone is
  claimed.
- At equal time a large network sees fewer samples than a small one. What a recipe would reach in the end is
  not told here, except where a training had reached its plateau.
"""


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


def _finished_of_all(finished: Finished) -> str:
    planned = {(study, name) for study, names in CELLS.items() for name in names}
    there = {(cell.study, cell.cell) for cell in finished.cells}
    text = f"{len(planned & there)} of {len(planned)}"
    return text + (f", and {len(there - planned)} more" if there - planned else "")


def _hours(finished: Finished) -> str:
    hours = sum(cell.wall_seconds for cell in finished.cells) / 3600
    return f"{hours:.1f} h of wall time, trainings beside each other counted each"


def _budgets(finished: Finished) -> str:
    clock = "of one core's processor time" if finished.scale == "cpu" else "of wall time"
    seconds = {(cell.study, cell.budget_seconds) for cell in finished.cells if cell.budget_seconds}
    real = _unique(f"{s:,.0f}" for study, s in seconds if study == "real")
    other = _unique(f"{s:,.0f}" for study, s in seconds if study != "real")
    told = [f"{', '.join(real)} (all 2-D recipes on real cells)"] if real else []
    told += [f"{', '.join(other)} (the papers' comparisons)"] if other else []
    return f"{'; '.join(told)}, {clock}" if told else "-"


def _dates(finished: Finished) -> str:
    days = _unique(cell.when[:10] for cell in finished.cells)
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _commands(finished: Finished) -> list[str]:
    return [f"`{command}`" for command in _unique(cell.command for cell in finished.cells)]


def changes(reduced: Mapping[str, object]) -> str:
    """Return the keys of a recipe that differ from the paper's, and their values; "-" where none does."""
    return ", ".join(f"`{key}` {value}" for key, value in reduced.items()) or "-"


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
            cell.plateau,
            f"{cell.parameters:,}",
            number(cell.inference_ms, "inference_ms"),
            cell.inference_of or "-",
            changes(cell.reduced),
            f"`{cell.commit[:7]}`",
        ]
        for cell in sorted(finished.cells, key=lambda c: (list(CELLS).index(c.study), c.cell))
    ]
    there = {(cell.study, cell.cell) for cell in finished.cells}
    missing = [f"`{n}`" for study, names in CELLS.items() for n in names if (study, n) not in there]
    text = table(
        [
            *("study", "cell", "steps", "batch", "samples", "wall time", "plateau", "parameters"),
            *("a prediction", "of", "smaller than the paper's", "commit"),
        ],
        rows,
        numbers_from=2,
    )
    return text + (f"\nNot run: {', '.join(missing)}.\n" if missing else "")

"""A table of scores, with what was trained and the control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.markdown import METRICS, estimate, number, table
from study.plan import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from study.finished import Finished

__all__ = ["Row", "score_table"]


@dataclass(frozen=True)
class Row:
    """One row of a table of scores.

    Attributes
    ----------
    label : str
    recipe : str
        Of the section's study.
    scored : str
        Key of the result's `scores`.
    """

    label: str
    recipe: str
    scored: str = "held-out"


def score_table(
    finished: Finished,
    study: str,
    rows: Sequence[Row],
    metrics: Sequence[str],
    *,
    head: str,
    truth: str = "",
) -> str:
    """Return a table of scores, with what was trained and the control; rows not of the scale are left out.

    Parameters
    ----------
    finished : Finished
    study : str
    rows : sequence of Row
    metrics : sequence of str
    head : str
        Of the first column.
    truth : str
        A metric that is also told against the target free of noise; none where empty.

    The first metric is also told with batch normalisation recalibrated, where that was tried.
    """
    columns = [head, "sets", "steps", *(METRICS[name].label for name in metrics)]
    if truth:
        columns.append(f"{METRICS[truth].label}, noise-free target")
    again = finished.recalibrated
    tried = any(cell.recalibrated for row in rows for cell in again.of(study, row.recipe))
    if tried:
        columns.append(f"{METRICS[metrics[0]].label}, recalibrated")
    # What a stack scores and what its planes score are not to be compared.
    controlled = "pearson" if "pearson" in metrics else metrics[0]
    columns.append(f"{METRICS[controlled].label}, control")
    planned = {cell.recipe for cell in cells(finished.scale) if cell.study == study}
    known = planned | {cell.recipe for cell in finished.of(study)}
    lines = []
    for row in rows:
        if row.recipe not in known:
            continue
        line = [row.label]
        for name in ("training_sets", "steps"):
            found = finished.estimate(study, row.recipe, name)
            line.append(number(None if found is None else found.value, name))
        for name in metrics:
            score = finished.estimate(study, row.recipe, name, on=row.scored)
            line.append(estimate(score, name))
        if truth:
            score = finished.estimate(study, row.recipe, truth, on=f"{row.scored} truth")
            line.append(estimate(score, truth))
        if tried:
            score = again.estimate(study, row.recipe, metrics[0], on=row.scored)
            line.append("-" if score is None else estimate(score, metrics[0]))
        found = finished.estimate(study, row.recipe, controlled, on=row.scored)
        line.append(number(None if found is None else found.control, controlled))
        lines.append(line)
    return table(columns, lines)

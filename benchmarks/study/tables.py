"""The study's page: docs/study.md, from the result files and the papers' claims.

It holds no time of its own making, so that the same files give the same page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from study.answer import answer
from study.cell import MOVIES
from study.chart import ChartPoint, pareto_chart
from study.claims import PAPERS, arrival, estimates, read_claims, verdict
from study.claims_table import JUDGED, claims_table, recalibrated
from study.finished import read_finished
from study.markdown import paragraph, table
from study.opening import (
    PREFACE,
    differences,
    every_cell,
    hardware,
    how_to_read,
    what_was_run,
)
from study.plan import cells
from study.ranking import kind_of, ranked
from study.real import real_section
from study.sections import PICTURE, SECTIONS
from study.times import SIZES, read_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from study.claims import Claim
    from study.finished import Finished
    from study.ranking import Ranked
    from study.times import Times

__all__ = ["study_page", "write_study"]

CLAIMS = Path(__file__).with_name("claims.yaml")

TITLES = {
    "somani": "Somani et al. 2021: pix2pix with the TN-weighted L1",
    "hsu": "Hsu et al. 2021: U-Net and GVTNet on z-stacks and time series",
    "ounkomol": "Ounkomol et al. 2017: fnet, structures from stacks of brightfield",
    "koelln": "Kölln et al. 2021: label2label",
}

DATA = {
    "somani": (
        "Real data, movie 009 left out. SSIM and PSNR are of planes that were brought to one range "
        "first (as `livestain evaluate` tells), so that their height cannot be compared with the "
        "paper's; their order can."
    ),
    "hsu": (
        "Simulated stacks and series (benchmarks/study/data.py), of dishes that no training saw. "
        "Pearson (the paper's r) is of whole stacks, as theirs; SSIM of planes. Their SSIM is one "
        "formula over a whole image, with means and variances of all of it and a range of 1; ours "
        "is the mean over windows of 11 pixels, of planes that were brought to one range first. So "
        "its height cannot be compared with the paper's, and its order only with care."
    ),
    "ounkomol": "Simulated stacks, at their own voxels in place of 0.3 um cubes.",
    "koelln": (
        "Two simulated labels of the mitochondria; the first also binds nucleus and cytoplasm, the "
        "second hardly."
    ),
}

CHART_ABOUT = "Pearson on movies never seen against the time of a prediction, all 2-D recipes"

PICTURE_ABOUT = "Simulated brightfield, and mitochondria and DNA predicted from it, in one picture"


def write_study(results: Path, docs: Path) -> None:
    """Write docs/study.md and the chart.

    Parameters
    ----------
    results : Path
        Folder of ``SCALE/STUDY/CELL.json``; ``pareto.json``, with what predictions take, lies beside it.
    docs : Path
        Gets ``study.md`` and ``images/study-pareto.svg``; of a second scale also
        ``images/study-pareto-SCALE.svg``.

    Raises
    ------
    DataError
        If a file is not the result of a cell.
    """
    page, charts = study_page(
        read_finished(results),
        read_claims(CLAIMS),
        read_times(results.parent / "pareto.json"),
        picture=(docs / PICTURE).exists(),
    )
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for name, chart in charts.items():
        (docs / name).write_text(chart, encoding="utf-8", newline="\n")
    (docs / "study.md").write_text(page, encoding="utf-8", newline="\n")


def study_page(
    scales: Sequence[Finished], claims: Sequence[Claim], times: Times | None, *, picture: bool
) -> tuple[str, dict[str, str]]:
    """Return the page and its charts.

    Parameters
    ----------
    scales : sequence of Finished
        In the page's order; never mixed in one table of scores.
    claims : sequence of Claim
    times : Times, optional
        Of predictions.
    picture : bool
        Whether `PICTURE` is there to be shown.

    Returns
    -------
    str
        Markdown.
    dict of str to str
        SVG, by its name under docs.
    """
    parts = [PREFACE]
    if scales:
        parts += ["## The answer\n", answer(scales, MOVIES, times)]
    parts += ["## What was run\n", what_was_run(scales), how_to_read(scales)]
    if scales:
        parts += ["## The papers' claims in short\n", _in_short(scales, claims)]
    charts: dict[str, str] = {}
    for place, finished in enumerate(scales):
        name = (
            "images/study-pareto.svg" if place == 0 else f"images/study-pareto-{finished.scale}.svg"
        )
        text, svg = _chart(finished, times, name)
        if svg:
            charts[name] = svg
        parts.append(f"## Scale {finished.scale}: {'; '.join(hardware(finished))}\n")
        parts.append("### Real cells, one movie left out\n")
        parts.append(real_section(finished, _planned_real(finished.scale), MOVIES, times, text))
        for paper in PAPERS:
            parts.append(f"### {TITLES[paper]}\n")
            parts.append(_paper(finished, paper, claims, picture=picture))
        parts.append(f"### Every cell of the scale {finished.scale}\n")
        parts.append(every_cell(finished))
    return "\n".join(parts), charts


def _paper(finished: Finished, paper: str, claims: Sequence[Claim], *, picture: bool) -> str:
    own = [claim for claim in claims if claim.paper == paper]
    parts = [
        paragraph(DATA[paper]),
        *differences(finished.of(paper)),
        claims_table(finished, own),
    ]
    if finished.of(paper):
        parts.append(SECTIONS[paper](finished, {claim.id: claim for claim in claims}))
    if paper == "ounkomol" and picture:
        parts.append(f"![{PICTURE_ABOUT}]({PICTURE})\n")
    return "\n".join(parts)


def _in_short(scales: Sequence[Finished], claims: Sequence[Claim]) -> str:
    rows = []
    for finished in scales:
        for paper in PAPERS:
            own = [claim for claim in claims if claim.paper == paper and not claim.repeats]
            name = TITLES[paper].partition(":")[0]
            rows.append([finished.scale, name, *_counted(finished, own)])
            tried = [claim for claim in own if recalibrated(claim, finished) is not None]
            if tried:
                counts = _counted(finished.recalibrated, tried)
                rows.append([finished.scale, f"{name}, recalibrated", *counts])
    head = ["scale", "paper", *JUDGED, "no order", "not run"]
    about = paragraph(
        "In brackets: how many of them are of trainings that had all reached their plateau; the "
        "others are of the steps that were made, and may turn. Recalibrated: of the claims whose cells were "
        "tried so, and of no others."
    )
    return f"{table(head, rows, numbers_from=2)}\n{about}"


def _counted(finished: Finished, claims: Sequence[Claim]) -> list[str]:
    found = [(_word(claim, finished), arrival(claim, finished) == "") for claim in claims]
    words = [word for word, _ in found]
    return [
        *(
            f"{words.count(word)} ({found.count((word, True))})" if words.count(word) else "0"
            for word in JUDGED
        ),
        *(str(words.count(word)) for word in ("no order", "not run")),
    ]


def _word(claim: Claim, finished: Finished) -> str:
    found = estimates(claim, finished)
    if not any(one is not None for one in found.values()):
        return "not run"
    return verdict(claim, finished).word


def _planned_real(scale: str) -> dict[str, str]:
    return {cell.recipe: cell.about for cell in cells(scale) if cell.study == "real"}


def _chart(finished: Finished, times: Times | None, name: str) -> tuple[str, str]:
    """Return the chart as Markdown and as SVG; where it cannot be drawn, a sentence and nothing."""
    rows = ranked(finished, _planned_real(finished.scale), MOVIES)
    if times is None:
        return (
            "There is no chart: benchmarks/results/pareto.json, with the times, is missing.\n",
            "",
        )
    points = [point for row in rows for point in _points(row, times)]
    if not points:
        return "There is no chart: no recipe has all movies and a time.\n", ""
    drawn = {point.name for point in points}
    backends = sorted({times.backend(point.name, point.size) for point in points})
    left_out = [row.name for row in rows if row.name not in drawn and row.recipe == row.name]
    control = next(row.mean.control for row in rows if row.mean is not None)
    text = paragraph(
        "Scores as trained; recalibrated ones are in the table above, if any. Times: uint16 in and "
        "uint16 out, by the fastest float32 backend of each "
        f"({', '.join(backends)}), since the scores are of float32; {times.hardware} "
        "(benchmarks/results/pareto.json), whatever the networks were trained on."
        + (
            f" Not drawn, for want of a movie or of a time: {', '.join(left_out)}."
            if left_out
            else ""
        )
    )
    text = f"![{CHART_ABOUT}]({name})\n\n{text}"
    return text, pareto_chart(points, control=control)


def _points(row: Ranked, times: Times) -> Iterable[ChartPoint]:
    # Eight views take eight times as long: the plain way is what is drawn.
    if row.mean is None or row.name != row.recipe:
        return
    for size in SIZES:
        ms = times.fastest(row.recipe, size)
        if ms is not None:
            low, high = row.mean.ends or (row.mean.value, row.mean.value)
            kind = kind_of(row.recipe)
            yield ChartPoint(row.name, size, ms, row.mean.value, low, high, kind)

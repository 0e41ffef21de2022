"""The evaluation as one HTML file that needs nothing else: tables, distributions, pictures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from livestain._version import __version__
from livestain.training.evaluation.figures import (
    DIFFERENCE_RANGE,
    SUBJECT_COLOURS,
    difference_scale_png,
    distribution_svg,
    panels_png,
)
from livestain.training.evaluation.page_tables import (
    flicker_table,
    html_table,
    metric_table,
    movie_table,
)
from livestain.training.evaluation.picture import RANGE_PERCENTILES
from livestain.training.evaluation.results import SUBJECTS
from livestain.training.evaluation.scores import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livestain.training.evaluation.compare import Example
    from livestain.training.evaluation.results import Evaluation

__all__ = ["page_text"]

_STYLE = """
:root { color-scheme: light; --ink: #1b1d22; --soft: #5c6069; --line: #d9dbe0; --predicted: PREDICTED; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0 auto;
  max-width: 1180px; padding: 24px 20px 60px; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { margin: 2.2rem 0 .5rem; font-size: 1.2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, li { max-width: 78ch; } .soft { color: var(--soft); font-size: .9rem; }
.warn { border-left: 4px solid #c77700; background: #fff6e6; padding: .5rem .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } tr.first td { border-top: 2px solid var(--line); }
td.prediction { color: var(--predicted); font-weight: 600; }
.row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px; margin: .4rem 0 1.2rem; }
figure { margin: 0; } figure img { width: 100%; display: block; image-rendering: pixelated;
  border: 3px solid transparent; }
figure.predicted img { border: 3px dashed var(--predicted); }
figcaption { font-size: .85rem; margin-top: .2rem; }
.predicted figcaption b { color: var(--predicted); }
svg { width: 100%; max-width: 780px; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .grid { stroke: var(--line); }
.scale { display: inline-flex; align-items: center; gap: .5rem; font-size: .85rem; }
.scale img { width: 220px; height: 12px; }
code { overflow-wrap: anywhere; }
@media (max-width: 700px) { .row { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
""".replace("PREDICTED", SUBJECT_COLOURS["prediction"])


def page_text(evaluation: Evaluation, examples: Iterable[Example]) -> str:
    """Return the page.

    Parameters
    ----------
    evaluation : Evaluation
        With its images.
    examples : iterable of Example
        Movie by movie; each is drawn before the next is asked for.
    """
    title = f"{evaluation.bundle}: {evaluation.output}"
    body = [
        f"<h1>{escape(title)}</h1>",
        (
            '<p class="soft">A model\'s predictions against recorded fluorescence. What is marked '
            f'<b style="color:{SUBJECT_COLOURS["prediction"]}">predicted</b> was computed, and is no '
            "measurement.</p>"
        ),
        *_warnings(evaluation),
        "<h2>Scores</h2>",
        metric_table(evaluation.by_metric),
        *(
            ["<h3>Of whole stacks</h3>", metric_table(evaluation.stacks)]
            if evaluation.stacks
            else []
        ),
        "<h2>By movie: Pearson correlation</h2>",
        movie_table(evaluation),
        flicker_table(evaluation),
        "<h2>Distribution over images</h2>",
        *_distributions(evaluation),
        "<h2>Images</h2>",
        *_image_lines(evaluation, examples),
        "<h2>How it was computed</h2>",
        *_declared(evaluation),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _warnings(evaluation: Evaluation) -> list[str]:
    lines = []
    seen = [name for name, movie in evaluation.by_movie.items() if movie.trained_on]
    if seen:
        lines.append(
            f"The model was trained on movies called {escape(', '.join(seen))}. If they are the same, their "
            "scores say nothing about other cells."
        )
    if len(evaluation.by_movie) < 2:
        lines.append("One movie: nothing here says how scores spread between movies.")
    elif len(evaluation.by_movie) < 6:
        lines.append(
            f"{len(evaluation.by_movie)} movies: intervals over movies are rough, and rather too narrow."
        )
    return [f'<p class="warn">{line}</p>' for line in lines]


def _distributions(evaluation: Evaluation) -> list[str]:
    lines = []
    for name, scores in evaluation.by_metric.items():
        if "_target" in name:
            continue
        values = {
            movie: {
                subject: [
                    getattr(image, subject)[name]
                    for image in evaluation.images
                    if image.movie == movie
                ]
                for subject in SUBJECTS
            }
            for movie in evaluation.by_movie
        }
        svg = distribution_svg(values, scores.label)
        if not svg:
            continue
        first = name == "pearson"
        lines.append(
            svg if first else f"<details><summary>{escape(scores.label)}</summary>{svg}</details>"
        )
    return [
        *lines,
        '<p class="soft">A dot is an image; a box holds the middle half, a bar is the median.</p>',
    ]


def _image_lines(evaluation: Evaluation, examples: Iterable[Example]) -> list[str]:
    low, high = RANGE_PERCENTILES
    lines = [
        (
            "<p>The worst, the median and the best image of each movie by Pearson correlation. Prediction "
            "and target are each at mean 0 and standard deviation 1, shown from the target's percentile "
            f"{low:g} to {high:g}; difference: predicted less measured of those, red where too much is "
            "predicted.</p>"
        ),
        (
            f'<p class="scale">-{DIFFERENCE_RANGE:g} sd <img src="{difference_scale_png()}" '
            f'alt="blue, white, red"> +{DIFFERENCE_RANGE:g} sd</p>'
        ),
    ]
    movie = None
    for example in examples:
        scores = example.scores
        if scores.movie != movie:
            movie = scores.movie
            lines.append(f"<h3>{escape(movie)}</h3>")
        where = scores.pair if scores.z is None else f"{scores.pair}, plane {scores.z}"
        height, width = example.target.shape
        lines.append(
            f"<div><b>{example.rank}</b>: {escape(where)}, Pearson {scores.prediction['pearson']:.3f} "
            f"(control {scores.control['pearson']:.3f}); {width * evaluation.pixel_size_um:.1f} x "
            f"{height * evaluation.pixel_size_um:.1f} um</div>"
        )
        panels = panels_png(example)
        words = {
            "brightfield": ("source", "Measured", f": {evaluation.source}"),
            "prediction": ("predicted", "PREDICTED", f" {evaluation.output}"),
            "target": ("target", "Measured", f": {evaluation.output}"),
            "difference": ("difference", "Difference", ": predicted less measured"),
        }
        figures = "".join(
            f'<figure class="{kind}"><img src="{panels[key]}" '
            f'alt="{escape(f"{bold}{rest}, {where}, {example.rank}", quote=True)}">'
            f"<figcaption><b>{bold}</b>{escape(rest)}</figcaption></figure>"
            for key, (kind, bold, rest) in words.items()
        )
        lines.append(f'<div class="row">{figures}</div>')
    return lines


def _declared(evaluation: Evaluation) -> list[str]:
    same = [name for name, other in evaluation.shuffled_other_frames.items() if not other]
    shuffled = (
        f" In {escape(', '.join(same))} some partners are of the same frame or of none."
        if same
        else ""
    )
    subjects = "".join(
        f"<li><b>{name}</b>: {escape(words)}.{shuffled if name == 'shuffled' else ''}</li>"
        for name, words in SUBJECTS.items()
    )
    names = list(evaluation.by_metric)
    chosen = [metric for metric in METRICS.values() if metric.columns[0].name in names]
    metrics = "".join(
        f"<li><b>{escape(', '.join(column.label for column in metric.columns))}</b>: "
        f"{escape(metric.about)}</li>"
        for metric in chosen
    )
    hashes = html_table(
        ("movie", "SHA-256 of its pixels"),
        (
            f"<tr><td>{escape(name)}</td><td><code>{sha}</code></td></tr>"
            for name, sha in evaluation.data_sha256.items()
        ),
    )
    split = f" Split: {escape(evaluation.split)}." if evaluation.split else ""
    views = (
        [
            (
                f"<p>Each prediction is the mean over {evaluation.views} views of the planes, mirrored and "
                "turned by quarters. Live runs predict once.</p>"
            )
        ]
        if evaluation.views != 1
        else []
    )
    return [
        *views,
        f"<p>Normalisation. {escape(evaluation.normalisation)}</p>",
        f"<p>Mitochondria: {escape(evaluation.segmentation)}.</p>",
        f"<ul>{subjects}</ul><ul>{metrics}</ul>",
        (
            f"<p>Pixel size {evaluation.pixel_size_um:g} um; unit of the prediction: "
            f"{escape(evaluation.unit)}.{split} livestain {escape(__version__)}, "
            f"{escape(evaluation.device)}, {escape(evaluation.backend)}.</p>"
        ),
        f"<p>Bundle <code>{evaluation.bundle_sha256}</code>.</p>",
        hashes,
    ]

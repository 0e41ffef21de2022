"""``livestain evaluate``: how like the truth a bundle's predictions are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from livestain.training import Evaluation

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A model: a name or a folder.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder with movie-NAME/{brightfield,mitochondria}/*.png (or .tif), or with stores.",
        ),
    ],
    movies: Annotated[
        list[str] | None,
        typer.Option("--movies", metavar="NAME", help="Score this movie alone. Repeatable."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="The output to score; the first if left out.")
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(
            "--pixel-size", metavar="UM", min=0.0, help="Of the data, if not the model's."
        ),
    ] = None,
    z_step: Annotated[
        float | None,
        typer.Option(
            "--z-step",
            metavar="UM",
            min=0.0,
            help="Of the data, if not the model's; for models of whole stacks.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where to predict: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    views: Annotated[
        int,
        typer.Option(
            "--views",
            metavar="N",
            help="With 8, average the predictions of the planes mirrored and turned by quarters, to see what "
            "that is worth; live runs predict once. Not for DIC.",
        ),
    ] = 1,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="NAMES",
            help="Some of: pearson, foreground_pearson, ssim, ms_ssim, psnr, nrmse, nmse, frc, mitochondria, "
            "flicker; with commas between. All if left out.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="SIDE",
            help="Score this side of the training's split alone: train, validation or test.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="The training's folder, which has the split."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            metavar="FILE.html",
            help="Write tables, and the worst, median and best image of each movie.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE.csv", help="Write the numbers of every image."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over these files if they are there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a model's predictions with recorded fluorescence, beside two controls.

    Control: no learning, |brightfield - median| blurred by 6 pixels. Shuffled: the prediction against the
    target of another pair of its movie. Means: over movies of the mean over images. In brackets: 95 %
    bootstrap intervals over frames.
    """
    from rich.console import Console
    from rich.progress import Progress

    from livestain.bundle import find_bundle
    from livestain.training import evaluate_bundle

    console = Console(stderr=True)
    model = find_bundle(bundle)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("images", total=None)
        found = evaluate_bundle(
            model,
            data,
            movies=movies or None,
            output=output,
            device=device,
            pixel_size_um=pixel_size,
            z_step_um=z_step,
            views=views,
            metrics=metrics.split(",") if metrics is not None else None,
            split=split,
            run=run,
            page=page,
            csv=csv,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    seen = [name for name, movie in found.by_movie.items() if movie.trained_on]
    if seen:
        typer.echo(
            f"livestain: {found.bundle} was trained on movies called {', '.join(seen)}: if they are the "
            "same, their scores say nothing about other cells.",
            err=True,
        )
    for path in (page, csv):
        if path is not None:
            typer.echo(f"Written: {path}", err=True)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), allow_nan=False))
    else:
        _show(found)


def _show(found: Evaluation) -> None:
    from rich.console import Console

    from livestain.training.evaluation.scores import METRICS

    console = Console()
    console.print(_pearson_table(found))
    if len(found.by_metric) > 1:
        console.print(_metric_table(found))
    for name, metric in METRICS.items():
        scores = [found.by_metric.get(column.name) for column in metric.columns]
        if all(one is not None and one.overall.prediction.n == 0 for one in scores):
            console.print(f"No {name} of these images: {metric.about}", highlight=False)
    for line in _flicker_lines(found):
        console.print(line)
    if len(found.by_movie) > 1:
        interval = found.by_metric["pearson"].overall.prediction.interval_movies
        if interval is not None:
            console.print(
                f"Pearson over {len(found.by_movie)} movies: 95 % bootstrap interval {interval[0]:.3f} to "
                f"{interval[1]:.3f}; of few movies it is rough, and rather too narrow."
            )


def _pearson_table(found: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    averaged = f", means over {found.views} views" if found.views != 1 else ""
    table = Table(title=escape(f"{found.bundle}: {found.output}, Pearson correlation{averaged}"))
    for column in ("movie", "images", "frames", "prediction", "control", "gain", "shuffled"):
        table.add_column(column, justify="left" if column == "movie" else "right")
    scores = found.by_metric["pearson"]

    def cell(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"

    for name, movie in found.by_movie.items():
        table.add_row(
            escape(name),
            str(movie.n),
            str(movie.frames),
            cell(movie.pearson, movie.interval),
            cell(movie.control, movie.control_interval),
            cell(movie.pearson - movie.control, movie.gain_interval),
            _number(scores.by_movie[name].shuffled.mean, 3),
        )
    table.add_section()
    table.add_row(
        "all",
        str(sum(movie.n for movie in found.by_movie.values())),
        str(sum(movie.frames for movie in found.by_movie.values())),
        cell(found.pearson, found.interval),
        cell(found.control, found.control_interval),
        cell(found.pearson - found.control, found.gain_interval),
        _number(scores.overall.shuffled.mean, 3),
    )
    return table


def _metric_table(found: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="All images: quantiles of the prediction, medians of the controls",
        caption=escape(f"{found.normalisation} Mitochondria: {found.segmentation}."),
        caption_justify="left",
    )
    table.add_column("metric")
    for column in ("5 %", "25 %", "50 %", "75 %", "95 %", "control", "shuffled"):
        table.add_column(column, justify="right", no_wrap=True)
    for scores in found.by_metric.values():
        overall = scores.overall
        controls = (overall.control.quantiles, overall.shuffled.quantiles)
        table.add_row(
            escape(scores.label),
            *(_number(q, scores.digits) for q in overall.prediction.quantiles or (None,) * 5),
            *(_number(q[2] if q else None, scores.digits) for q in controls),
        )
    return table


def _flicker_lines(found: Evaluation) -> list[str]:
    return [
        f"Flicker of {name}: prediction {item.prediction:.3f}, target {item.target:.3f} (frame); "
        f"{item.pixel_prediction:.3f}, {item.pixel_target:.3f} (pixel), in units of the film's contrast."
        for name, item in found.flicker.items()
        if item is not None
    ]


def _number(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}"

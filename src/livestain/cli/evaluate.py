"""``livestain evaluate``: how like the truth a bundle's predictions are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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
    device: Annotated[
        str, typer.Option("--device", help="Where to predict: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line.")
    ] = False,
) -> None:
    """Compare a model's predictions with recorded fluorescence, beside the no-learning control.

    Pearson correlation: the mean over movies of the mean over images. Intervals: 95 % bootstrap over
    frames.
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
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    seen = [name for name, movie in found.by_movie.items() if movie.trained_on]
    if seen:
        typer.echo(
            f"livestain: {found.bundle} was trained on movies called {', '.join(seen)}: if they are the "
            "same, their scores say nothing about other cells.",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        _show(found)


def _show(found: Evaluation) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{found.bundle}: {found.output}, Pearson correlation"))
    for column in ("movie", "images", "frames", "prediction", "control", "gain"):
        table.add_column(column, justify="left" if column == "movie" else "right")

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
        )
    table.add_section()
    table.add_row(
        "all",
        str(sum(movie.n for movie in found.by_movie.values())),
        str(sum(movie.frames for movie in found.by_movie.values())),
        cell(found.pearson, found.interval),
        cell(found.control, found.control_interval),
        cell(found.pearson - found.control, found.gain_interval),
    )
    Console().print(table)

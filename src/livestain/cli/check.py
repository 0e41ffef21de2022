"""``livestain check-data``: what a training would make of recorded pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.options import JsonOption
from livestain.cli.recipes import changed_recipe

if TYPE_CHECKING:
    from livestain.training.checks import CheckReport, Registration

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("check-data")(check_data)


def check_data(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE.yaml", help="A recipe's file, or the name of one of ours."),
    ],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Folder of movies, as for livestain train."),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Instead of the recipe's, as checks.registration=shift; values are YAML. Repeatable.",
        ),
    ] = None,
    movies: Annotated[
        list[str] | None,
        typer.Option("--movies", metavar="NAME", help="Check this movie alone. Repeatable."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="NAME", help="Do not check this movie. Repeatable."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE.png", help="Also draw what was found."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at recorded pairs as a training does before it begins, without training.

    Displacement between the channels, and pairs that are out of focus, saturated or empty. Ends with code 2
    where the recipe would refuse the data; the findings are told before.
    """
    from rich.console import Console
    from rich.progress import Progress

    from livestain.errors import DataError

    given = {"movies": movies, "leave_out": leave_out}
    settings = changed_recipe(recipe, changes or [], {k: v for k, v in given.items() if v})
    if picture is not None and picture.suffix.lower() != ".png":
        raise DataError(f"--picture writes PNG; given {picture}. Name a file that ends in .png.")
    from livestain.training.checks import run_checks
    from livestain.training.checks.picture import draw_checks
    from livestain.training.find import find_pairs
    from livestain.training.pairs import PairSpec

    console = Console(stderr=True)
    with (
        find_pairs(data, PairSpec.of_recipe(settings)) as found,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        chosen = found.select(settings.movies, leave_out=settings.leave_out)
        task = bar.add_task("pairs", total=None)
        report = run_checks(
            chosen,
            settings,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            refuse=False,
        )
        if picture is not None:
            draw_checks(report).save(picture, format="PNG")
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        _show(report)
    report.refuse()


def _show(report: CheckReport) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title="Displacement of the target against its source")
    for column in (
        "movie",
        "target",
        "displacement",
        "95 % y, px",
        "95 % x, px",
        "pairs that tell",
    ):
        # Names and reasons are broken where there is no room, and never cut.
        table.add_column(column, overflow="fold")
    far = report.beyond()
    for one in report.registration:
        words = report.words(one) + (f": {one.why_not}" if not one.told else "")
        table.add_row(
            escape(one.movie),
            escape(one.target),
            words + (" (beyond the tolerance)" if one in far else ""),
            _interval(one.interval_y_px, one),
            _interval(one.interval_x_px, one),
            f"{sum(pair.told for pair in one.pairs)} of {len(one.pairs)}",
        )
    if report.registration:
        console.print(table)
    for bad in report.bad:
        console.print(
            f"{bad.kind}: {escape(bad.movie)}, {escape(bad.pair)}: {escape(bad.why)}",
            highlight=False,
        )
    without = report.recorded.without_pairs
    if without:
        console.print(f"No pairs in: {escape(', '.join(without))}.", highlight=False)
    for problem in report.problems:
        console.print(escape(problem), highlight=False)
    if not report.bad and not report.problems:
        console.print(f"None of {len(report.recorded.pairs)} pairs is bad.", highlight=False)


def _interval(interval: tuple[float, float] | None, one: Registration) -> str:
    if interval is None or not one.told:
        return "-"
    return f"{interval[0]:.1f} to {interval[1]:.1f}"

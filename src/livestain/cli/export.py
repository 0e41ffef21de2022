"""``livestain export``: from a finished training to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export")(export)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished training.")],
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder to write.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Short name, instead of the recipe's.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Instead of the recipe's.")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="SPDX", help="Of the weights, instead of the recipe's."),
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option("--author", help="Instead of the recipe's. Repeatable.")
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Output of livestain evaluate --json, for the card. Repeatable.",
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option(help="Write weights.onnx too.")] = True,
    recalibrate: Annotated[
        Path | None,
        typer.Option(
            "--recalibrate",
            metavar="DATA",
            help="The data that was trained on: statistics of batch normalisation are computed anew over it. "
            "Worth trying after a short training.",
        ),
    ] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            "--int8",
            metavar="DATA",
            help="The data that was trained on: 8-bit weights too, calibrated on it, if they cost less "
            "Pearson correlation than --int8-bound.",
        ),
    ] = None,
    int8_bound: Annotated[
        float, typer.Option("--int8-bound", help="The Pearson correlation that int8 may cost.")
    ] = 0.005,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bundle that is there.")
    ] = False,
) -> None:
    """Write a training's averaged weights as a bundle: a bioimage.io model that stains live."""
    from livestain.cli.counting import counted
    from livestain.training import export_run

    with counted("batches, recalibrating") as (_, tick):
        bundle = export_run(
            run,
            out,
            name=name,
            title=title,
            licence=licence,
            authors=author or (),
            scores=scores or (),
            onnx=onnx,
            recalibrate_on=recalibrate,
            int8=int8,
            int8_bound=int8_bound,
            tell=lambda words: typer.echo(f"livestain: {words}", err=True),
            tick=tick,
            overwrite=overwrite,
        )
    typer.echo(f"{bundle.name} ({bundle.licence}): {bundle.path}")

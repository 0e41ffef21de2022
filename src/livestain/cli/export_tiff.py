"""``livestain export-tiff``: a run as OME-TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("export-tiff")(export_tiff)


def export_tiff(
    store: Annotated[Path, typer.Argument(help="The store, RUN.ome.zarr.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="RUN.ome.tif; beside the store if left out. One file a position."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    compress: Annotated[
        bool, typer.Option("--compress", help="Without loss; smaller and slower.")
    ] = False,
) -> None:
    """Write the planes of STORE as OME-TIFF, for programs that do not read OME-Zarr; STORE stays as it is."""
    from livestain.cli.counting import counted
    from livestain.store import export_tiff as write_tiff

    with counted("planes") as (_, count):
        done = write_tiff(
            store,
            out,
            overwrite=overwrite,
            compress=compress,
            progress=count,
        )
    for file in done.files:
        typer.echo(str(file))
    if done.holes:
        typer.echo(
            f"{done.holes} places have no plane and no page, {done.missing} of them planned; other programs "
            "show them black."
        )

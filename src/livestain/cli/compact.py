"""``livestain compact``: the planes of a finished run in fewer, larger files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livestain.cli.options import BreakLockOption, JsonOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("compact")(compact)


def compact(
    store: Annotated[Path, typer.Argument(help="The store, RUN.ome.zarr, of a run that is over.")],
    file_mb: Annotated[
        float,
        typer.Option(
            "--file-mb",
            help="Megabytes of pixels in one file, uncompressed; held in memory while it is written.",
        ),
    ] = 64.0,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished",
            help="Also a run that livestain resume could still go on with; it cannot afterwards.",
        ),
    ] = False,
    break_lock: BreakLockOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge the planes of STORE into fewer, larger files, which are quicker to copy; no pixel changes.

    Each plane is compared before its old file is removed. What is owed can still be predicted afterwards.
    """
    from dataclasses import asdict

    from livestain.cli.counting import counted
    from livestain.cli.driving import print_json
    from livestain.store import compact_store

    with counted("planes") as (_, count):
        done = compact_store(
            store,
            file_mb=file_mb,
            unfinished=unfinished,
            break_lock=break_lock,
            progress=count,
        )
    if as_json:
        print_json(asdict(done))
        return
    if not done.planes:
        typer.echo(f"There is nothing to do: the planes lie in {done.files_after:,} files already.")
        return
    typer.echo(
        f"{done.planes} planes: {done.files_before:,} files ({done.bytes_before / 1e6:,.1f} MB) are now "
        f"{done.files_after:,} ({done.bytes_after / 1e6:,.1f} MB)."
    )

"""``livestain report``: how a run went, as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from livestain.cli.options import JsonOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("report")(report)


def report(
    store: Annotated[Path, typer.Argument(help="The store, RUN.ome.zarr.")],
    as_json: JsonOption = False,
) -> None:
    """Write how a run went: RUN.report.html and RUN.report.json, beside the store.

    Planes, what was owed when, latency by stage, lateness, light, and why planes are missing; from the
    store and its journal alone, also while the run goes on or after a crash.
    """
    from livestain.monitor.history import run_history
    from livestain.monitor.run_page import write_report

    history = run_history(store.absolute())
    numbers, page = write_report(history)
    if as_json:
        typer.echo(json.dumps(history.to_dict()))
    else:
        typer.echo(f"{page}\n{numbers}")

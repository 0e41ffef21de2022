"""``livestain restain``: what a store is owed is predicted now."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from livestain.cli.devices import DeviceOption
from livestain.cli.options import JsonOption, MovedModelOption, ThreadsOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("restain")(restain)


def restain(
    store: Annotated[Path, typer.Argument(help="The store, RUN.ome.zarr, of a run that is over.")],
    model: MovedModelOption = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Try planes too that were skipped, or on which the model failed."
        ),
    ] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict what is still owed in STORE, by the models that its run began with.

    After --leave-owed, Ctrl-C or a crash. Planes that are there are never touched. Exit code 0: nothing is
    owed any more; 1: the model failed on planes; 130: interrupted.
    """
    from rich.console import Console
    from rich.progress import Progress

    from livestain.cli.codes import EXIT_DONE, EXIT_INTERRUPTED, EXIT_MISSING
    from livestain.cli.driving import print_json
    from livestain.cli.interrupts import Interrupts
    from livestain.cli.run import parse_models
    from livestain.restain import restain as stain_owed

    console = Console(stderr=True)
    stop = threading.Event()
    with Progress(console=console) as bar, Interrupts(stop):
        task = bar.add_task("stained", total=None)
        report = stain_owed(
            store,
            models=parse_models(model or []),
            again=again,
            device=device,
            threads=threads,
            stop=stop,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            tell=lambda note: bar.console.print(f"livestain: {note}", markup=False),
        )
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(
            f"{report.planes_stained} planes stained in {report.seconds:.1f} s; {report.planes_owed} are "
            f"still owed, {report.planes_given_up} are skipped or impossible."
        )
        if report.planes_waiting:
            typer.echo(
                f"{report.planes_waiting} cannot be predicted: the run ended before their source planes came."
            )
        for note in report.notes:
            typer.echo(f"  {note}")
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_MISSING if report.planes_owed or report.planes_failed else EXIT_DONE)

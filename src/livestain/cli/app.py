"""The command ``livestain``: its verbs, its exit codes, and how errors are told."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from livestain._version import __version__
from livestain.cli import (
    bench,
    check,
    compact,
    demo,
    evaluate,
    export,
    export_tiff,
    models,
    report,
    restain,
    resume,
    simulate,
    snap,
    status,
    train,
    verify,
)
from livestain.cli import run as run_verb
from livestain.cli.codes import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED
from livestain.errors import LivestainError

__all__ = ["app", "run"]

app = typer.Typer(
    name="livestain",
    help="Live digital staining for Micro-Manager: predicts fluorescence from brightfield while a run "
    "goes on, beside the raw planes in one OME-Zarr.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"livestain {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that belong to no verb."""


for verb in (
    demo,
    run_verb,
    snap,
    status,
    report,
    resume,
    restain,
    compact,
    export_tiff,
    simulate,
    check,
    train,
    evaluate,
    export,
    verify,
    models,
    bench,
):
    verb.register(app)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is told in one sentence."""
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        typer.echo("livestain: interrupted.", err=True)
        return EXIT_INTERRUPTED
    except LivestainError as error:
        if os.environ.get("LIVESTAIN_DEBUG"):
            raise
        typer.echo(f"livestain: {error}", err=True)
        return EXIT_BAD_INPUT
    except OSError as error:
        if os.environ.get("LIVESTAIN_DEBUG"):
            raise
        where = f" {error.filename}" if error.filename else ""
        typer.echo(f"livestain: cannot use{where}: {error.strerror or error}.", err=True)
        return EXIT_BAD_INPUT
    finally:
        sys.stdout.flush()
    return EXIT_DONE

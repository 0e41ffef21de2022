"""``livestain simulate``: paired data sets without a microscope, with their truth."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livestain.cli.options import JsonOption

if TYPE_CHECKING:
    from livestain.simulating import MovieSettings, SimulationReport

__all__ = ["register"]

_USUAL_MOVIES = 3


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("simulate")(simulate)


def simulate(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the movies.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="What is usual where the options below do not say it: 2d (4 fields), stack (2 fields of 11 "
            "planes) or time (20 time points).",
        ),
    ] = "2d",
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="NAME | FILE.yaml", help="Cells and microscope; see --list."
        ),
    ] = None,
    movies: Annotated[
        int,
        typer.Option(
            "--movies", min=1, help="Dishes, one store each: what a training is split by."
        ),
    ] = _USUAL_MOVIES,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the first movie; the others have the next.")
    ] = 1,
    size: Annotated[
        str,
        typer.Option(
            "--size", metavar="SIDE | HxW", help="Of a plane in pixels, for example 512 or 400x600."
        ),
    ] = "256",
    fields: Annotated[
        int | None, typer.Option("--fields", min=1, help="Fields of view a movie.")
    ] = None,
    planes: Annotated[int | None, typer.Option("--planes", min=1, help="Planes a stack.")] = None,
    z_step: Annotated[
        float | None,
        typer.Option("--z-step", metavar="UM", help="Of a stack; if left out, the profile's."),
    ] = None,
    times: Annotated[int | None, typer.Option("--times", min=1, help="Time points.")] = None,
    interval: Annotated[
        float | None, typer.Option("--interval", metavar="S", help="Between time points: 30.")
    ] = None,
    focus_spread: Annotated[
        float | None,
        typer.Option(
            "--focus-spread",
            metavar="UM",
            help="How far fields are out of focus (standard deviation): 0.3, of stacks 0.",
        ),
    ] = None,
    exposure: Annotated[
        float | None,
        typer.Option("--exposure-ms", metavar="MS", help="Of fluorescence: 100. Less: more noise."),
    ] = None,
    brightfield: Annotated[
        float | None, typer.Option("--brightfield-ms", metavar="MS", help="Of brightfield: 10.")
    ] = None,
    dna: Annotated[bool, typer.Option("--dna", help="Also a label of DNA, and its truth.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace movies that were made otherwise.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Show the profiles, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make paired movies of simulated cells, as stores that livestain train reads as they are.

    Each has Brightfield and Mitochondria as a camera sees them, "Mitochondria truth" (free of noise), the
    true outlines as labels, and length and number of the mitochondria in movie-SEED.truth.csv. The same
    command gives the same pixels; after an interruption it goes on with the movies that are missing. Exit
    code 0: all are there; 2: wrong input, nothing touched; 130: interrupted.
    """
    if listing:
        _list()
        return
    if out is None:
        raise typer.BadParameter("--out missing. Give the folder for the movies; or --list.")
    settings = _settings(
        kind,
        profile,
        size,
        {
            "seed": seed,
            "fields": fields,
            "planes": planes,
            "z_step_um": z_step,
            "times": times,
            "interval_s": interval,
            "focus_spread_um": focus_spread,
            "exposure_ms": exposure,
            "brightfield_ms": brightfield,
            "dna": dna,
        },
    )
    from livestain.cli.codes import EXIT_DONE, EXIT_INTERRUPTED
    from livestain.cli.counting import counted
    from livestain.cli.driving import print_json
    from livestain.cli.interrupts import Interrupts
    from livestain.simulating import simulate_movies

    stop = threading.Event()
    with counted("simulated") as (_, count), Interrupts(stop):
        report = simulate_movies(
            out, settings, movies=movies, overwrite=overwrite, stop=stop, progress=count
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _tell(report, movies)
    raise typer.Exit(EXIT_INTERRUPTED if report.interrupted else EXIT_DONE)


def _settings(kind: str, profile: str | None, size: str, options: dict[str, Any]) -> MovieSettings:
    """Return the settings of the first movie: what is usual for its kind, and what was said instead.

    Raises
    ------
    SettingsError
        If they cannot be.
    """
    from livestain.errors import SettingsError
    from livestain.simulate import find_profile
    from livestain.simulating import MovieSettings
    from livestain.simulating.settings import KINDS

    if kind not in KINDS:
        raise SettingsError(f"There is no --kind {kind}; expected one of {', '.join(KINDS)}.")
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", size.strip().lower())
    if sides is None:
        raise SettingsError(
            f"--size {size} is no size of a plane; expected its side in pixels, such as 512, or height and "
            "width, such as 400x600."
        )
    given = {name: value for name, value in options.items() if value is not None}
    given["size"] = (int(sides[1]), int(sides[2] or sides[1]))
    if profile is not None:
        given["profile"] = find_profile(profile)
    return MovieSettings.parse({**KINDS[kind], **given}, where="the options")


def _tell(report: SimulationReport, asked: int) -> None:
    typer.echo(report.out)
    new = len(report.movies) - len(report.kept)
    kept = f", {len(report.kept)} were there already" if report.kept else ""
    typer.echo(
        f"{new} of {asked} movies made in {report.seconds:.1f} s{kept}; each with its truth and labels."
    )
    if report.interrupted:
        typer.echo("Interrupted: the same command makes the movies that are missing.")
    if report.cut:
        typer.echo(
            f"{report.cut} pixels of truth were brighter than can be stored, and are at the largest value."
        )
    if report.overview:
        typer.echo(f"Some fields: {report.overview}")
        typer.echo(
            f"Train on them: livestain train RECIPE --data {report.out} --out RUN; source: Brightfield, "
            "target: Mitochondria, or Mitochondria truth."
        )


def _list() -> None:
    """Show the profiles as a table."""
    from rich.console import Console
    from rich.table import Table

    from livestain.simulate import find_profile, profile_names

    table = Table("profile", "pixels", "what", box=None, pad_edge=False)
    for name in profile_names():
        profile = find_profile(name)
        table.add_row(name, f"{profile.pixel_size_um:g} um", profile.about)
    Console().print(table)

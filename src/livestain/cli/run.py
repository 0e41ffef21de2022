"""``livestain run``: a sequence on a microscope, stained while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from livestain.cli.devices import BackendOption, DeviceOption
from livestain.cli.options import (
    ConfigOption,
    FaultOption,
    JsonOption,
    LeaveOwedOption,
    ReplayOption,
    ThreadsOption,
)
from livestain.cli.window import ViewOption, check_view
from livestain.errors import MicroscopeError, SettingsError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from livestain.simulate.faults import Faults

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("run")(run)


def run(
    sequence: Annotated[
        Path, typer.Argument(metavar="SEQUENCE.yaml", help="A useq MDASequence, YAML or JSON.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The store to write, RUN.ome.zarr.")],
    config: ConfigOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=BUNDLE",
            help="Model of a virtual channel: a name or a folder. Repeatable.",
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option("--pixel-size", metavar="UM", min=0.0, help="Pixel size in micrometres."),
    ] = None,
    replay: ReplayOption = None,
    fault: FaultOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a livestain store that is there.")
    ] = False,
    codec: Annotated[
        Literal["blosc-lz4", "blosc-zstd", "none"],
        typer.Option("--codec", help="How planes are compressed: fast, small, not at all."),
    ] = "blosc-lz4",
    leave_owed: LeaveOwedOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Make all checks, measure the models, tell planes, disk, time and light, and end: "
            "nothing moves, nothing is written.",
        ),
    ] = False,
    view: ViewOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run SEQUENCE and stain its virtual channels live.

    Exit code 0: all done; 1: it ran, but planes are missing; 2: wrong input, nothing touched;
    130: interrupted.
    """
    models = parse_models(model or [])
    refuse_two_microscopes(config, replay)
    faults = parse_faults(fault or [], simulated=config is None and replay is None)
    check_view(view)
    from livestain.cli.driving import drive_and_tell, print_json
    from livestain.live.session import Session
    from livestain.live.virtual import load_sequence, settings_of

    wanted = load_sequence(sequence)
    # Where the planes are replayed, only the option or the sequence can know the pixel size.
    known = settings_of(wanted).pixel_size_um if pixel_size is None else pixel_size
    core = open_microscope(config, replay, known, faults)
    session = Session(
        core,
        wanted,
        out,
        models=models,
        pixel_size_um=pixel_size,
        device=device,
        backend=backend,
        threads=threads,
        overwrite=overwrite,
        codec=codec,
        leave_owed=leave_owed,
    )
    if dry_run:
        from livestain.cli.rehearsing import print_rehearsal, rehearse_run

        found = rehearse_run(session)
        if as_json:
            print_json(found.to_dict())
        else:
            print_rehearsal(found)
        return
    raise typer.Exit(drive_and_tell(session, view=view, as_json=as_json))


def refuse_two_microscopes(config: Path | None, replay: Path | None) -> None:
    """Refuse both a microscope and a recording.

    Raises
    ------
    SettingsError
        If both are given.
    """
    if config is not None and replay is not None:
        raise SettingsError(
            "--config and --replay were both given; the planes come from one microscope or from one "
            "recording. Leave one out."
        )


def parse_models(options: list[str]) -> dict[str, str]:
    """Return bundle by virtual channel from NAME=BUNDLE options.

    Raises
    ------
    SettingsError
        If one is not of that form, or a name comes twice.
    """
    models: dict[str, str] = {}
    for option in options:
        name, equals, bundle = option.partition("=")
        if not (name and equals and bundle):
            raise SettingsError(
                f"--model {option!r} is not NAME=BUNDLE, for example mitochondria=h9c2-omp25."
            )
        if name in models:
            raise SettingsError(f"--model was given twice for {name!r}.")
        models[name] = bundle
    return models


def parse_faults(options: list[str], *, simulated: bool) -> Faults | None:
    """Return the faults of NAME=VALUE options, None without any; "help" lists them and ends.

    Raises
    ------
    SettingsError
        If one cannot be used, or the microscope is not simulated.
    """
    if not options:
        return None
    from livestain.simulate.faults import Faults

    if "help" in options:
        for name, words in Faults.described().items():
            typer.echo(f"{name}: {words}")
        raise typer.Exit(0)
    if not simulated:
        raise SettingsError(
            "--fault is for the simulated microscope; leave it out with --config or --replay, which "
            "bring a microscope or a recording of your own."
        )
    return Faults.of_text(options, where="--fault")


def open_microscope(
    config: Path | None,
    replay: Path | None,
    pixel_size_um: float | None,
    faults: Faults | None = None,
) -> CMMCorePlus:
    """Return the microscope that the options name.

    Raises
    ------
    MicroscopeError
        If the configuration is missing or cannot be loaded, or a fault does not fit the microscope.
    """
    from livestain.live.microscope import replay_core, simulated_core

    if replay is not None:
        return replay_core(replay, pixel_size_um=pixel_size_um)
    if config is None:
        return simulated_core(faults=faults)
    if not config.is_file():
        raise MicroscopeError(
            f"There is no configuration {config}. Give a Micro-Manager .cfg file, or leave --config "
            "out for the simulated dish."
        )
    from pymmcore_plus import CMMCorePlus

    from livestain.live.leaving import leave_quietly

    real = CMMCorePlus()
    leave_quietly(real)
    try:
        real.loadSystemConfiguration(config)
    except Exception as error:
        raise MicroscopeError(
            f"Micro-Manager could not load {config}: {' '.join(str(error).split())}"
        ) from error
    return real

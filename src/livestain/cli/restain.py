"""``livestain restain``: what a store is owed, another model, or another program's data, stained now."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.devices import BackendOption, DeviceOption
from livestain.cli.options import BreakLockOption, JsonOption, ThreadsOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livestain.restain import RestainReport, VerifyReport

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("restain")(restain)


def restain(
    store: Annotated[
        Path,
        typer.Argument(
            help="The store, RUN.ome.zarr, of a run that is over; or data of another program: OME-Zarr, "
            "OME-TIFF, ImageJ TIFF, NDTiff."
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="BUNDLE | NAME=BUNDLE",
            help="A model: its channel is filled, or added. NAME=BUNDLE: where the model of the channel NAME "
            "is now; repeatable.",
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="The virtual channel that is meant, or the new one's name."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="Acquired channel that a new one is predicted from; repeatable, in the model's order.",
        ),
    ] = None,
    source_kind: Annotated[
        list[str] | None,
        typer.Option(
            "--source-kind",
            help="What it shows, if its name does not say it: brightfield, phase, dic, fluorescence.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", help="Which of the model's outputs; else each of them."),
    ] = None,
    flat_field: Annotated[
        Path | None, typer.Option("--flat-field", help="Image of an empty field, for the source.")
    ] = None,
    dark_frame: Annotated[
        Path | None, typer.Option("--dark-frame", help="Image without light, for the source.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The store of the predictions, of data that are only read; if left out, "
            "NAME.stained.ome.zarr beside them.",
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(
            "--pixel-size",
            metavar="UM",
            help="Of data that do not say it, micrometres in the sample.",
        ),
    ] = None,
    z_step: Annotated[
        float | None,
        typer.Option("--z-step", metavar="UM", help="Likewise, the distance of their z-planes."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Try planes too that were skipped, or on which the model failed."
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Write nothing: predict again what is there, and compare."),
    ] = False,
    planes: Annotated[
        int | None,
        typer.Option(
            "--planes", min=1, help="With --verify: so many planes of a channel, evenly spread."
        ),
    ] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    break_lock: BreakLockOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict what is still owed in STORE; with --model by another model, into a channel of its own.

    Planes that are there are never touched. Data of another program are only read: the predictions lie beside
    them. Exit code 0: nothing is owed any more (--verify: all is repeated); 1: the model failed on planes, or
    they differ; 2: wrong input, nothing touched; 130: interrupted.
    """
    from livestain.cli.codes import EXIT_DONE, EXIT_INTERRUPTED, EXIT_MISSING
    from livestain.cli.driving import print_json
    from livestain.cli.run import parse_models

    moved = parse_models([option for option in model or [] if "=" in option])
    new = [option for option in model or [] if "=" not in option]
    _check_options(new, channel, verify=verify, planes=planes, out=out, again=again)
    stop = threading.Event()
    if verify:
        if new and channel:
            moved[channel] = new[0]
        verified = _verify(store, stop, channel, moved, planes, device, threads)
        if as_json:
            print_json(verified.to_dict())
        else:
            _show(verified)
        if verified.interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)
        raise typer.Exit(EXIT_DONE if verified.passed else EXIT_MISSING)
    settings = {
        "source": tuple(source) if source else None,
        "source_kind": tuple(source_kind) if source_kind else None,
        "output": output,
        "flat_field": str(flat_field) if flat_field else None,
        "dark_frame": str(dark_frame) if dark_frame else None,
    }
    report = _stain(
        store,
        stop,
        settings,
        model=new[0] if new else None,
        channel=channel,
        models=moved,
        out=out,
        pixel_size_um=pixel_size,
        z_step_um=z_step,
        again=again,
        device=device,
        backend=backend,
        threads=threads,
        break_lock=break_lock,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        _tell(report)
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_MISSING if report.planes_owed or report.planes_failed else EXIT_DONE)


def _check_options(
    new: list[str],
    channel: str | None,
    *,
    verify: bool,
    planes: int | None,
    out: Path | None,
    again: bool,
) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    SettingsError
    """
    from livestain.errors import SettingsError

    if len(new) > 1:
        raise SettingsError(
            f"--model names {' and '.join(new)}; one model is added at a time. Say it again for the other."
        )
    if planes is not None and not verify:
        raise SettingsError("--planes belongs to --verify: how many planes are compared.")
    if verify and (out is not None or again):
        raise SettingsError(
            "--verify writes nothing, so --out and --again have no place beside it."
        )
    if verify and new and channel is None:
        raise SettingsError(
            "--verify compares by the models that the store names. Where one is now is said by "
            "--model NAME=BUNDLE."
        )


def _stain(
    store: Path, stop: threading.Event, settings: Mapping[str, object], **wanted: object
) -> RestainReport:
    from typing import Any

    from livestain.cli.counting import counted
    from livestain.cli.interrupts import Interrupts
    from livestain.restain import restain as stain_owed
    from livestain.stain.asked import ChannelSettings

    given: dict[str, Any] = dict(wanted)
    asked = ChannelSettings.parse(
        {name: value for name, value in settings.items() if value is not None}, where="the options"
    )
    with counted("stained") as (bar, count), Interrupts(stop):
        return stain_owed(
            store,
            settings=asked,
            stop=stop,
            progress=count,
            tell=lambda note: bar.console.print(f"livestain: {note}", markup=False),
            **given,
        )


def _tell(report: RestainReport) -> None:
    typer.echo(report.store)
    for name in report.added:
        typer.echo(f"  new channel: {name} (predicted)")
    typer.echo(
        f"{report.planes_stained} planes stained in {report.seconds:.1f} s; {report.planes_owed} are "
        f"still owed, {report.planes_given_up} are skipped or impossible."
    )
    if report.planes_waiting:
        typer.echo(
            f"{report.planes_waiting} cannot be predicted: their source planes were never taken, which "
            "livestain resume may still do."
        )
    for note in report.notes:
        typer.echo(f"  {note}")


def _verify(
    store: Path,
    stop: threading.Event,
    channel: str | None,
    models: dict[str, str],
    planes: int | None,
    device: str,
    threads: int | None,
) -> VerifyReport:
    from livestain.cli.counting import counted
    from livestain.cli.interrupts import Interrupts
    from livestain.restain import verify_staining

    with counted("compared") as (_, count), Interrupts(stop):
        return verify_staining(
            store,
            channel=channel,
            models=models,
            planes=planes,
            device=device,
            threads=threads,
            stop=stop,
            progress=count,
        )


def _show(report: VerifyReport) -> None:
    """Print what was compared, and the verdict in words."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report.store))
    for heading in ("channel", "model"):
        table.add_column(heading)
    for heading in ("planes", "identical", "worst RMS / std", "allowed"):
        table.add_column(heading, justify="right")
    for verdict in report.channels:
        table.add_row(
            escape(verdict.channel),
            escape(verdict.bundle),
            str(verdict.compared),
            str(verdict.identical),
            f"{verdict.rms:.2g}",
            f"{verdict.tolerance:g}",
        )
    console = Console()
    console.print(table)
    if report.interrupted:
        console.print("Interrupted: this is of the planes that were compared before.")
    for verdict in report.channels:
        if verdict.compared or not report.interrupted:
            console.print(
                f"{escape(verdict.channel)}: {escape(verdict.sentence)}.", highlight=False
            )
        if verdict.not_comparable:
            console.print(
                f"  {verdict.not_comparable} planes have no source any more.", highlight=False
            )
        for why in verdict.failed[:5]:
            console.print(f"  {escape(why)}", highlight=False)

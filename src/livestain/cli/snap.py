"""``livestain snap``: the field under the objective, stained now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.options import ConfigOption, JsonOption
from livestain.cli.window import ViewOption, check_view, leave_open, make_viewer
from livestain.errors import MicroscopeError, SettingsError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDASequence

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("snap")(snap)


def snap(
    out: Annotated[
        Path, typer.Option("--out", metavar="PICTURE.png", help="The picture to write.")
    ] = Path("snap.png"),
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="BUNDLE", help="The model: a name or a folder."),
    ] = None,
    predict: Annotated[
        str, typer.Option("--predict", metavar="NAME", help="The channel to predict.")
    ] = "mitochondria",
    config: ConfigOption = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="PRESET",
            help="Preset to image with; without it the one that is set, or the one whose name says "
            "brightfield.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--source-kind",
            metavar="KIND",
            help="What it shows, where its name does not say it: brightfield, phase, dic, fluorescence.",
        ),
    ] = None,
    exposure: Annotated[
        float | None,
        typer.Option("--exposure", metavar="MS", min=0.001, help="Instead of the camera's."),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option("--pixel-size", metavar="UM", min=0.0, help="Pixel size in micrometres."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where to predict: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a picture and a store that are there.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Open the picture in the system's viewer.")
    ] = False,
    view: ViewOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take one image of the field under the objective, and stain it.

    Writes a picture (image, prediction, both over each other) and, beside it, PICTURE.ome.zarr with the raw
    plane and the predicted one.
    """
    from livestain.cli.driving import drive, print_json, summary
    from livestain.cli.run import open_microscope
    from livestain.live.session import Session
    from livestain.monitor.latest import draw_latest
    from livestain.planes import PlaneIndex

    if out.suffix.lower() != ".png":
        raise SettingsError(f"--out {out} does not end in .png; give for example {out.stem}.png.")
    if out.exists() and not overwrite:
        raise SettingsError(f"{out} is there already. Name another file, or give --overwrite.")
    check_view(view)
    core = open_microscope(config, None, pixel_size)
    session = Session(
        core,
        one_image(core, predict, channel, kind, exposure),
        out.with_suffix(".ome.zarr"),
        models={predict: model} if model is not None else None,
        pixel_size_um=pixel_size,
        device=device,
        backend="folded",  # of one frame: timing others would take longer than it
        overwrite=overwrite,
    )
    viewer = make_viewer(view, session)
    report, code = drive(session, None, viewer)
    if report.planes_stained:
        draw_latest(session.out, PlaneIndex(0, 0, 1, 0), out)
    result = summary(report, {})
    result["picture"] = str(out) if report.planes_stained else None
    if as_json:
        print_json(result)
    elif report.planes_stained:
        typer.echo(f"{out}\n{session.out}")
    if show and report.planes_stained:
        typer.launch(str(out))
    leave_open(viewer)
    raise typer.Exit(code)


def one_image(
    core: CMMCorePlus, predict: str, channel: str | None, kind: str | None, exposure: float | None
) -> MDASequence:
    """Return the sequence of one image and its prediction, where the stages are now.

    Raises
    ------
    MicroscopeError
        If no preset is set, none named, and none says by its name that it is brightfield.
    """
    import useq

    from livestain.live.virtual import VIRTUAL_GROUP
    from livestain.stain.asked import kind_of_channel

    group = core.getChannelGroup()
    presets = core.getAvailableConfigs(group) if group else ()
    if channel is None:
        now = core.getCurrentConfig(group) if group else ""
        bright = [name for name in presets if kind_of_channel(name) == "brightfield"]
        if now and (kind is not None or kind_of_channel(now) is not None):
            channel = now
        elif len(bright) == 1:
            channel = bright[0]
        else:
            raise MicroscopeError(
                f"Which preset to image with is not known: {now or 'none'} is set, and the channel group "
                f"{group!r} has {', '.join(presets) or 'none'}. Give one with --channel."
            )
    settings = {"source": channel, **({"source_kind": kind} if kind is not None else {})}
    return useq.MDASequence(
        channels=[
            useq.Channel(group=group, config=channel, exposure=exposure or core.getExposure()),
            useq.Channel(group=VIRTUAL_GROUP, config=predict),
        ],
        metadata={"livestain": {"channels": {predict: settings}}},
    )

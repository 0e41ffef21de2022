"""``livestain models add``: another model for your folder of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.options import JsonOption

if TYPE_CHECKING:
    from livestain.bundle import Bundle

__all__ = ["add"]


def add(
    source: Annotated[
        Path, typer.Argument(metavar="PATH_OR_ZIP", help="A model's folder, or its zip file.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it; by default as it calls itself.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="What it looks at: brightfield, phase, dic or fluorescence. Repeated for several source "
            "channels, in its order.",
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option("--pixel-size", metavar="UM", help="Pixel size that it was trained at."),
    ] = None,
    pixel_size_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--pixel-size-range",
            metavar="LOW HIGH",
            help="Pixel sizes that may be resampled to it; by default a quarter up or down.",
        ),
    ] = None,
    z_step: Annotated[
        float | None, typer.Option("--z-step", metavar="UM", help="Distance of its z-planes.")
    ] = None,
    z: Annotated[
        int | None,
        typer.Option("--z", metavar="PLANES", help="Its channels are so many z-planes."),
    ] = None,
    past: Annotated[
        int | None,
        typer.Option(
            "--past",
            metavar="PLANES",
            help="Its channels are so many earlier time points and the present one.",
        ),
    ] = None,
    input_range: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--input-range",
            metavar="LOW HIGH",
            help="Counts of your camera that stand for the smallest and largest value that it takes, such as "
            "0 4095 for a model of 8 bits and a camera of 12.",
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", metavar="NAME", help="What it predicts. Repeated for several."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="DIR", help="Instead of your own folder of models."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model of that name.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a model into your folder of models: one of ours, or an image-to-image one of bioimage.io.

    Every hash, the format and the test output are checked first. What bioimage.io's format does not say
    (the kind of source channel, above all) is given here and written into the copy.
    """
    from livestain.bundle.add import add_model
    from livestain.bundle.find import user_models
    from livestain.bundle.foreign import Given
    from livestain.cli.models import short

    values = {
        "kinds": kind or None,
        "pixel_size_um": pixel_size,
        "pixel_size_range_um": pixel_size_range,
        "z_step_um": z_step,
        "z": z,
        "past": past,
        "outputs": output or None,
        "input_range": input_range,
    }
    given = Given.parse(
        {key: value for key, value in values.items() if value is not None},
        where="What is said of the model",
    )
    bundle = add_model(
        source,
        into=into or user_models(),
        name=name,
        given=given,
        overwrite=overwrite,
        check=_try,
    )
    if as_json:
        typer.echo(json.dumps(short(bundle)))
    else:
        outputs = ", ".join(output.name for output in bundle.description.outputs)
        typer.echo(
            f"{bundle.path.name} ({', '.join(bundle.description.input.kinds)} to {outputs}): {bundle.path}"
        )


def _try(bundle: Bundle) -> None:
    """Run a model's test input before it is added."""
    from livestain.inference import Stainer

    Stainer(bundle, device="cpu").close()

"""``livestain models``: the deployed models that are here, what each is, and adding another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livestain.cli.models_add import add
from livestain.cli.options import JsonOption

if TYPE_CHECKING:
    from livestain.bundle import Bundle

__all__ = ["register", "short"]

models = typer.Typer(
    name="models",
    help="The deployed models: list them, show one, add one.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    models.command("add")(add)
    app.add_typer(models)


@models.callback()
def _all(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the deployed models, where no other command is given."""
    if context.invoked_subcommand is None:
        list_models(as_json=as_json)


@models.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the models that are found by their names, and where."""
    from livestain.bundle.find import known_bundles, search_path
    from livestain.bundle.read import read_description
    from livestain.errors import BundleError

    found: list[dict[str, Any]] = []
    bad: list[str] = []
    for name, path in known_bundles().items():
        try:
            found.append({**short(read_description(path)), "name": name})
        except BundleError as error:
            bad.append(str(error))
    searched = [str(folder) for folder in search_path()]
    if as_json:
        typer.echo(json.dumps({"models": found, "unreadable": bad, "searched": searched}))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=None, padding=(0, 1))
    table.add_column("name", no_wrap=True)
    for column in ("from", "to", "pixel, um", "window", "network", "licence"):
        table.add_column(column, overflow="fold")
    table.add_column("MB", justify="right")
    for one in found:
        table.add_row(
            escape(one["name"]),
            ", ".join(one["from"]),
            escape(", ".join(one["to"])),
            f"{one['pixel_size_um']:g}",
            one["window"],
            escape(one["network"]),
            escape(one["licence"]),
            f"{one['bytes'] / 1e6:.1f}",
        )
    if found:
        console.print(table)
        for folder in dict.fromkeys(str(Path(one["path"]).parent) for one in found):
            names = ", ".join(o["name"] for o in found if str(Path(o["path"]).parent) == folder)
            console.print(f"In {escape(folder)}: {escape(names)}.", highlight=False)
    else:
        console.print(f"No models. Searched: {escape(', '.join(searched))}.", highlight=False)
    for why in bad:
        console.print(f"Left out: {escape(why)}", highlight=False)


@models.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model: its name or its folder.")],
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="OUT.png", help="Write the sample picture there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model takes and gives, how it was measured, its card, and its sample picture."""
    from livestain.bundle import find_bundle
    from livestain.errors import BundleError

    if picture is not None and picture.suffix.lower() != ".png":
        raise BundleError(f"--picture writes PNG; given {picture}. Name a file that ends in .png.")
    bundle = find_bundle(name)
    if picture is not None:
        _write_picture(bundle, picture)
    if as_json:
        told = {
            **short(bundle),
            "title": bundle.title,
            "description": bundle.description.model_dump(mode="json"),
            "files": dict(bundle.files),
            "picture": _picture_path(bundle),
        }
        typer.echo(json.dumps(told))
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.markup import escape

    console = Console()
    for what, words in _facts(bundle):
        console.print(f"[bold]{what}[/bold]: {escape(words)}", highlight=False)
    if card := _card(bundle):
        console.rule("card")
        console.print(Markdown(card))


def short(bundle: Bundle) -> dict[str, Any]:
    """Return what is told of a model in a line."""
    from livestain.bundle.find import findable_name

    description = bundle.description
    spec = description.input
    sizes = [
        (bundle.path / name).stat().st_size
        for name in bundle.files
        if (bundle.path / name).is_file()
    ]
    return {
        "name": findable_name(bundle),
        "from": list(spec.kinds),
        "to": [output.name for output in description.outputs],
        "pixel_size_um": spec.pixel_size_um,
        "window": _window_words(bundle),
        "network": _network_words(bundle),
        "licence": bundle.licence,
        "bytes": sum(sizes),
        "sha256": bundle.sha256,
        "path": str(bundle.path),
    }


def _window_words(bundle: Bundle) -> str:
    window = bundle.description.input.window
    if window.whole_stack:
        return "whole stack" if window.depth is None else f"whole stack of {window.depth}"
    words = [f"{window.n_z} z-planes"] if window.n_z > 1 else []
    words += [f"{window.past} past"] if window.past else []
    words += [f"{window.future} future"] if window.future else []
    return ", ".join(words) or "one plane"


def _network_words(bundle: Bundle) -> str:
    from livestain.bundle.description import ForeignSpec

    spec = bundle.description.network
    if isinstance(spec, ForeignSpec):
        return {"onnx": "ONNX", "torchscript": "TorchScript"}[spec.foreign]
    return spec.name


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    from livestain.bundle.description import ForeignSpec

    description, facts_of = bundle.description, short(bundle)
    spec, normalisation = description.input, description.normalisation
    low, high = spec.pixel_size_range_um
    facts = [
        ("name", f"{facts_of['name']}: {bundle.title}"),
        ("folder", facts_of["path"]),
        ("licence", bundle.licence),
        (
            "SHA-256",
            f"{bundle.sha256} ({len(bundle.files)} files, {facts_of['bytes'] / 1e6:.1f} MB)",
        ),
        ("input", f"{', '.join(spec.kinds)}; {facts_of['window']}"),
        ("pixel size", f"{spec.pixel_size_um:g} um; {low:g} to {high:g} um are resampled"),
    ]
    if spec.z_step_um is not None:
        facts.append(("z-step", f"{spec.z_step_um:g} um, {spec.z_step_tolerance:.0%} either way"))
    for output in description.outputs:
        black, white = output.display
        stored = f"stored as counts * {output.scale:g} + {output.offset:g}"
        shown = f"shown from {black:g} to {white:g}"
        facts.append(("output", f"{output.name}, in {output.unit}; {stored}; {shown}"))
    if isinstance(description.network, ForeignSpec):
        before = [step["id"] for step in bundle.rdf["inputs"][0].get("preprocessing", [])]
        facts.append(("normalisation", f"the model's own: {', '.join(before) or 'none'}"))
        if description.network.input_range is not None:
            least, most = description.network.input_range
            facts.append(("input range", f"counts of {least:g} to {most:g} are what it sees"))
        facts.append(("network", f"{facts_of['network']}, {description.network.dims}-D"))
    else:
        said = normalisation.model_dump(mode="json", exclude_none=True)
        facts.append(("normalisation", ", ".join(f"{key} {value}" for key, value in said.items())))
        options = ", ".join(f"{key} {value}" for key, value in description.network.kwargs.items())
        facts.append(("network", f"{description.network.name} ({options})"))
    reach = "the whole frame" if spec.halo is None else f"{spec.halo} px"
    facts.append(("reach", f"{reach}; sides are multiples of {spec.divisor} px"))
    for one in description.latency:
        height, width = one.shape_yx
        each = f", {one.planes} planes" if one.planes > 1 else ""
        took = f"{one.milliseconds:g} ms for {height} x {width}{each}"
        facts.append(("latency", f"{took} with {one.backend}, {one.threads} threads, {one.device}"))
    facts.append(("picture", _picture_path(bundle) or "none"))
    return facts


def _picture_path(bundle: Bundle) -> str | None:
    covers = bundle.rdf.get("covers")
    first = covers[0] if isinstance(covers, list) and covers else None
    name = first.get("source") if isinstance(first, dict) else None
    return str(bundle.path / name) if isinstance(name, str) and name in bundle.files else None


def _write_picture(bundle: Bundle, out: Path) -> None:
    import io

    from PIL import Image, UnidentifiedImageError

    from livestain.errors import BundleError

    path = _picture_path(bundle)
    if path is None:
        raise BundleError(f"The model {bundle.name} has no sample picture. Leave --picture out.")
    data = bundle.read_file(Path(path).relative_to(bundle.path).as_posix())
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB").save(out, format="PNG")
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BundleError(
            f"{path} is no picture that can be read: {error}. Leave --picture out."
        ) from error


def _card(bundle: Bundle) -> str:
    documentation = bundle.rdf.get("documentation")
    name = documentation.get("source") if isinstance(documentation, dict) else None
    if not isinstance(name, str) or name not in bundle.files:
        return ""
    return bundle.read_file(name).decode("utf-8", "replace")

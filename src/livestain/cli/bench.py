"""``livestain bench``: whether models keep up on this machine."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer.core import TyperGroup

from livestain.cli import bench_live
from livestain.cli.codes import EXIT_INTERRUPTED
from livestain.cli.options import JsonOption, ThreadsOption
from livestain.errors import BundleError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livestain.benching import BenchResult, BenchSettings
    from livestain.bundle import Bundle

__all__ = ["register"]

_USUAL = "demo-mitochondria"

_Intervals = Annotated[
    list[float] | None,
    typer.Option(
        "--interval-ms",
        metavar="MS",
        help="Time between camera frames for which it is told whether a model keeps up; 10 if left out. "
        "Repeatable.",
    ),
]


class _Group(TyperGroup):
    """``bench BUNDLE …`` is ``bench models BUNDLE …``, so that the usual needs no word of its own."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or args[0] not in self.commands:
            args = ["models", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    group = typer.Typer(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
    group.command("models")(bench)
    bench_live.register(group)
    app.add_typer(
        group,
        name="bench",
        help="Measure how fast models are on this machine, and whether they keep up with a camera.",
    )


def bench(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BUNDLE",
            help="Models: names or folders; demo-mitochondria if left out.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All models on the search path.")] = False,
    size: Annotated[
        list[int] | None,
        typer.Option(
            "--size",
            metavar="PX",
            min=1,
            help="Side of the frames; 512, 1024 and 2048 if left out. Repeatable.",
        ),
    ] = None,
    planes: Annotated[
        int | None,
        typer.Option("--planes", min=1, help="Planes of a stack, for models of whole stacks."),
    ] = None,
    interval_ms: _Intervals = None,
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", metavar="NAME", help="Measure this one alone. Repeatable."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where to predict: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    threads: ThreadsOption = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Begin nothing that would take longer; the rest is named."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="For how long each backend predicts once it is warm.")
    ] = 2.0,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Compile what takes long to compile, for these frame sizes, and end: `auto` then has one "
            "more candidate.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where to write; bench-DATE if left out."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a result that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure each backend with BUNDLE at each frame size, and say whether it keeps up.

    Cold and warm start, milliseconds by stage, planes a second, memory, error against float32, and the
    share of what this device could do; each in a process of its own.

    Writes bench.json, bench.md and bench.svg, which name no user and no folder: send these to ask whether
    it will keep up on your machine. livestain bench live runs a camera too.
    """
    from livestain.benching import BenchSettings

    settings = BenchSettings.parse(
        {
            key: value
            for key, value in (
                ("sizes", tuple(dict.fromkeys(size)) if size else None),
                ("planes", planes),
                ("intervals_ms", tuple(dict.fromkeys(interval_ms)) if interval_ms else None),
                ("device", device),
                ("threads", threads),
                ("backends", tuple(backend) if backend else None),
                ("minutes", minutes),
                ("seconds", seconds),
            )
            if value is not None
        },
        where="bench",
    )
    models, left_out = _models(bundles or [], every=every)
    if tune:
        for line in left_out:
            typer.echo(line, err=True)
        _tune(models, settings, as_json=as_json)
        return
    from livestain.benching import run_bench, write_result
    from livestain.benching.writing import folder_for

    folder = folder_for(out, overwrite=overwrite)
    with _bar() as tell:
        result = run_bench(
            models,
            settings,
            command=_command(models, settings),
            progress=tell,
            notes=left_out,
        )
    written = write_result(result, folder)
    for path in written:
        typer.echo(f"Written: {path}", err=True)
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), allow_nan=False))
    else:
        _tell(result)
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _models(names: list[str], *, every: bool) -> tuple[list[Bundle], list[str]]:
    """Return the models, and of `--all` those that cannot be read, each in a sentence."""
    from livestain.bundle import find_bundle, read_bundle
    from livestain.bundle.find import known_bundles

    if every and names:
        raise SettingsError(f"--all and {names[0]!r} were both given. Leave one out.")
    if every:
        found, bad = [], []
        for name, path in known_bundles().items():
            try:
                found.append(read_bundle(path))
            except BundleError as error:
                bad.append(f"{name} was left out: {str(error).replace(str(path), name)}")
        if not found:
            raise BundleError("; ".join(bad) or "There is no model on the search path.")
        return found, bad
    return [find_bundle(name) for name in dict.fromkeys(names or [_USUAL])], []


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """Give what tells a bar on standard error how far it is, and with what."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, words: bar.update(
            task, completed=done, total=total, description=escape(words)
        )


def _command(models: list[Bundle], settings: BenchSettings) -> str:
    """Return the command that asks for the same, models by their names."""
    from livestain.bundle.find import findable_name

    words = ["livestain", "bench", *(findable_name(model) for model in models)]
    for option, values in (
        ("--size", settings.sizes),
        ("--planes", (settings.planes,)),
        ("--interval-ms", settings.intervals_ms),
        ("--backend", settings.backends),
        ("--device", (settings.device,)),
        ("--threads", (settings.threads,)),
        ("--minutes", (settings.minutes,)),
        ("--seconds", (settings.seconds,)),
    ):
        for value in values:
            if value is not None:
                words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _tell(result: BenchResult) -> None:
    """Print tables, what they cannot hold, and the answers last."""
    from rich.console import Console

    from livestain.benching.table import auto_words, busy, left_out, tables

    console = Console()
    for table in tables(result, console.width):
        console.print(table)
    several = len(result.bundles) > 1
    for bundle in result.bundles:
        for size in bundle.sizes:
            if auto := auto_words(size):
                typer.echo(f"{bundle.bundle + ', ' if several else ''}{size.size}²: {auto}")
        for line in left_out(bundle):
            typer.echo(f"{bundle.bundle}: {line}" if several else line)
    for note in (*result.notes, busy(result)):
        if note:
            typer.echo(note)
    for bundle in result.bundles:
        for size in bundle.sizes:
            for sentence in size.sentences:
                typer.echo(f"{bundle.bundle}, {sentence}" if several else sentence)


def _tune(models: list[Bundle], settings: BenchSettings, *, as_json: bool) -> None:
    """Compile networks for the settings' frame sizes, and say what that took."""
    from rich.console import Console

    from livestain.benching.settings import USUAL_DEPTH
    from livestain.inference.tuning import tune

    told = []
    with Console(stderr=True).status("looking at the model") as status:
        for model in models:
            window = model.description.input.window
            # Of other models than those of whole stacks the planes do not count.
            depth = window.depth or settings.planes or USUAL_DEPTH
            for one in tune(
                model,
                settings.device,
                [(depth, size, size) for size in settings.sizes],
                tell=lambda words: status.update(escape(words)),
            ):
                told.append({"bundle": model.name, **asdict(one)})
                how = f"{one.seconds:.0f} s" if one.seconds else "there already"
                shape = " x ".join(map(str, one.shape))
                typer.echo(f"{model.name}: {one.backend} for {shape}: {how}", err=as_json)
    if as_json:
        typer.echo(json.dumps({"what": "livestain bench --tune", "compiled": told}))

"""``livestain bench live``: the same with a camera, a store and a worker, as in a run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.codes import EXIT_MISSING
from livestain.cli.options import JsonOption, ThreadsOption
from livestain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livestain.live.pace import Pace

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb below `bench`."""
    app.command("live")(live)


def live(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A model: a name or a folder.")
    ] = "demo-mitochondria",
    size: Annotated[
        int, typer.Option("--size", metavar="PX", min=16, help="Side of the frames.")
    ] = 2048,
    interval_ms: Annotated[
        float, typer.Option("--interval-ms", metavar="MS", min=0.01, help="Time between frames.")
    ] = 10.0,
    planes: Annotated[int, typer.Option("--planes", min=2, help="Frames to take.")] = 200,
    device: Annotated[
        str, typer.Option("--device", help="Where to predict: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    threads: ThreadsOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Where the store is written while it is measured: on the disk that you will use.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run Micro-Manager's demo camera, stain its frames live, and say whether that keeps up.

    The last line is the answer. Exit code 0 whether it keeps up or not; 1 if planes are lost or missing.
    """
    from livestain.benching.machine import hardware, load, names_of_folders, scrubbed, versions
    from livestain.benching.verdict import live_sentence
    from livestain.bundle import find_bundle
    from livestain.cli.counting import counted
    from livestain.live.pace import measure_pace

    if folder is not None and not folder.is_dir():
        raise SettingsError(
            f"--folder {folder} is no folder. Give one that is there, or leave it out."
        )
    model = find_bundle(bundle)
    before = load()
    with (
        tempfile.TemporaryDirectory(
            prefix="livestain-bench-", dir=folder, ignore_cleanup_errors=True
        ) as scratch,
        counted("planes stained") as (_, count),
    ):
        pace = measure_pace(
            model,
            Path(scratch) / "bench.ome.zarr",
            size=size,
            interval_ms=interval_ms,
            planes=planes,
            device=device,
            threads=threads,
            progress=count,
        )
    said = live_sentence(
        size,
        interval_ms,
        planes=pace.planes,
        live=pace.live,
        owed_s=pace.owed_s,
        missing=pace.missing,
        lost=pace.lost,
        fps=pace.fps,
    )
    if as_json:
        told = {
            "what": "livestain bench live",
            "sentence": said,
            **pace.to_dict(),
            "hardware": hardware(),
            "versions": versions(),
            "load": (before, load()),
        }
        typer.echo(json.dumps(scrubbed(told, names_of_folders([model]))))
    else:
        for line in _lines(pace):
            typer.echo(line)
        typer.echo(said)
    if pace.lost or pace.missing:
        raise typer.Exit(EXIT_MISSING)


def _lines(pace: Pace) -> Iterator[str]:
    from livestain.cli.devices import model_words

    yield from (f"model: {model_words(model)}" for model in pace.models)
    yield (
        f"frames: {pace.fps:.4g} a second, up to {max(0.0, pace.late_max_ms):.3g} ms late "
        f"(95 % within {max(0.0, pace.late_p95_ms):.3g} ms); {pace.lost} of {pace.planes} lost"
    )
    stages = ", ".join(f"{stage} {ms:.3g}" for stage, ms in pace.stage_ms.items())
    yield f"a plane takes the worker, in ms: {stages}"
    if pace.latency_p50_ms is not None and pace.latency_p95_ms is not None:
        yield (
            f"from the camera to a readable prediction: p50 {pace.latency_p50_ms:.0f} ms, p95 "
            f"{pace.latency_p95_ms:.0f} ms, of planes stained before a newer one came"
        )
    yield from (f"note: {note}" for note in pace.notes)

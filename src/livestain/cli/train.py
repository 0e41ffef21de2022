"""``livestain train``: a model from recorded pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("train")(train)


def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE.yaml", help="A recipe's file, or the name of one of ours."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder with movie-NAME/{brightfield,mitochondria}/*.png (or .tif), or with stores.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder to write.")],
    movies: Annotated[
        list[str] | None,
        typer.Option("--movies", metavar="NAME", help="Train on this movie alone. Repeatable."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="NAME", help="Do not train on this movie. Repeatable."),
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option(
            "--monitor",
            metavar="NAME",
            help="Leave this movie out and log its score from time to time; it chooses nothing.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Instead of the recipe's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Instead of the recipe's.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; all where left out.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished training in RUN.")
    ] = False,
) -> None:
    """Train a model on recorded pairs, for the recipe's number of steps.

    Split by movie: what --leave-out names is never seen, and no score chooses anything. Then:
    livestain export RUN --out BUNDLE.
    """
    from livestain.training.recipe import Recipe, find_recipe

    file = find_recipe(recipe)
    given = {"movies": movies, "leave_out": leave_out, "steps": steps, "seed": seed}
    settings = Recipe.from_yaml(file)
    settings = Recipe.parse(
        settings.model_dump()
        | {key: value for key, value in given.items() if value not in (None, [])},
        where=str(file),
    )
    # The heavy packages only now that the recipe is known to be right.
    import torch

    from livestain.training.trainer import train as run_training

    if threads is not None:
        torch.set_num_threads(threads)
    run_training(settings, data, out, device=device, monitor=monitor, resume=resume)
    typer.echo(f"Trained: {out}. Now: livestain export {out} --out BUNDLE")

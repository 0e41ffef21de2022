"""``livestain train``: a model from recorded pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from livestain.cli.codes import EXIT_INTERRUPTED, EXIT_MISSING
from livestain.cli.recipes import changed_recipe

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("train")(train)


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe's file, or the name of one of ours (see --list)."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder with movie-NAME/{brightfield,mitochondria}/*.png (or .tif), or with stores.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Folder to write.")
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Show the recipes that come with livestain, and end.")
    ] = False,
    shown: Annotated[
        str | None,
        typer.Option(
            "--print",
            metavar="RECIPE",
            help="Show a recipe with all its keys and what they mean, and end.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Instead of the recipe's, as optimiser.learning_rate=0.001; values are YAML. Repeatable.",
        ),
    ] = None,
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

    Split by movie: what --leave-out names is never seen, and no score chooses anything unless the
    recipe says so. Then: livestain export RUN --out BUNDLE. On several GPUs:
    torchrun --nproc-per-node N -m livestain train ...
    """
    given = {"movies": movies, "leave_out": leave_out, "steps": steps, "seed": seed}
    given = {key: value for key, value in given.items() if value not in (None, [])}
    if listing:
        _list()
        return
    if shown is not None:
        from livestain.training.printing import recipe_with_comments

        typer.echo(recipe_with_comments(changed_recipe(shown, changes or [], given)), nl=False)
        return
    missing = [
        name for name, value in (("RECIPE", recipe), ("--data", data), ("--out", out)) if not value
    ]
    if recipe is None or data is None or out is None:
        raise typer.BadParameter(
            f"{', '.join(missing)} missing. Give a recipe, --data and --out; or --list, or --print RECIPE."
        )
    settings = changed_recipe(recipe, changes or [], given)
    # Threads of OpenMP that spin while they wait cost several times the work itself wherever anything else
    # computes; read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The heavy packages only now that the recipe is known to be right.
    import torch

    from livestain.training.ranks import Ranks
    from livestain.training.run_folder import RECIPE, StoppedError
    from livestain.training.trainer import train as run_training

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        run_training(settings, data, out, device=device, monitor=monitor, resume=resume)
    except StoppedError as error:
        # It ran, and what it wrote can be gone on with: not the code of an input that cannot work.
        typer.echo(f"livestain: {error}", err=True)
        raise typer.Exit(EXIT_MISSING) from error
    except KeyboardInterrupt as error:
        begun = (out / RECIPE).is_file()
        what = "Go on with the same command and --resume." if begun else "Nothing was written."
        typer.echo(f"livestain: interrupted. {what}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    if Ranks.of_environment().first:
        typer.echo(f"Trained: {out}. Now: livestain export {out} --out BUNDLE")


def _list() -> None:
    """Show our recipes as a table."""
    from rich.console import Console
    from rich.table import Table

    from livestain.training.printing import list_recipes

    table = Table("recipe", "network", "dims", "what for", box=None, pad_edge=False)
    for name, network, dims, about in list_recipes():
        table.add_row(name, network, f"{dims}-D", about)
    Console().print(table)

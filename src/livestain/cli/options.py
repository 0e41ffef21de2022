"""The options that several verbs have, each in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BreakLockOption",
    "ConfigOption",
    "FaultOption",
    "JsonOption",
    "LeaveOwedOption",
    "MovedModelOption",
    "ReplayOption",
    "ThreadsOption",
]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Micro-Manager configuration; without it, a simulated dish."),
]

ReplayOption = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        metavar="FOLDER_OR_STORE",
        help="Show recorded planes as the camera's: images in name order, or a store.",
    ),
]

FaultOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="NAME=VALUE",
        help="Something that goes wrong at the simulated microscope, for example dropped_frames=0.05, "
        "failed_snaps=3,7, flicker=0.1, lamp_drop=30:0.4 or wrong_objective=20x. Repeatable; --fault help "
        "names them all.",
    ),
]

MovedModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=BUNDLE",
        help="Where the model of a virtual channel is now, if it is not on the search path. Repeatable.",
    ),
]

ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads of the model.")
]

LeaveOwedOption = Annotated[
    bool,
    typer.Option(
        "--leave-owed",
        help="End with the acquisition: what is then owed is left for livestain restain.",
    ),
]

BreakLockOption = Annotated[
    bool,
    typer.Option(
        "--break-lock",
        help="Take the store over from a process of another machine that cannot be asked whether it runs.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]

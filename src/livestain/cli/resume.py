"""``livestain resume``: a run that died, or was stopped, goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.devices import BackendOption, DeviceOption
from livestain.cli.options import (
    BreakLockOption,
    ConfigOption,
    JsonOption,
    LeaveOwedOption,
    MovedModelOption,
    ReplayOption,
    ThreadsOption,
)
from livestain.cli.window import ViewOption, check_view

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("resume")(resume)


def resume(
    store: Annotated[Path, typer.Argument(help="The store, RUN.ome.zarr, of a run that is over.")],
    config: ConfigOption = None,
    model: MovedModelOption = None,
    replay: ReplayOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    leave_owed: LeaveOwedOption = False,
    break_lock: BreakLockOption = False,
    view: ViewOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with the run in STORE: what is planned and not there is taken, then what is owed is stained.

    On the microscope as it was; a simulated run goes on over its own dish. Planes whose time in the plan
    has passed are recorded as missing. Exit codes as of livestain run.
    """
    from livestain.cli.driving import drive_and_tell
    from livestain.cli.run import open_microscope, parse_models, refuse_two_microscopes
    from livestain.live.same_dish import same_dish_core
    from livestain.live.session import Session
    from livestain.store import open_store

    models = parse_models(model or [])
    refuse_two_microscopes(config, replay)
    check_view(view)
    if config is None and replay is None:
        core: CMMCorePlus = same_dish_core(store)
    else:
        with open_store(store) as opened:
            pixel_size_um = opened.plan.pixel_size_um
        core = open_microscope(config, replay, pixel_size_um)
    session = Session.resume(
        core,
        store,
        models=models,
        device=device,
        backend=backend,
        threads=threads,
        leave_owed=leave_owed,
        break_lock=break_lock,
    )
    raise typer.Exit(drive_and_tell(session, view=view, as_json=as_json))

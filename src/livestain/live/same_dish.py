"""A simulated run goes on over its own dish, with the light that this got and the faults that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.errors import MicroscopeError, StoreError
from livestain.live.microscope import SimulatedCore, simulated_core
from livestain.live.simulation import Simulation
from livestain.simulate.light_dose import OTHER, TRANSMITTED
from livestain.store import journal_lines, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

__all__ = ["check_same_dish", "same_dish_core"]


def same_dish_core(path: Path) -> SimulatedCore:
    """Return the simulated microscope that a run was recorded on, as the run left it.

    Frames are counted on, so that no noise comes twice and no fault by its number; what light the recorded
    planes cost is on the cells again (that of frames the camera lost is not known).

    Raises
    ------
    StoreError
        If there is no store.
    MicroscopeError
        If the run was not simulated, so that another microscope has to be given.
    SettingsError
        If another version of livestain made it, with settings that are not known here.
    """
    with open_store(path) as store:
        made = store.attributes.get("simulation")
    if made is None:
        raise MicroscopeError(
            f"{path.name} was not recorded on the simulated microscope. Give the configuration of its own "
            "with --config, or the recording that it showed with --replay."
        )
    simulation = Simulation.parse(made, where=f"the simulation of {path.name}")
    core = simulated_core(
        dish=simulation.dish(),
        seconds_per_timepoint=simulation.seconds_per_timepoint,
        time_scale=simulation.time_scale,
        faults=simulation.faults,
    )
    lines = [line for line in journal_lines(path) if line["kind"] == "plane" and "shown" in line]
    for line in lines:
        _light_again(core, line["shown"], line.get("exposure_ms"))
    if lines:
        core.camera.go_on_from(
            1 + max(int(line["shown"].get("frame", -1)) for line in lines),
            max(float(line["shown"].get("time_s", 0.0)) for line in lines),
        )
    return core


def _light_again(core: SimulatedCore, shown: Mapping[str, Any], exposure_ms: float | None) -> None:
    """Add the light of a recorded plane to the dish."""
    if exposure_ms is None or "lamp" not in shown:  # no light came to the dish
        return
    light = {"brightfield": TRANSMITTED, "fluorescence": shown.get("label")}.get(
        shown["channel"], OTHER
    )
    height, width = (n * shown["pixel_size_um"] for n in core.camera.dish.shape)
    core.camera.dose.expose(
        str(light),
        (shown["x_um"], shown["y_um"]),
        (height, width),
        exposure_ms,
        brightness=shown["lamp"],
    )


def check_same_dish(made: Mapping[str, Any] | None, core: CMMCorePlus, path: Path) -> None:
    """Refuse to go on with a simulated run on another dish or a microscope, or with a real one on a dish.

    Parameters
    ----------
    made : mapping or None
        What the store says of the simulation.
    core : CMMCorePlus
        The microscope.
    path : Path
        The store's, for the message.

    Raises
    ------
    StoreError
        If they do not go together.
    SettingsError
        If another version of livestain made it, with settings that are not known here.
    """
    if made is None:
        if isinstance(core, SimulatedCore):
            raise StoreError(
                f"{path.name} does not say that it was recorded on a simulated dish, and this microscope is "
                "simulated. Go on with it on the microscope that it was recorded on."
            )
        return
    simulation = Simulation.parse(made, where=f"the simulation of {path.name}")
    if not isinstance(core, SimulatedCore):
        raise StoreError(
            f"{path.name} was recorded on a simulated dish (seed {simulation.seed}, "
            f"{simulation.profile.name}), and this microscope is not simulated. Go on with it without "
            "--config and --replay."
        )
    if words := simulation.differs(Simulation.of_camera(core.camera)):
        raise StoreError(
            f"{path.name} cannot go on: it was recorded on a dish of {words}. Leave --config and --replay "
            "out of livestain resume, which makes the run's own dish again."
        )

"""Virtual channels for programs that run acquisitions themselves: napari-micromanager, pymmcore-gui."""

from __future__ import annotations

import logging
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from pymmcore_plus.mda import MDAEngine

from livestain.bundle import bundles_for, find_bundle
from livestain.bundle.find import known_bundles
from livestain.bundle.read import read_description
from livestain.errors import BundleError, MicroscopeError
from livestain.live.checks import pixel_size_of
from livestain.live.installation import Installation, refuse_correction
from livestain.live.microscope import SimulatedCore
from livestain.live.virtual import (
    VIRTUAL_GROUP,
    VIRTUAL_SUFFIX,
    LivestainSettings,
)
from livestain.live.virtual_engine import VirtualEngine
from livestain.stain.asked import ChannelSettings, VirtualChannel
from livestain.stain.sources import output_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pymmcore_plus import CMMCorePlus

    from livestain.bundle import Bundle

__all__ = ["install", "uninstall"]

_log = logging.getLogger(__name__)

_MARK = "predicted by livestain: this preset moves nothing"
"""What our presets set a read-only property to."""

_installed: weakref.WeakKeyDictionary[CMMCorePlus, Installation] = weakref.WeakKeyDictionary()


def install(
    core: CMMCorePlus,
    models: Mapping[str, str | Path | Mapping[str, Any]] | None = None,
    *,
    pixel_size_um: float | None = None,
    lockstep: bool = True,
    camera: int = 0,
    memory_mb: int = 1024,
    device: str = "auto",
    threads: int | None = None,
) -> tuple[str, ...]:
    """Give a core virtual channels, for programs that run acquisitions on it themselves.

    Each virtual channel becomes a preset "NAME (virtual)" of the core's channel group, which any channel
    table shows, and a preset NAME of the group "Virtual". In a sequence that `core.mda.run` runs, it
    costs the cells no light and leaves triggered bursts as they are; its frames come through `frameReady` and
    into any output at their places in the sequence, with `meta["extra"]["livestain"]` saying that they are
    predicted, by which model, and what their counts mean. Applied by hand, the presets do nothing.

    The models run in this process, on the thread of the acquisition, which waits for them. For runs that
    must not wait, use `livestain.Session`.

    Install after the configuration is loaded. Another time replaces what was installed, unless the new
    models are refused: then all stays as it is. `uninstall` takes all of it away.

    Parameters
    ----------
    core : CMMCorePlus
        The program's core, with a configuration.
    models : mapping, optional
        By virtual channel: a bundle's name or folder, or a mapping with `bundle` and, as far as needed,
        `output`, `source` (the preset that is stained), `source_kind` and `lag`. None: all on the
        search path that fit the microscope's pixel size, except those of simulated cells.
    pixel_size_um : float, optional
        Side of a pixel in the sample, in micrometres, as the camera is binned now; wins over the core's.
    lockstep : bool
        Whether the acquisition waits for predictions and delivers them. If not, their places in outputs
        stay empty.
    camera : int
        Which image is looked at, where the camera gives several at once; the others' places stay empty.
    memory_mb : int
        What frames that wait for predictions may take, in MB (2**20 bytes); sequences that need more are
        refused before anything moves.
    device : str
        Of the models: "auto", "cpu", "cuda" or "cuda:N".
    threads : int, optional
        CPU threads of torch, for the whole process, until `uninstall`.

    Returns
    -------
    tuple of str
        The presets in the channel group, or in "Virtual" where the core has no channel group.

    Raises
    ------
    MicroscopeError
        If an acquisition runs, the core's engine is not an `MDAEngine`, or a preset of that name exists.
    BundleError
        If a model is unknown or ambiguous, or none fits.
    SettingsError
        If a channel's mapping has a key that it does not know, or a flat field.
    """
    if core.mda.is_running():
        raise MicroscopeError("The microscope runs an acquisition. Wait for its end, then install.")
    if not isinstance(core.mda.engine, MDAEngine):
        raise MicroscopeError(
            f"The core's engine is a {type(core.mda.engine).__name__}, which is no pymmcore_plus.mda."
            "MDAEngine; livestain can extend these alone. Set one with "
            "core.mda.set_engine(MDAEngine(core)), or derive yours from it."
        )
    channels = {
        name: _channel(name, given)
        for name, given in (models or _fitting(core, pixel_size_um)).items()
    }
    uninstall(core)  # now that there are others to take the place of what was installed
    engine = core.mda.engine
    installation = Installation(
        core,
        channels,
        pixel_size_um=pixel_size_um,
        lockstep=lockstep,
        camera=camera,
        memory_mb=memory_mb,
        device=device,
        threads=threads,
    )
    _installed[core] = installation
    try:
        _add_presets(core, installation, tuple(channels))
        installation.engine = engine
        core.mda.set_engine(VirtualEngine.over(engine, installation))
    except BaseException:
        uninstall(core)
        raise
    return tuple(installation.presets) or tuple(channels)


def uninstall(core: CMMCorePlus) -> None:
    """Take away what `install` gave a core: presets, the group "Virtual", the engine, the models.

    Settings that the program has changed on the engine meanwhile stay. A second time, or on a core
    without virtual channels, does nothing.

    Parameters
    ----------
    core : CMMCorePlus
        As given to `install`.

    Raises
    ------
    MicroscopeError
        If an acquisition runs.
    """
    installation = _installed.get(core)
    if installation is None:
        return
    if core.mda.is_running():
        raise MicroscopeError(
            "The microscope runs an acquisition. Wait for its end, then uninstall."
        )
    del _installed[core]
    installation.close()
    engine, own = core.mda.engine, installation.engine
    if own is not None and isinstance(engine, VirtualEngine):
        # Another engine that a program has set since is its own business.
        own.__dict__.update({k: v for k, v in engine.__dict__.items() if k in own.__dict__})
        core.mda.set_engine(own)
    _remove_presets(core, installation)


def _channel(name: str, given: str | Path | Mapping[str, Any]) -> tuple[ChannelSettings, Bundle]:
    data = {"bundle": str(given)} if isinstance(given, str | Path) else dict(given)
    settings = ChannelSettings.parse(data, where=f"install, virtual channel {name!r}")
    refuse_correction(name, settings)
    if settings.bundle is not None:
        bundle = find_bundle(settings.bundle)
    else:
        bundle = _only(name, bundles_for(settings.output or name))
    output_of(VirtualChannel(name, settings, frozenset()), bundle)
    return settings, bundle


def _only(name: str, found: list[Bundle]) -> Bundle:
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(known_bundles()) or "none"
        raise BundleError(
            f"No model predicts {name!r}; known models are: {known}. Give one: "
            f"livestain.install(core, {{{name!r}: BUNDLE}}), or put it on LIVESTAIN_MODELS."
        )
    raise BundleError(
        f"Several models predict {name!r}: {', '.join(sorted(b.name for b in found))}. Choose one: "
        f"livestain.install(core, {{{name!r}: NAME}})."
    )


def _fitting(core: CMMCorePlus, given: float | None) -> dict[str, str]:
    """Return the models on the search path that fit the microscope, by what they predict."""
    pixel = pixel_size_of(core, LivestainSettings(), given)
    outputs: dict[str, None] = {}
    for folder in known_bundles().values():
        try:
            description = read_description(folder).description
        except BundleError as error:
            _log.warning("Left out: %s", error)
            continue
        outputs.update({o.name: None for o in description.outputs if o.spread_of is None})
    chosen, unasked = {}, []
    for output in outputs:
        found = bundles_for(output, None, pixel)
        # A model of simulated cells would draw mitochondria into real ones, too.
        fitting = [b for b in found if b.description.simulated == isinstance(core, SimulatedCore)]
        unasked += [b.name for b in found if b not in fitting]
        if fitting:
            chosen[output] = str(_only(output, fitting).path)
    if not chosen:
        raise BundleError(
            f"No model on the search path fits pixels of {pixel:g} um. Give one with its name or "
            "folder: livestain.install(core, {NAME: BUNDLE}), or put it on LIVESTAIN_MODELS."
            + (f" ({', '.join(sorted(set(unasked)))}: for simulated cells.)" if unasked else "")
        )
    return chosen


def _add_presets(core: CMMCorePlus, installation: Installation, names: tuple[str, ...]) -> None:
    installation.made_group = VIRTUAL_GROUP not in core.getAvailableConfigGroups()
    nothing = _nothing(core)
    group = installation.channel_group
    wanted = [(VIRTUAL_GROUP, name) for name in names]
    wanted += [(group, name + VIRTUAL_SUFFIX) for name in names if group]
    installation.others = frozenset(
        (there, preset)
        for there in (VIRTUAL_GROUP, group)
        if there and core.isGroupDefined(there)
        for preset in core.getAvailableConfigs(there)
        if not _is_ours(core, there, preset)
    )
    for config_group, preset in wanted:
        if (config_group, preset) in installation.others:
            raise MicroscopeError(
                f"The microscope's group {config_group!r} has a preset {preset!r} of its own. Rename "
                "that, or give the virtual channel another name: livestain.install(core, {NAME: BUNDLE})."
            )
        core.defineConfig(config_group, preset, *nothing)
        if config_group == group:
            installation.presets.append(preset)
        else:
            installation.virtual_presets.append(preset)


def _is_ours(core: CMMCorePlus, group: str, preset: str) -> bool:
    """Return whether a preset was left behind by an earlier program, in a configuration file perhaps."""
    settings = list(core.getConfigData(group, preset))
    return bool(settings) and all(setting[2] == _MARK for setting in settings)


def _remove_presets(core: CMMCorePlus, installation: Installation) -> None:
    """Delete our presets; a configuration that was loaded since may have deleted them already."""
    for group, presets in (
        (installation.channel_group, installation.presets),
        (VIRTUAL_GROUP, installation.virtual_presets),
    ):
        if not core.isGroupDefined(group):
            continue
        for preset in presets:
            if preset in core.getAvailableConfigs(group):
                core.deleteConfig(group, preset)
    if (
        installation.made_group
        and core.isGroupDefined(VIRTUAL_GROUP)
        and not core.getAvailableConfigs(VIRTUAL_GROUP)
    ):
        core.deleteConfigGroup(VIRTUAL_GROUP)


def _nothing(core: CMMCorePlus) -> tuple[str, ...]:
    """Return a setting that changes nothing and is never fulfilled.

    A preset without settings, or with one that is always fulfilled, would be what `getCurrentConfig`
    tells whenever no other preset's settings are. Micro-Manager ignores what is written to a read-only
    property, so a value that the property never has does neither.
    """
    for label in core.getLoadedDevices():
        for prop in ("Description", "Name"):
            if (
                label == "Core"
                or not core.hasProperty(label, prop)
                or not core.isPropertyReadOnly(label, prop)
            ):
                continue
            before = core.getProperty(label, prop)
            try:
                core.setProperty(label, prop, _MARK)
            except (RuntimeError, ValueError):
                continue
            if core.getProperty(label, prop) == before:
                return label, prop, _MARK
    return ()

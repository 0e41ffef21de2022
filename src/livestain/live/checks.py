"""What is asked of microscope, recording and disk before anything moves or is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from livestain.errors import MicroscopeError, SequenceError, StoreError
from livestain.live.replay import ReplaySource
from livestain.store.space import disk_of

if TYPE_CHECKING:
    from pathlib import Path

    import useq
    from pymmcore_plus import CMMCorePlus

    from livestain.live.virtual import LivestainSettings
    from livestain.store import StorePlan

__all__ = [
    "camera_format",
    "check_idle",
    "check_pixels",
    "check_presets",
    "check_recording",
    "check_recording_stays",
    "check_room",
    "pixel_size_of",
]


_FEW = 3
"""Time points that a run must at least have room for, where nobody knows how many there will be."""


def check_room(out: Path, plan: StorePlan) -> None:
    """Refuse a run whose planes do not fit on the disk, or that cannot be written there.

    Raises
    ------
    StoreError
        Naming the bytes needed, the bytes free and the place; or the place that cannot be written to.
    """
    folder, free = disk_of(out)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StoreError(
            f"Cannot write {out.absolute()}: {folder} is no folder that can be written to. "
            "Choose another --out."
        )
    needed = plan.nbytes()
    if plan.open_end and _FEW * needed > free:
        raise StoreError(
            f"{_FEW} time points of the run may need {_FEW * needed / 1e6:,.1f} MB and {folder} has "
            f"{free / 1e6:,.1f} MB free. Make room, or choose another --out."
        )
    if needed > free:
        raise StoreError(
            f"The run may need {needed / 1e6:,.1f} MB and {folder} has {free / 1e6:,.1f} MB free. "
            "Make room, shorten the sequence, or choose another --out."
        )


def check_recording_stays(core: CMMCorePlus, out: Path) -> None:
    """Refuse to write over the recording that the camera shows.

    Raises
    ------
    StoreError
        If the output is the recording's own place.
    """
    source = getattr(core, "source", None)
    if isinstance(source, ReplaySource) and source.path.resolve() == out.resolve():
        raise StoreError(
            f"The output {out} is the recording that --replay shows; the run would replace what it "
            "is made from. Give another --out."
        )


def pixel_size_of(core: CMMCorePlus, settings: LivestainSettings, given: float | None) -> float:
    """Return the pixel size in micrometres: as given, else the sequence's, else the core's.

    Raises
    ------
    MicroscopeError
        If nobody knows it.
    """
    if given is not None and not given > 0:
        raise MicroscopeError(
            f"The pixel size {given:g} um cannot be; expected micrometres greater than 0 "
            "(--pixel-size UM; pixel_size_um in Python)."
        )
    for size in (given, settings.pixel_size_um, core.getPixelSizeUm()):
        if size:
            return float(size)
    raise MicroscopeError(
        "The microscope's pixel size is not calibrated (it says 0 um). Calibrate it in Micro-Manager, "
        "or give it with --pixel-size UM, or as pixel_size_um under metadata.livestain of the sequence."
    )


def check_recording(core: CMMCorePlus, plan: StorePlan) -> None:
    """Refuse a plan that asks a replayed recording for planes that it does not have."""
    source = getattr(core, "source", None)
    if not isinstance(source, ReplaySource):
        return
    raw = [(c, channel.name) for c, channel in enumerate(plan.channels) if channel.kind == "raw"]
    # The demo hardware has presets of its own, under which the camera would show another channel.
    if strange := [name for _, name in raw if name not in source.channels]:
        raise SequenceError(
            f"The recording {source.path} has no channel {strange[0]!r}; it has: "
            f"{', '.join(source.channels)}. Give the sequence channels that were recorded."
        )
    if plan.n_p > 1:
        raise SequenceError(
            f"The sequence visits {plan.n_p} positions, and the recording {source.path} shows one. Leave one "
            "stage position, or none."
        )
    if plan.n_t > source.n_t or plan.n_z > source.n_z:
        raise SequenceError(
            f"The sequence has {plan.n_t} time points and {plan.n_z} z-planes, the recording "
            f"{source.path} has {source.n_t} and {source.n_z}. Shorten the sequence to what was "
            "recorded."
        )
    for c, name in raw:
        wanted = plan.planned_indices(c)
        if holes := [i for i in wanted if not source.has(name, i.t, i.z)]:
            raise SequenceError(
                f"The recording {source.path} lacks {len(holes)} of the {len(wanted)} planes that the "
                f"sequence has of channel {name!r}, the first at t {holes[0].t}, z {holes[0].z}. Leave "
                "them out, for example with acquire_every, do_stack: false or fewer loops."
            )


def camera_format(core: CMMCorePlus) -> tuple[int, int, int]:
    """Return height, width and bit depth; refuse colour and more than 16 bits."""
    camera = core.getCameraDevice()
    if not camera:
        raise MicroscopeError(
            "The microscope has no camera: choose one in the Micro-Manager configuration."
        )
    if (cameras := core.getNumberOfCameraChannels()) != 1:
        raise MicroscopeError(
            f"The camera {camera!r} gives {cameras} images at once, and the store has one place for "
            "each event's image. Choose a single camera in the Micro-Manager configuration."
        )
    check_pixels(core)
    return core.getImageHeight(), core.getImageWidth(), min(core.getImageBitDepth(), 16)


def check_pixels(core: CMMCorePlus) -> None:
    """Refuse colour and more than 16 bits."""
    camera = core.getCameraDevice()
    components, bytes_per_pixel = core.getNumberOfComponents(), core.getBytesPerPixel()
    if components != 1:
        raise MicroscopeError(
            f"The camera {camera!r} gives colour images ({components} components); livestain stains "
            "grey images of 8 or 16 bits. Set its PixelType to 8bit or 16bit."
        )
    if bytes_per_pixel not in (1, 2):
        raise MicroscopeError(
            f"The camera {camera!r} gives {8 * bytes_per_pixel}-bit images; livestain stores 8 or 16 "
            "bits without loss. Set its PixelType to 8bit or 16bit."
        )


def check_presets(core: CMMCorePlus, sequence: useq.MDASequence) -> None:
    """Refuse a sequence with a config group or preset that the microscope does not have."""
    for channel in sequence.channels:
        groups = core.getAvailableConfigGroups()
        if channel.group not in groups:
            raise SequenceError(
                f"The sequence uses the config group {channel.group!r}, which the microscope does "
                f"not have; it has: {', '.join(groups)}."
            )
        presets = core.getAvailableConfigs(channel.group)
        if channel.config not in presets:
            raise SequenceError(
                f"The microscope's group {channel.group!r} has no preset {channel.config!r}; it has: "
                f"{', '.join(presets)}."
            )


def check_setup(core: CMMCorePlus, sequence: useq.MDASequence) -> None:
    """Refuse a sequence whose setup changes the camera's frame, for which all has been planned."""
    setup = sequence.setup
    if setup is None:
        return
    camera = core.getCameraDevice()
    changed = [f"{device} {name}" for device, name, _ in setup.properties or () if device == camera]
    if setup.roi is not None:
        changed.append("the region of interest")
    if changed:
        raise SequenceError(
            f"The sequence's setup changes {', '.join(changed)}, and the store is planned for the camera "
            "as it is now. Set it before the run, and leave it out of the setup."
        )


def check_idle(core: CMMCorePlus) -> None:
    """Refuse a microscope that somebody else is using."""
    busy = (
        "runs another acquisition"
        if core.mda.is_running()
        else "shows its live view"
        if core.isSequenceRunning()
        else None
    )
    if busy:
        raise MicroscopeError(f"The microscope {busy}. Stop it, or wait for its end, then start.")

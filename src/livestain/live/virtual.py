"""Virtual channels in a sequence: what they are called, and how they are taken out before hardware moves."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import useq
from pydantic import BaseModel, Field, ValidationError

from livestain.errors import SequenceError
from livestain.live.events import index_of
from livestain.settings import Settings, describe_validation_error, read_yaml
from livestain.stain.asked import ChannelSettings, Place, VirtualChannel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "VIRTUAL_GROUP",
    "VIRTUAL_SUFFIX",
    "LivestainSettings",
    "SplitSequence",
    "load_sequence",
    "settings_of",
    "split_sequence",
]

VIRTUAL_GROUP = "Virtual"
"""The config group that marks a channel of a sequence as predicted, not measured."""

VIRTUAL_SUFFIX = " (virtual)"
"""What presets of virtual channels end in where they stand among the real ones (`livestain.install`)."""


class LivestainSettings(Settings):
    """What lies under ``metadata.livestain`` of a sequence."""

    pixel_size_um: float | None = Field(default=None, gt=0)
    """Pixel size in micrometres in the sample, only where the core does not know it."""

    channels: dict[str, ChannelSettings] = Field(default_factory=dict)
    """Settings by virtual channel."""


@dataclass(frozen=True)
class SplitSequence:
    """A sequence without its virtual channels, and these by themselves."""

    raw: useq.MDASequence
    virtual: tuple[VirtualChannel, ...]
    settings: LivestainSettings


def load_sequence(path: Path | str) -> useq.MDASequence:
    """Read a `useq.MDASequence` from YAML or JSON.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    SequenceError
        If it is no sequence, or has a key that sequences do not have (useq would ignore it silently).
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SequenceError(f"{path} holds no sequence: expected keys such as channels, time_plan.")
    _check_keys(data, useq.MDASequence, f"{path}")
    if isinstance(places := data.get("stage_positions"), list):
        # useq takes [x, y] and [x, y, z] as tuples alone, which neither YAML nor JSON has.
        places = [tuple(place) if isinstance(place, list) else place for place in places]
        data = {**data, "stage_positions": places}
    try:
        sequence = useq.MDASequence.model_validate(data)
    except ValidationError as error:
        raise SequenceError(f"{path}: {describe_validation_error(error)}") from error
    _check_nested_keys(data, sequence, f"{path}")
    return sequence


def _check_keys(given: Iterable[object], model: type[BaseModel], place: str) -> None:
    """Refuse keys that a model does not have, naming the nearest that it has."""
    known = set(model.model_fields)
    for field in model.model_fields.values():
        known |= {a for a in (field.alias, field.validation_alias) if isinstance(a, str)}
    if unknown := sorted(set(map(str, given)) - known):
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise SequenceError(
            f"{place} has the unknown key {', '.join(unknown)}{hint}; the keys here are "
            f"{', '.join(sorted(known))}."
        )


def _check_nested_keys(given: dict[str, Any], sequence: useq.MDASequence, place: str) -> None:
    """Refuse keys inside channels and plans that the models chosen by useq ignored."""
    pairs: list[tuple[object, object, str]] = [
        (given.get("time_plan"), sequence.time_plan, "time_plan"),
        (given.get("z_plan"), sequence.z_plan, "z_plan"),
    ]
    channels = zip(given.get("channels") or (), sequence.channels, strict=True)
    pairs += [(one, channel, f"channels[{n}]") for n, (one, channel) in enumerate(channels)]
    phases = given.get("time_plan")
    phases = phases.get("phases") if isinstance(phases, dict) else phases
    if isinstance(phases, list) and isinstance(sequence.time_plan, useq.MultiPhaseTimePlan):
        known = zip(phases, sequence.time_plan.phases, strict=True)
        pairs += [(one, phase, f"time_plan.phases[{n}]") for n, (one, phase) in enumerate(known)]
    for one, model, name in pairs:
        if isinstance(one, dict) and isinstance(model, BaseModel):
            _check_keys(one, type(model), f"{place}: {name}")
    positions = given.get("stage_positions")
    for n, one in enumerate(positions if isinstance(positions, list) else ()):
        own = one.get("sequence") if isinstance(one, dict) else None
        read = sequence.stage_positions[n].sequence
        if isinstance(own, dict) and read is not None:
            inner = f"{place}: stage_positions[{n}].sequence"
            _check_keys(own, useq.MDASequence, inner)
            _check_nested_keys(own, read, inner)


def _by_group(sequence: useq.MDASequence) -> useq.MDASequence:
    """Return a sequence that a channel table made with the virtual channels in their own group."""
    channels = [
        channel.model_copy(
            update={
                "group": VIRTUAL_GROUP,
                "config": channel.config.removesuffix(VIRTUAL_SUFFIX),
            }
        )
        if channel.config.endswith(VIRTUAL_SUFFIX)
        else channel
        for channel in sequence.channels
    ]
    return sequence if channels == list(sequence.channels) else sequence.replace(channels=channels)


def settings_of(sequence: useq.MDASequence) -> LivestainSettings:
    """Return what lies under ``metadata.livestain`` of a sequence.

    Raises
    ------
    SettingsError
        If it does not fit its schema.
    """
    return LivestainSettings.parse(
        sequence.metadata.get("livestain") or {}, where="metadata.livestain of the sequence"
    )


def split_sequence(sequence: useq.MDASequence) -> SplitSequence:
    """Take the virtual channels out of a sequence, so that no exposure is ever made for them.

    A preset "NAME (virtual)", as other programs' channel tables have it, is the virtual channel NAME.

    Raises
    ------
    SequenceError
        If the sequence asks for what cannot be: an unknown length, a virtual
        channel with a z-offset or without any raw channel.
    SettingsError
        If ``metadata.livestain`` does not fit its schema.
    """
    settings = settings_of(sequence)
    _check_axes(sequence)
    sequence = _by_group(sequence)
    names = [c.config for c in sequence.channels if c.group == VIRTUAL_GROUP]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise SequenceError(f"The virtual channel {repeated[0]!r} stands twice in the sequence.")
    if stray := sorted(set(settings.channels) - set(names)):
        raise SequenceError(
            f"metadata.livestain has settings for the virtual channel {stray[0]!r}, which the "
            f"sequence does not have; it has: {', '.join(names) or 'none'}. Add "
            f"{{group: {VIRTUAL_GROUP}, config: {stray[0]}}} to its channels, or take the settings out."
        )
    raw_channels = tuple(c for c in sequence.channels if c.group != VIRTUAL_GROUP)
    if names and not raw_channels:
        raise SequenceError(
            f"The sequence has the virtual channel {names[0]!r} but no channel that it could be "
            "predicted from. Add its source, for example {config: Brightfield}, to the channels."
        )
    requested: dict[str, set[Place]] = {name: set() for name in names}
    for event in sequence if names else ():
        if event.channel is not None and event.channel.group == VIRTUAL_GROUP:
            p, t, _, z = index_of(event)
            requested[event.channel.config].add((p, t, z))
    for channel in sequence.channels:
        if channel.group == VIRTUAL_GROUP and channel.z_offset:
            raise SequenceError(
                f"The virtual channel {channel.config!r} has z_offset {channel.z_offset} um; a "
                "prediction lies in its source's plane, so z_offset must be 0 or left out."
            )
    return SplitSequence(
        raw=sequence.replace(channels=raw_channels) if names else sequence,
        virtual=tuple(
            VirtualChannel(
                name, settings.channels.get(name, ChannelSettings()), frozenset(requested[name])
            )
            for name in names
        ),
        settings=settings,
    )


def _check_plans(sequence: useq.MDASequence) -> None:
    """Refuse time and z plans that useq takes and cannot run through, or runs through differently."""
    for phase in getattr(sequence.time_plan, "phases", [sequence.time_plan]):
        # Fields only: useq's derived interval divides by loops - 1.
        for name in {"interval", "duration"} & set(getattr(type(phase), "model_fields", ())):
            seconds = getattr(phase, name).total_seconds()
            if seconds < 0:
                raise SequenceError(
                    f"The time plan has the {name} {seconds:g} s; time goes forward, so give 0 or more."
                )
        if isinstance(phase, useq.TDurationLoops) and phase.loops == 1:
            raise SequenceError(
                "The time plan has a duration and 1 loop, and one time point has no duration. Give "
                "more loops, or an interval in place of the duration."
            )
    if sequence.z_plan is None:
        return
    for name in type(sequence.z_plan).model_fields:
        value = getattr(sequence.z_plan, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise SequenceError(f"The z-plan has the {name} {value:g}; give micrometres.")
    step = getattr(sequence.z_plan, "step", None)
    if step is not None and not step > 0:
        raise SequenceError(
            f"The z-plan has the step {step:g} um; expected micrometres greater than 0. For the other "
            "direction use go_up: false; for one plane leave the z_plan out."
        )


def _check_axes(sequence: useq.MDASequence) -> None:
    for part in (sequence, *(p.sequence for p in sequence.stage_positions if p.sequence)):
        _check_plans(part)
        # First of all: useq cannot even say the sizes of a sequence without an end.
        for phase in getattr(part.time_plan, "phases", [part.time_plan]):
            if isinstance(phase, useq.TIntervalDuration) and not (
                phase.interval.total_seconds() and phase.duration
            ):
                raise SequenceError(
                    "The time plan has no end that can be counted (interval 0, or no duration), so its "
                    "number of time points is not known beforehand. Give loops, or an interval and a "
                    "duration above 0."
                )

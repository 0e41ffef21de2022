"""Which channels a staining after the run is about: those that are there, and those that are to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from livestain.bundle import find_bundle
from livestain.errors import BundleError, DataError, SequenceError
from livestain.flat_field import FlatField
from livestain.stain.asked import ChannelSettings, VirtualChannel
from livestain.stain.planning import PlannedVirtual, RawPlanes, plan_virtual
from livestain.stain.provenance import bundle_place
from livestain.stain.sources import first_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from livestain.bundle import Bundle
    from livestain.store import ChannelPlan

__all__ = ["Asked", "NewChannel", "asked_of", "begun_with", "refuse_other_model"]

Models = dict[int, tuple["Bundle", str]]
"""Bundle and name of its output, by virtual channel's place in the store."""


@dataclass(frozen=True)
class NewChannel:
    """A virtual channel that a store does not have yet."""

    planned: PlannedVirtual
    bundle: Bundle


@dataclass(frozen=True)
class Asked:
    """What is to be done.

    Attributes
    ----------
    here : dict
        Models of the virtual channels that are there and are meant.
    new : list of NewChannel
        Those that are to be added, in their order.
    """

    here: Models
    new: list[NewChannel]


def asked_of(
    channels: Sequence[ChannelPlan],
    raw: RawPlanes,
    *,
    model: str | None,
    channel: str | None,
    models: Mapping[str, str],
    settings: ChannelSettings,
    facts: Mapping[str, Any] | None = None,
) -> Asked:
    """Find out which channels are meant.

    Parameters
    ----------
    channels : sequence of ChannelPlan
        Those of the store; of one that is to be made, the raw ones alone.
    raw : RawPlanes
        What predictions can be made from.
    model, channel, models, settings
        See `livestain.restain.restain`.
    facts : mapping, optional
        What the store knows of its models, by channel.

    Raises
    ------
    LivestainError
        If a model is not found, is another than a channel was begun with, or does not fit.
    """
    virtual = {ch.name: c for c, ch in enumerate(channels) if ch.virtual is not None}
    taken = {ch.name for ch in channels}
    if channel is not None and model is None and channel not in virtual:
        raise BundleError(
            f"There is no virtual channel {channel!r}; there are: {', '.join(virtual) or 'none'}. To add "
            f"it, give its model: --model BUNDLE --channel {channel}."
        )
    wanted = {name: bundle for name, bundle in models.items() if name not in virtual}
    for name in (*wanted, *([channel] if channel is not None else [])):
        if not name.strip() or name.endswith("(predicted)"):
            raise BundleError(
                f'A channel cannot be called {name!r}: viewers show virtual channels as "NAME (predicted)". '
                "Give NAME alone."
            )
    if wanted and virtual:  # a slip of the pen must not make a channel
        name = next(iter(wanted))
        raise BundleError(
            f"A model is given for {name!r}, which is no virtual channel of the store; it has: "
            f"{', '.join(virtual)}. To add it: --model BUNDLE --channel {name}."
        )
    if model is not None and channel is not None and channel not in virtual:
        wanted[channel] = model
    for name in wanted:
        if name in taken:
            raise BundleError(
                f"{name!r} is an acquired channel, and predictions need a name of their own. Give another "
                "one with --channel."
            )
    of_new = settings.model_dump(exclude_defaults=True, exclude={"lag"})
    if of_new and channel in virtual:
        _refuse_settings(channels[virtual[channel]], of_new)
    if not wanted and model is None:
        if of_new:
            raise BundleError(
                f"{', '.join('--' + name.replace('_', '-') for name in of_new)} are for new channels, and no "
                "model was given for one. Add --model BUNDLE, or leave them out."
            )
        meant = virtual if channel is None else {channel: virtual[channel]}
        known = facts or {}
        here: Models = {
            c: begun_with(channels[c], models.get(name), known.get(name))
            for name, c in meant.items()
        }
        return Asked(here, [])

    here = {}
    new: list[NewChannel] = []
    if model is not None and channel in virtual:
        assert channel is not None  # noqa: S101 - None is no channel's name
        here[virtual[channel]] = begun_with(channels[virtual[channel]], model)
    elif model is not None and channel is None:
        bundle = find_bundle(model)
        outputs = [output.name for output in bundle.description.outputs]
        for output in outputs if settings.output is None else [settings.output]:
            found = next(
                (c for c in virtual.values() if _is_of(channels[c], bundle, output, settings)), None
            )
            if found is not None:
                here[found] = (bundle, output)
                continue
            name = _name_of(output, bundle, taken)
            taken.add(name)
            own = settings.model_copy(update={"output": output})
            new.append(_plan(name, bundle, own, raw, len(channels) + len(new)))
    for name, bundle_name in wanted.items():
        new.append(_plan(name, find_bundle(bundle_name), settings, raw, len(channels) + len(new)))
    return Asked(here, new)


def begun_with(
    channel: ChannelPlan, given: str | None, facts: Mapping[str, Any] | None = None
) -> tuple[Bundle, str]:
    """Return a virtual channel's bundle and output: the model that it was begun with, and no other.

    Parameters
    ----------
    channel : ChannelPlan
    given : str or None
        Where it is now; None: on the search path, under its name, or where it was.
    facts : mapping, optional
        What the store knows of the channel's model.

    Raises
    ------
    BundleError
        If it is not found, or is another.
    DataError
        If a flat field or dark frame of the channel is gone or has changed.
    """
    virtual = channel.virtual
    assert virtual is not None  # noqa: S101 - asked of virtual channels alone
    bundle = find_bundle(given or bundle_place(virtual, facts or {}))
    refuse_other_model(channel, bundle)
    if virtual.correction is not None:
        files = (virtual.correction.flat_field, virtual.correction.dark_frame)
        if FlatField(*files).sha256 != virtual.correction.sha256:
            raise DataError(
                f"The planes of {channel.name!r} were corrected by {' and '.join(filter(None, files))}, "
                "which has changed since. Put the files of the run back."
            )
    return bundle, virtual.output


def refuse_other_model(channel: ChannelPlan, bundle: Bundle) -> None:
    """Refuse a model that a channel was not begun with.

    Raises
    ------
    BundleError
    """
    virtual = channel.virtual
    assert virtual is not None  # noqa: S101 - asked of virtual channels alone
    if bundle.sha256 != virtual.bundle_sha256:
        raise BundleError(
            f"The channel {channel.name!r} was begun with the model {virtual.bundle} of SHA-256 "
            f"{virtual.bundle_sha256[:12]}, and {bundle.path} has {bundle.sha256[:12]}. A channel holds "
            f"predictions of one model: give that one with --model {channel.name}=FOLDER, or add a channel "
            "for this one with --channel NAME."
        )


def _refuse_settings(channel: ChannelPlan, given: Mapping[str, Any]) -> None:
    virtual = channel.virtual
    assert virtual is not None  # noqa: S101 - asked of virtual channels alone
    raise BundleError(
        f"The channel {channel.name!r} is there already, predicted from {' and '.join(virtual.sources)}; "
        f"{', '.join('--' + name.replace('_', '-') for name in given)} cannot change that. Leave them out, "
        "or add another channel with --channel NAME."
    )


def _is_of(channel: ChannelPlan, bundle: Bundle, output: str, settings: ChannelSettings) -> bool:
    """Whether a channel already shows what is asked for."""
    virtual = channel.virtual
    if virtual is None or (virtual.bundle_sha256, virtual.output) != (bundle.sha256, output):
        return False
    if settings.sources not in ((), virtual.sources, virtual.sources[:1]):
        return False
    files = (settings.flat_field, settings.dark_frame)
    if files == (None, None):
        return True
    corrected = virtual.correction
    return corrected is not None and FlatField(*files).sha256 == corrected.sha256


def _name_of(output: str, bundle: Bundle, taken: set[str]) -> str:
    """Return a name for a channel: its output's, or, where that is taken, with its model's."""
    for name in (output, f"{output} {bundle.name}"):
        if name not in taken:
            return name
    raise BundleError(
        f"There are channels {output!r} and '{output} {bundle.name}' already. Name the new one with "
        "--channel."
    )


def _plan(
    name: str, bundle: Bundle, settings: ChannelSettings, raw: RawPlanes, c: int
) -> NewChannel:
    if not settings.sources and len(raw.names) == 1:
        settings = settings.model_copy(update={"source": raw.names[0]})
    virtual = VirtualChannel(name, settings, frozenset(), of="data")
    first_c, _ = first_source(virtual, raw.names)
    if not raw.planned[first_c]:
        raise SequenceError(
            f"The channel {raw.names[first_c]!r} has no plane, so nothing can be predicted from it. Name "
            "another one with --source."
        )
    wanted = replace(virtual, requested=frozenset(raw.planned[first_c]))
    return NewChannel(plan_virtual(wanted, bundle, raw, c), bundle)

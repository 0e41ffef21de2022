"""What a virtual channel is predicted from, and which of its model's outputs it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.errors import BundleError, SequenceError
from livestain.stain.asked import kind_of_channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.bundle import Bundle
    from livestain.stain.asked import Kind, VirtualChannel

__all__ = ["all_sources", "first_source", "output_of"]


def first_source(virtual: VirtualChannel, raw_names: Sequence[str]) -> tuple[int, Kind]:
    """Return the place of the first source among the raw channels, and what it shows.

    It is found before the model, which is chosen by it.

    Raises
    ------
    SequenceError
        If the channel named is not there, none or several can be meant, or nobody says what it shows.
    """
    kinds = virtual.settings.source_kinds
    if virtual.settings.sources:
        c = _named(virtual, virtual.settings.sources[0], raw_names)
    else:
        c = _of_kind(virtual, kinds[0] if kinds else "brightfield", raw_names, taken=())
    return c, kinds[0] if kinds else _kind(virtual, raw_names[c])


def all_sources(
    virtual: VirtualChannel, bundle: Bundle, raw_names: Sequence[str]
) -> tuple[int, ...]:
    """Return the places of all sources that a model looks at, in the model's order.

    Those that the settings do not name are found by what their names say they show.

    Raises
    ------
    SequenceError
        As `first_source`; or if the settings name another number of sources, or of another kind.
    """
    wanted = bundle.description.input.kinds
    names, kinds = virtual.settings.sources, virtual.settings.source_kinds
    if (len(names) > 1 and len(names) != len(wanted)) or (
        len(kinds) > 1 and len(kinds) != len(wanted)
    ):
        raise SequenceError(
            f"The model {bundle.name} looks at {len(wanted)} channel{'s' * (len(wanted) > 1)} "
            f"({', '.join(wanted)}), and the settings of {virtual.name!r} name {', '.join(names or kinds)}. "
            f"Name as many by {virtual.where('source')} and source_kind, in this order, or leave the "
            "others out."
        )
    found = [first_source(virtual, raw_names)[0]]
    for n, kind in enumerate(wanted[1:], start=1):
        if n >= len(names):
            found.append(_of_kind(virtual, kind, raw_names, taken=found))
            continue
        c = _named(virtual, names[n], raw_names)
        shown = kinds[n] if n < len(kinds) else _kind(virtual, raw_names[c])
        if shown != kind or c in found:
            raise SequenceError(
                f"The model {bundle.name} looks at {', '.join(wanted)}, in this order, and source number "
                f"{n + 1} of {virtual.name!r}, {names[n]!r}, "
                + (f"is {shown}." if shown != kind else "stands there twice.")
                + " Give the sources in the model's order."
            )
        found.append(c)
    return tuple(found)


def output_of(virtual: VirtualChannel, bundle: Bundle) -> str:
    """Return which of its model's outputs a virtual channel shows: as said, of its name, or the only one.

    Raises
    ------
    BundleError
        If there is none.
    """
    names = [output.name for output in bundle.description.outputs]
    wanted = virtual.settings.output
    if wanted is None:
        wanted = virtual.name if virtual.name in names else names[0] if len(names) == 1 else None
    if wanted not in names:
        raise BundleError(
            f"The model {bundle.name} predicts {', '.join(names)}; the virtual channel "
            f"{virtual.name!r} needs one of these: set {virtual.where('output')}"
            f"{' (or in what livestain.install is given)' if virtual.of == 'sequence' else ''}."
        )
    return wanted


def _named(virtual: VirtualChannel, name: str, raw_names: Sequence[str]) -> int:
    if name not in raw_names:
        raise SequenceError(
            f"The source {name!r} of the virtual channel {virtual.name!r} is not a channel of "
            f"the {virtual.of}; there are: {', '.join(raw_names)}."
        )
    return raw_names.index(name)


def _of_kind(
    virtual: VirtualChannel, kind: Kind, raw_names: Sequence[str], taken: Sequence[int]
) -> int:
    fitting = [
        c for c, name in enumerate(raw_names) if kind_of_channel(name) == kind and c not in taken
    ]
    if len(fitting) == 1:
        return fitting[0]
    found = f"none of the {virtual.of}'s channels" if not fitting else "several of its channels"
    raise SequenceError(
        f"{found.capitalize()} ({', '.join(raw_names)}) can be taken for the {kind} source of the "
        f"virtual channel {virtual.name!r}. Name it: {virtual.where('source')}"
        f"{' (all of them, in the order of the model)' if taken else ''}."
    )


def _kind(virtual: VirtualChannel, name: str) -> Kind:
    kind = kind_of_channel(name)
    if kind is None:
        raise SequenceError(
            f"The name of the source channel {name!r} does not say what it shows. "
            f"Give {virtual.where('source_kind')}: brightfield, phase, dic or fluorescence."
        )
    return kind

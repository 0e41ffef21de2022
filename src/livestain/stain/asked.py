"""A virtual channel as it is asked for: by a sequence, or on data that are there already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from livestain.settings import Settings

__all__ = ["ChannelSettings", "Kind", "Place", "VirtualChannel", "kind_of_channel"]

Place = tuple[int, int, int]
"""Position, time point, depth: where an image of a channel belongs."""

Kind = Literal["brightfield", "phase", "dic", "fluorescence"]

_WORDS: dict[Kind, tuple[str, ...]] = {
    "brightfield": ("brightfield", "bf", "transmitted", "trans", "dia"),
    "phase": ("phase", "ph", "phasecontrast"),
    "dic": ("dic", "nomarski"),
    "fluorescence": ("fluorescence", "dapi", "fitc", "gfp", "egfp", "cy3", "cy5", "rhodamine"),
}


class ChannelSettings(Settings):
    """Settings of one virtual channel; all optional."""

    bundle: str | None = None
    """Name in the model path, or a folder. Without it: the bundles whose output has this name."""

    output: str | None = None
    """Which of the bundle's outputs; without it the one named like the channel, or the only one."""

    source: str | tuple[str, ...] | None = None
    """Raw channel that is stained; without it the one whose name says its kind. A list, in the
    model's order, for models that look at several channels."""

    source_kind: Kind | tuple[Kind, ...] | None = None
    """What the source shows, where its name does not say it; a list for several."""

    flat_field: str | None = None
    """Image of an empty field (PNG or TIFF), by which planes of the first source are divided before the
    prediction; the raw planes are stored as they are. For models that were trained on corrected planes."""

    dark_frame: str | None = None
    """Image without light, which is taken from them, and from the flat field."""

    lag: Literal["backfill", "live-only", "lockstep"] = "backfill"
    """What happens to planes that the model cannot keep up with."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The raw channels that are named as sources."""
        return (self.source,) if isinstance(self.source, str) else self.source or ()

    @property
    def source_kinds(self) -> tuple[Kind, ...]:
        """What they are said to show."""
        return (self.source_kind,) if isinstance(self.source_kind, str) else self.source_kind or ()


@dataclass(frozen=True)
class VirtualChannel:
    """A virtual channel as it is asked for.

    Attributes
    ----------
    name : str
        Its name; in a sequence the preset's in the group "Virtual".
    settings : ChannelSettings
        From the sequence's metadata, or the command line.
    requested : frozenset of (p, t, z)
        The planes that are wanted: in a sequence those that `acquire_every` and `do_stack` choose.
    of : {"sequence", "data"}
        What asks for it, for messages.
    """

    name: str
    settings: ChannelSettings
    requested: frozenset[Place]
    of: Literal["sequence", "data"] = "sequence"

    def where(self, setting: str) -> str:
        """Return the words by which a message says where a setting is given."""
        if self.of == "sequence":
            return f"{setting} under metadata.livestain.channels.{self.name}"
        return f"--{setting.replace('_', '-')}"


def kind_of_channel(name: str) -> Kind | None:
    """Return the channel kind that a channel's name says, e.g. "brightfield" for "BF 20 ms"."""
    words = re.findall(r"[a-z]+[0-9]?", name.lower())
    joined = "".join(words)
    for kind, synonyms in _WORDS.items():
        if kind in joined or any(word in synonyms for word in words):
            return kind
    return None

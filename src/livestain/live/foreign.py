"""Virtual channels in the sequences of other programs: which model, which source, which planes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from livestain.bundle import check_fit
from livestain.errors import SequenceError
from livestain.live.delivery import Key, key_of
from livestain.live.events import is_image
from livestain.live.virtual import VIRTUAL_GROUP, VIRTUAL_SUFFIX
from livestain.stain.asked import VirtualChannel
from livestain.stain.sources import all_sources, first_source, output_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from useq import MDAEvent

    from livestain.bundle import Bundle
    from livestain.planes import Window
    from livestain.stain.asked import ChannelSettings

__all__ = ["Predicted", "Spelling", "Windows", "resolve", "scan", "z_step_of"]


@dataclass(frozen=True)
class Spelling:
    """The two names of each virtual channel: Virtual/NAME, and NAME (virtual) in the channel group.

    Attributes
    ----------
    names : tuple of str
        Of the virtual channels that are installed.
    group : str
        The core's channel group; empty where it has none.
    others : frozenset of (group, preset)
        Presets that look like virtual channels and are the microscope's own.
    """

    names: tuple[str, ...]
    group: str
    others: frozenset[tuple[str, str]] = frozenset()

    def name_of(self, group: str, config: str) -> str | None:
        """Return the name of a channel's virtual channel, or None if it is the camera's.

        Raises
        ------
        SequenceError
            If it is a virtual channel that is not installed.
        """
        if group == VIRTUAL_GROUP:
            name = config
        elif group == self.group and config.endswith(VIRTUAL_SUFFIX):
            name = config.removesuffix(VIRTUAL_SUFFIX)
        else:
            return None
        if (group, config) in self.others:
            return None
        if name not in self.names:
            raise SequenceError(
                f"The sequence has the virtual channel {config!r}, which is not installed; installed "
                f"are: {', '.join(self.names)}. Call livestain.install(core, {{{name!r}: BUNDLE}})."
            )
        return name

    def of_event(self, event: MDAEvent) -> str | None:
        """Return the name of an event's virtual channel, or None."""
        channel = event.channel
        return None if channel is None else self.name_of(channel.group, channel.config)


@dataclass(frozen=True)
class Predicted:
    """A virtual channel of one run.

    Attributes
    ----------
    name : str
        Of the virtual channel.
    bundle : Bundle
        Its model.
    output : int
        Which of the model's outputs.
    sources : tuple of str
        Presets of the channels that are stained, in the model's order.
    lockstep : bool
        Whether predictions are made; if not, its places stay empty.
    """

    name: str
    bundle: Bundle
    output: int
    sources: tuple[str, ...]
    lockstep: bool

    @property
    def window(self) -> Window:
        """The planes that one prediction needs."""
        return self.bundle.description.input.window.window()


@dataclass
class Windows:
    """Which images a run takes, and which of them each prediction needs.

    Fill it with `add` in the sequence's order, then ask.
    """

    raw: dict[Key, str] = field(default_factory=dict)
    """Preset of each image of the camera."""
    virtual: dict[Key, str] = field(default_factory=dict)
    """Name of each image to be predicted."""
    z_um: dict[Key, float | None] = field(default_factory=dict)
    """Focus of each image of the camera, in micrometres."""
    _extents: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """Number of time points and z-planes by position and tile."""
    _places: dict[tuple[int, int, str], int] = field(default_factory=dict)
    """Place of each preset among the channels of a position and tile."""

    def add(self, event: MDAEvent, name: str | None) -> None:
        """Take in the next image that a sequence asks for.

        Raises
        ------
        SequenceError
            If another image has the same place.
        """
        key = key_of(event)
        if key in self.raw or key in self.virtual:
            raise SequenceError(
                f"The sequence takes two images at {dict(event.index)}, and a prediction could not "
                "tell which is meant. Give each event an index of its own, and leave out time plans "
                "of single positions."
            )
        if name is not None:
            self.virtual[key] = name
            return
        preset = event.channel.config if event.channel is not None else ""
        self.raw[key] = preset
        self.z_um[key] = event.z_pos
        p, t, c, z = key.place
        n_t, n_z = self._extents.get((p, key.g), (0, 0))
        self._extents[p, key.g] = max(n_t, t + 1), max(n_z, z + 1)
        self._places[p, key.g, preset] = c

    def presets(self) -> list[str]:
        """Return the camera's channels, in the order in which they come first."""
        return list(dict.fromkeys(self.raw.values()))

    def n_z(self, preset: str) -> int:
        """Return the number of z-planes of a channel, at the site where it has fewest."""
        sites: dict[tuple[int, int], set[int]] = defaultdict(set)
        for key, name in self.raw.items():
            if name == preset:
                sites[key.place.p, key.g].add(key.place.z)
        return min(map(len, sites.values()))

    def sources(self, key: Key, channel: Predicted, cam: int) -> tuple[Key, ...]:
        """Return what a virtual image is predicted from; empty where nothing is.

        Parameters
        ----------
        key : Key
            The virtual image.
        channel : Predicted
            Its channel.
        cam : int
            The camera that is looked at.
        """
        p, t, _, z = key.place
        n_t, n_z = self._extents.get((p, key.g), (0, 0))
        if not channel.lockstep or key.cam != cam or t >= n_t or z >= n_z:
            return ()
        keys: list[Key] = []
        for preset in channel.sources:
            c = self._places.get((p, key.g, preset))
            if c is None:
                return ()
            places = channel.window.sources(key.place, c, n_t=n_t, n_z=n_z)
            keys += [Key(place, key.g) for place in places]
        # A prediction is made where its sources are: a sparse source gives a sparse prediction.
        if not all(k in self.raw for k in keys):
            return ()
        return tuple(k._replace(cam=cam) for k in keys)


def z_step_of(windows: Windows, preset: str) -> float | None:
    """Return the micrometres between a channel's planes; None where there is one, or they are uneven."""
    stacks: dict[tuple[int, int, int], dict[int, float]] = defaultdict(dict)
    for key, name in windows.raw.items():
        z_um = windows.z_um[key]
        if name == preset and z_um is not None:
            stacks[key.g, key.place.p, key.place.t][key.place.z] = z_um
    steps = [
        abs(b - a)
        for stack in stacks.values()
        for a, b in pairwise(um for _, um in sorted(stack.items()))
    ]
    return steps[0] if steps and max(steps) - min(steps) < 1e-3 * steps[0] else None


def resolve(
    name: str,
    bundle: Bundle,
    settings: ChannelSettings,
    windows: Windows,
    *,
    pixel_size_um: float,
    lockstep: bool,
    most: int,
) -> Predicted:
    """Return a virtual channel of one run, checked against the sequence and the microscope.

    Parameters
    ----------
    name : str
        Of the virtual channel.
    bundle : Bundle
        Its model.
    settings : ChannelSettings
        Source and output, as far as they are given.
    windows : Windows
        The run's images.
    pixel_size_um : float
        Of the microscope, in micrometres.
    lockstep : bool
        Whether predictions are made.
    most : int
        Largest count that the camera can give.

    Raises
    ------
    BundleError
        If the model does not fit the microscope, the source or the stack.
    SequenceError
        If the sequence has no source for it, or cannot give its window in time.
    """
    sources, kind = _sources(name, bundle, settings, windows.presets())
    wanted = bundle.description.input
    step = z_step_of(windows, sources[0])
    check_fit(
        bundle.description,
        kind=kind,
        pixel_size_um=pixel_size_um,
        n_z=windows.n_z(sources[0]),
        z_step_um=step,
        most=most,
    )
    window = wanted.window.window()
    if window.needs_stack and step is None:
        raise SequenceError(
            f"{bundle.name} looks at several depths, {wanted.z_step_um:g} um apart, and the "
            "sequence's planes are not evenly spaced. Give a z-plan with one step."
        )
    if lockstep and window.future:
        raise SequenceError(
            f"{bundle.name} needs {window.future} later time points to predict one, so the run would "
            f"wait for itself with {name!r} in lockstep. Use a model without later time points, or "
            "livestain.Session with lag: backfill."
        )
    shown = output_of(VirtualChannel(name, settings, frozenset()), bundle)
    return Predicted(name, bundle, bundle.description.output_index(shown), sources, lockstep)


def _sources(
    name: str, bundle: Bundle, settings: ChannelSettings, presets: list[str]
) -> tuple[tuple[str, ...], str]:
    """Return the presets that are stained, and what the first of them shows."""
    if not settings.sources and not settings.source_kinds:
        settings = settings.model_copy(update={"source_kind": bundle.description.input.kinds})
    virtual = VirtualChannel(name, settings, frozenset())
    try:
        _, kind = first_source(virtual, presets)
        return tuple(presets[c] for c in all_sources(virtual, bundle, presets)), kind
    except SequenceError as error:
        raise SequenceError(
            f"{error} Where a program makes the sequence, say it to livestain.install(core, "
            f"{{{name!r}: {{'bundle': {bundle.name!r}, 'source': PRESET, 'source_kind': KIND}}}})."
        ) from error


def scan(events: Iterable[MDAEvent], spelling: Spelling) -> Windows:
    """Return which images a sequence asks for.

    Raises
    ------
    SequenceError
        If two have the same place, or a virtual channel is not installed.
    """
    windows = Windows()
    for event in events:
        if is_image(event):
            windows.add(event, spelling.of_event(event))
    return windows

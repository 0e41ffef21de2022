"""From a sequence and a microscope to what a run will write; refuses what cannot work."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from livestain.bundle import bundles_for, find_bundle
from livestain.errors import BundleError, SequenceError
from livestain.live.checks import (
    camera_format,
    check_presets,
    check_recording,
    check_setup,
    pixel_size_of,
)
from livestain.live.events import index_of, is_image
from livestain.live.fields import wells_of
from livestain.live.lockstep import check_in_time, held_at_time_points
from livestain.live.microscope import SimulatedCore
from livestain.stain.asked import kind_of_channel
from livestain.stain.planning import RawPlanes, blocks_from, plan_virtual
from livestain.stain.sources import first_source
from livestain.store import ChannelPlan, PositionPlan, StorePlan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import useq
    from pymmcore_plus import CMMCorePlus

    from livestain.bundle import Bundle
    from livestain.live.virtual import SplitSequence
    from livestain.planes import PlaneIndex
    from livestain.stain.asked import Place, VirtualChannel
    from livestain.store.plan import Codec

__all__ = ["RunPlan", "plan_run"]

_ROOM = 16
"""Time points for which there is room at first where the end is open."""


@dataclass(frozen=True)
class RunPlan:
    """What a run will do, checked against microscope and models before anything moves.

    Attributes
    ----------
    sequence : useq.MDASequence
        The raw sequence, for the runner.
    store : StorePlan
        All planes that will ever exist.
    bundles : dict
        Bundle and output name by virtual channel's place in the store.
    lockstep : dict
        For virtual channels in lockstep: the targets to wait for, by the source plane that comes last; where
        the end is open, of the first time point.
    """

    sequence: useq.MDASequence
    store: StorePlan
    bundles: dict[int, tuple[Bundle, str]]
    lockstep: dict[PlaneIndex, list[PlaneIndex]]

    def awaited(self, source: PlaneIndex, here: Collection[PlaneIndex]) -> list[PlaneIndex]:
        """Return the predictions in lockstep that the acquisition waits for after a raw plane.

        Parameters
        ----------
        source : PlaneIndex
            The raw plane that came.
        here : set of PlaneIndex
            All that came, with it; a prediction that lacks one is not waited for.
        """
        if not self.lockstep:
            return []
        if not self.store.open_end:
            targets = self.lockstep.get(source, [])
        else:  # in what order, and which of them, was decided on the way
            targets = [
                target
                for target in self.store.targets_of(source)
                if self.store.as_planned(target) in self._in_lockstep
            ]
        return [t for t in targets if all(i in here for i in self.store.sources_of(t))]

    @cached_property
    def _in_lockstep(self) -> frozenset[PlaneIndex]:
        return frozenset(target for targets in self.lockstep.values() for target in targets)


def plan_run(
    core: CMMCorePlus,
    split: SplitSequence,
    *,
    models: Mapping[str, str] | None = None,
    pixel_size_um: float | None = None,
    codec: Codec = "blosc-lz4",
    open_end: bool = False,
) -> RunPlan:
    """Plan a run.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope, configured; nothing on it is moved.
    split : SplitSequence
        The sequence, virtual channels apart.
    models : mapping, optional
        Bundle name or folder by virtual channel; wins over the sequence's settings.
    pixel_size_um : float, optional
        Pixel size in micrometres; wins over the sequence's and the core's.
    codec : {"blosc-lz4", "blosc-zstd", "none"}
        How planes are compressed.
    open_end : bool
        Whether the sequence says only what a time point may have, and events are decided as the run goes on.

    Raises
    ------
    LivestainError
        One sentence on what does not fit: SequenceError, MicroscopeError or BundleError.
    """
    models = dict(models or {})
    names = [v.name for v in split.virtual]
    if unknown := sorted(set(models) - set(names)):
        raise SequenceError(
            f"A model is given for the virtual channel {unknown[0]!r}, which the sequence does not "
            f"have; it has: {', '.join(names) or 'none'}."
        )
    if open_end and split.raw.time_plan is not None:
        raise SequenceError(
            "The sequence has a time_plan, and its events are decided while the run goes on. Leave the "
            "time_plan out: the sequence then says which positions, channels and depths there may be."
        )
    height, width, bits = camera_format(core)
    events = list(split.raw)
    raw_names = [c.config for c in split.raw.channels] or ["camera"]
    raw_planned = _planned_by_channel(events, raw_names)
    positions = _positions(events, wells_of(split.raw))
    if not raw_planned:
        raise SequenceError("The sequence has no image to take: give it a channel or a time plan.")
    check_presets(core, split.raw)
    check_setup(core, split.raw)
    if repeated := [n for n in raw_names + names if (raw_names + names).count(n) > 1]:
        raise SequenceError(
            f"Two channels of the sequence are called {repeated[0]!r}; in the store each channel "
            "needs a name of its own. Rename one preset."
        )
    pixel = pixel_size_of(core, split.settings, pixel_size_um)
    n_t = 1 + max(t for planes in raw_planned.values() for _, t, _ in planes)
    n_z = 1 + max(z for planes in raw_planned.values() for _, _, z in planes)
    shape = len(positions), n_t, n_z
    z_step = _z_step(split.raw)

    channels = [
        ChannelPlan(
            name=name,
            kind="raw",
            color="FFFFFF"
            if kind_of_channel(name) in ("brightfield", "phase", "dic")
            else "00FF00",
            planned=blocks_from(raw_planned[c], shape),
            display=(0.0, float(2**bits - 1)),
        )
        for c, name in enumerate(raw_names)
    ]
    raw_planes = RawPlanes(
        tuple(raw_names),
        raw_planned,
        shape,
        (height, width),
        pixel,
        z_step_um=z_step,
        most=2**bits - 1,
    )
    bundles: dict[int, tuple[Bundle, str]] = {}
    lockstep: dict[PlaneIndex, list[PlaneIndex]] = defaultdict(list)
    order = {index_of(event): i for i, event in enumerate(events)}
    for virtual in split.virtual:
        c = len(channels)
        _, kind = first_source(virtual, raw_names)
        bundle = _bundle_of(
            virtual,
            models.get(virtual.name),
            kind,
            pixel,
            simulated=isinstance(core, SimulatedCore),
        )
        planned = plan_virtual(virtual, bundle, raw_planes, c)
        assert planned.channel.virtual is not None  # noqa: S101 - it is a virtual channel
        future = planned.channel.virtual.window.future
        if open_end and future:
            raise SequenceError(
                f"{bundle.name} needs {future} later time points to predict one, and nobody knows "
                "whether they will come where events are decided while the run goes on. Choose another model."
            )
        if virtual.settings.lag == "lockstep":
            if future:
                raise SequenceError(
                    f"{bundle.name} needs {future} later time points to predict one, so "
                    f"{virtual.name!r} cannot be in lockstep; use lag: backfill."
                )
            last = {t: max(needed, key=order.__getitem__) for t, needed in planned.needed.items()}
            check_in_time(virtual.name, last, planned.sources, order)
            for target, needed_last in last.items():
                lockstep[needed_last].append(target)
        bundles[c] = (bundle, planned.output)
        channels.append(planned.channel)
    plan = StorePlan(
        positions=positions,
        n_t=_ROOM if open_end else n_t,
        open_end=open_end,
        n_z=n_z,
        height=height,
        width=width,
        pixel_size_um=pixel,
        z_step_um=z_step,
        t_interval_s=_interval(split.raw),
        channels=tuple(channels),
        codec=codec,
    )
    check_recording(core, plan)
    raw = held_at_time_points(split.raw) if lockstep else split.raw
    return RunPlan(raw, plan, bundles, dict(lockstep))


def _planned_by_channel(events: Iterable[useq.MDAEvent], names: list[str]) -> dict[int, set[Place]]:
    """Return the (p, t, z) of the images of each channel; each image needs a place of its own."""
    planned: dict[int, set[Place]] = defaultdict(set)
    for event in events:
        if not is_image(event):
            continue
        p, t, c, z = index_of(event)
        if event.channel is not None and names[c : c + 1] != [event.channel.config]:
            raise SequenceError(
                f"A position of the sequence has channels of its own ({event.channel.config}); give "
                "all channels to the sequence itself."
            )
        if (p, t, z) in planned[c]:
            raise SequenceError(
                f"The sequence takes two images of channel {names[c]!r} at p {p}, t {t}, z {z}, "
                "and there is one place for it. Leave out the position's own time or grid plan."
            )
        planned[c].add((p, t, z))
    return planned


def _positions(events: Iterable[useq.MDAEvent], wells: list[str]) -> tuple[PositionPlan, ...]:
    """Return the fields of view, each where its first image is taken, in a plate by its well."""
    found: dict[int, useq.MDAEvent] = {}
    for event in events:
        if is_image(event):
            found.setdefault(index_of(event).p, event)
    if not found:
        return (PositionPlan(),)
    several = max(found) > 0
    for axis in "xyz":
        without = [p for p, event in found.items() if getattr(event, f"{axis}_pos") is None]
        if without and len(without) < len(found):
            raise SequenceError(
                f"Position {min(without)} of the sequence has no {axis}, and others have: its images would "
                f"be taken wherever the one before has left the stage. Give each position its {axis}."
            )

    def position(p: int) -> PositionPlan:
        path = wells[p] if wells else str(p) if several else ""
        event = found.get(p)
        if event is None:
            return PositionPlan(path=path)
        return PositionPlan(
            name=event.pos_name or "",
            path=path,
            x_um=event.x_pos,
            y_um=event.y_pos,
            z_um=event.z_pos,
        )

    return tuple(position(p) for p in range(max(found) + 1))


def _bundle_of(
    virtual: VirtualChannel, model: str | None, kind: str, pixel: float, *, simulated: bool
) -> Bundle:
    wanted = model or virtual.settings.bundle
    if wanted:
        return find_bundle(wanted)
    output = virtual.settings.output or virtual.name
    # A model of simulated cells would draw mitochondria into real ones, too; so nobody gets it unasked.
    found = bundles_for(output, kind, pixel)
    fitting = [b for b in found if b.description.simulated == simulated] or found * simulated
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        unasked = ", ".join(b.name for b in found)
        raise BundleError(
            f"No model predicts {output!r} from {kind} at {pixel:g} um pixels. Give one with "
            f"--model {virtual.name}=BUNDLE (a name or a folder), or put it on LIVESTAIN_MODELS."
            + (f" ({unasked} was trained on simulated cells: name it to use it.)" if found else "")
        )
    raise BundleError(
        f"Several models predict {output!r} from {kind} at {pixel:g} um pixels: "
        f"{', '.join(sorted(b.name for b in fitting))}. Choose one with --model {virtual.name}=NAME."
    )


def _z_step(sequence: useq.MDASequence) -> float | None:
    """Return the micrometres between planes; None where there is one plane, or they are uneven."""
    plans = [sequence.z_plan, *(p.sequence.z_plan for p in sequence.stage_positions if p.sequence)]
    depths = next((sorted(map(float, plan)) for plan in plans if plan is not None), [])
    steps = [b - a for a, b in pairwise(depths)]
    return steps[0] if steps and max(steps) - min(steps) < 1e-3 * steps[0] else None


def _interval(sequence: useq.MDASequence) -> float | None:
    """Return the seconds between time points; None where they are none, several or zero."""
    interval = getattr(sequence.time_plan, "interval", None)
    return (interval.total_seconds() or None) if interval is not None else None

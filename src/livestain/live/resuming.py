"""What of a run that died, or was stopped, can still be taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import useq
from pydantic import ValidationError

from livestain.errors import StoreError
from livestain.live.events import index_of, is_image
from livestain.live.virtual import VIRTUAL_SUFFIX
from livestain.planes import PlaneIndex
from livestain.stain.provenance import bundle_place
from livestain.store import STOPPED, journal_lines, last_words, open_store

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from livestain.store import StorePlan

__all__ = ["PASSED", "Earlier", "check_same", "check_unchanged", "earlier_run", "what_remains"]

PASSED = "its time had passed when the run was resumed"
"""Why a plane is missing that was planned while nothing ran."""


@dataclass(frozen=True)
class Earlier:
    """What a store and its journal know of the run that wrote them.

    Attributes
    ----------
    sequence : useq.MDASequence
        As it was given, with its virtual channels.
    plan : StorePlan
        What the store holds.
    there : frozenset of PlaneIndex
        The planes that are there.
    lost : frozenset of PlaneIndex
        Raw planes that will not come: the camera dropped them, or their time had passed.
    given_up : frozenset of PlaneIndex
        Virtual planes that were skipped, or on which the model failed.
    said_um : float or None
        The pixel size that the microscope said, whatever was given beside it.
    came : dict of PlaneIndex to datetime
        When each raw plane was written, by the journal.
    bundles : dict
        Name or folder of the model of each virtual channel of the sequence, as it is found now.
    cut_short : frozenset of PlaneIndex
        Raw planes that were asked for when the run was stopped, and did not come.
    recorded_s : float
        Seconds from the first plane to the last, without the time in which nothing ran.
    ended : bool
        Whether the run came to its end: it was neither stopped nor broke off.
    simulation : dict or None
        What the store says of the dish that a simulated run showed; None of a microscope's.
    """

    sequence: useq.MDASequence
    plan: StorePlan
    there: frozenset[PlaneIndex]
    lost: frozenset[PlaneIndex]
    given_up: frozenset[PlaneIndex]
    said_um: float | None
    came: dict[PlaneIndex, datetime]
    bundles: dict[str, str]
    cut_short: frozenset[PlaneIndex] = frozenset()
    recorded_s: float = 0.0
    ended: bool = False
    simulation: dict[str, Any] | None = None

    @property
    def next_t(self) -> int:
        """The first time point of which nothing is there, and nothing was asked for."""
        return 1 + max((i.t for i in self.there | self.lost | self.cut_short), default=-1)

    def left_of(self, duration_s: float | None) -> float | None:
        """Return the seconds that are left of a duration; None of none."""
        if duration_s is None:
            return None
        return 0.0 if self.ended else max(0.0, duration_s - self.recorded_s)

    @property
    def stained(self) -> frozenset[PlaneIndex]:
        """The virtual planes that are there."""
        virtual = {c for c, channel in enumerate(self.plan.channels) if channel.virtual is not None}
        return frozenset(index for index in self.there if index.c in virtual)


def earlier_run(path: Path) -> Earlier:
    """Read what a run has left.

    Raises
    ------
    StoreError
        If there is no store, nothing of its run can be taken any more, or a program decided its events.
    """
    with open_store(path) as store:
        plan, attributes = store.plan, store.attributes
        there = store.present_indices()
        if store.is_compacted:
            raise StoreError(
                f"{path.name} was compacted: its planes share files, and a run needs one for each. Record "
                "into another store; what this one owes is predicted by `livestain restain`."
            )
    if attributes.get("decided"):
        raise StoreError(
            f"The events of {path.name} were decided by a program while it ran, so only that program can "
            "go on with it. What it owes is predicted by `livestain restain`."
        )
    try:
        sequence = useq.MDASequence.model_validate(attributes["sequence"])
    except (KeyError, ValidationError) as error:
        raise StoreError(
            f"{path} does not say which sequence it was made by, so its run cannot go on. What it owes is "
            "predicted by `livestain restain`."
        ) from error
    lines = journal_lines(path)
    told = last_words(lines).missing
    kinds = [channel.kind for channel in plan.channels]
    lost = {i for i, (_, why) in told.items() if kinds[i.c] == "raw" and why != STOPPED}
    cut_short = {i for i in told if kinds[i.c] == "raw"} - lost
    given_up = {i for i in told if kinds[i.c] == "virtual"}
    infos = (attributes.get("system_state") or {}).get("image_infos") or [{}]
    return Earlier(
        sequence,
        plan,
        there,
        frozenset(lost),
        frozenset(given_up),
        infos[0].get("pixel_size_um"),
        _came(lines),
        _bundles(sequence, plan, attributes.get("models") or {}),
        frozenset(cut_short),
        *_how_long(lines),
        simulation=attributes.get("simulation"),
    )


def _bundles(
    sequence: useq.MDASequence, plan: StorePlan, facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return where the models are; not of channels that were added after the run."""
    of_sequence = {channel.config.removesuffix(VIRTUAL_SUFFIX) for channel in sequence.channels}
    return {
        channel.name: bundle_place(channel.virtual, facts.get(channel.name) or {})
        for channel in plan.channels
        if channel.virtual is not None and channel.name in of_sequence
    }


def _came(lines: Iterable[dict[str, Any]]) -> dict[PlaneIndex, datetime]:
    return {
        PlaneIndex(*line["index"]): datetime.fromisoformat(line["time"])
        for line in lines
        if line["kind"] == "plane"
    }


def _how_long(lines: Iterable[dict[str, Any]]) -> tuple[float, bool]:
    """Return for how many seconds planes came, and whether the run has come to its end."""
    seconds, ended = 0.0, False
    first = last = None
    for line in lines:
        match line["kind"]:
            case "started" | "resumed":
                first, ended = None, False
            case "plane":
                now = datetime.fromisoformat(line["time"])
                if first is None:
                    first = last = now
                assert last is not None  # noqa: S101 - as first
                seconds, last = seconds + (now - last).total_seconds(), now
            case "finished":
                ended = not (line.get("interrupted") or line.get("failed"))
    return seconds, ended


def check_same(before: Earlier, now: StorePlan, core: CMMCorePlus, path: Path) -> None:
    """Refuse to go on where sequence, microscope and models would now write something else.

    Raises
    ------
    StoreError
        If a plan differs from the store's, or the pixel size from the microscope's; the message says in what.
    """
    # Channels that were added after the run are none of the run's business.
    begun = before.plan.channels[: len(now.channels)]
    earlier, said_um = before.plan.model_copy(update={"channels": begun}), core.getPixelSizeUm()
    if before.said_um and said_um and abs(said_um / before.said_um - 1) > 1e-3:
        raise StoreError(
            f"{path.name} cannot go on: the microscope says {said_um:g} um pixels, and said "
            f"{before.said_um:g} um when it began. Put the objective back, or give the run's own "
            "configuration with --config."
        )
    names = [channel.name for channel in earlier.channels]
    for a, b in zip(earlier.channels, now.channels, strict=False):
        if a.virtual is not None and b.virtual is not None and a.name == b.name:
            was, here = a.virtual.bundle_sha256, b.virtual.bundle_sha256
            if was != here:
                raise StoreError(
                    f"The channel {a.name!r} of {path.name} was begun with the model {a.virtual.bundle} of "
                    f"SHA-256 {was[:12]}, and {b.virtual.bundle} has {here[:12]}. A channel holds "
                    f"predictions of one model: give that one with --model {a.name}=FOLDER."
                )
    if names != (given := [channel.name for channel in now.channels]):
        raise StoreError(
            f"{path.name} has the channels {names}, and its sequence now gives {given}."
        )
    for field in type(earlier).model_fields:
        was, here = getattr(earlier, field), getattr(now, field)
        if was != here:
            short = (repr(was), repr(here)) if len(repr((was, here))) < 200 else ("one", "another")
            raise StoreError(
                f"{path.name} cannot go on: its {field} is {short[0]}, and with this microscope it would be "
                f"{short[1]}. Set the microscope as it was."
            )


def check_unchanged(before: Earlier, path: Path) -> None:
    """Refuse to go on where somebody has written since, so that no plane is taken twice; holding the lock.

    Raises
    ------
    StoreError
        If what is there, lost or given up is not what was read.
    """
    now = earlier_run(path)
    if (now.there, now.lost, now.given_up) != (before.there, before.lost, before.given_up):
        raise StoreError(
            f"{path.name} has been written to since it was read to be gone on with. Resume it anew."
        )


def what_remains(
    events: Iterable[useq.MDAEvent], earlier: Earlier, now: datetime | None = None
) -> tuple[list[useq.MDAEvent], list[PlaneIndex]]:
    """Return what is to be taken now, in the sequence's order, and what it is too late for.

    A plane whose time in the plan has passed is not taken: it would show the cells of another time. Where the
    plan has no times, or the clock of its position has not begun, nothing is late.

    Parameters
    ----------
    events : iterable of useq.MDAEvent
        Of the whole raw sequence.
    earlier : Earlier
        What was done.
    now : datetime, optional
        The time; by default the real one.

    Returns
    -------
    events : list of useq.MDAEvent
        With start times from now on, and the autofocus before each image that is left.
    late : list of PlaneIndex
    """
    now = now or datetime.now(UTC)
    gone = earlier.there | earlier.lost
    left: list[useq.MDAEvent] = []
    late: list[PlaneIndex] = []
    for group in _by_clock(events):
        zero = _zero(group, earlier.came)
        # A plan of less than a second, or one that has no times at all, is late for nothing.
        timed = max(event.min_start_time or 0.0 for event in group) > 1.0
        elapsed = (now - zero).total_seconds() if zero is not None and timed else 0.0
        left += _left_of(group, gone, elapsed, late)
    return left, late


def _zero(group: Iterable[useq.MDAEvent], came: Mapping[PlaneIndex, datetime]) -> datetime | None:
    """Return when a group's clock stood at 0: no plane comes before its time, and the promptest is nearest.

    The camera's times do not say it: they count from the start of the run, or of the one that went on.
    """
    return min(
        (
            came[index] - timedelta(seconds=event.min_start_time or 0.0)
            for event in group
            if is_image(event) and (index := index_of(event)) in came
        ),
        default=None,
    )


def _by_clock(events: Iterable[useq.MDAEvent]) -> list[list[useq.MDAEvent]]:
    """Return events in groups that share the runner's clock, which the first of each begins."""
    groups: list[list[useq.MDAEvent]] = [[]]
    for event in events:
        # An autofocus says it, too, before its image.
        if event.reset_event_timer and any(map(is_image, groups[-1])):
            groups.append([])
        groups[-1].append(event)
    return groups


def _left_of(
    group: list[useq.MDAEvent],
    gone: Collection[PlaneIndex],
    elapsed: float,
    late: list[PlaneIndex],
) -> list[useq.MDAEvent]:
    left: list[useq.MDAEvent] = []
    before: list[useq.MDAEvent] = []  # autofocus and the like, for the next image
    for event in group:
        if not is_image(event):
            before.append(event)
            continue
        index = index_of(event)
        planned = event.min_start_time or 0.0
        if index in gone:
            before = []
        elif elapsed and planned < elapsed:
            late.append(index)
            before = []
        else:
            left += [*before, event]
            before = []
    if not left or not elapsed:
        return left
    from_now = [
        event.model_copy(
            update={
                "min_start_time": max(0.0, (event.min_start_time or 0.0) - elapsed),
                "reset_event_timer": n == 0,
            }
        )
        for n, event in enumerate(left)
    ]
    return from_now

"""What is there, and why the rest is not: the words of a store, planned to impossible."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from livestain.planes import PlaneIndex
from livestain.store.asked import planes_asked_for
from livestain.store.journal import journal_lines, journal_path
from livestain.store.layout import position_name
from livestain.store.plan import places_of
from livestain.store.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from livestain.store.plan import ChannelPlan, StorePlan


__all__ = ["STOPPED", "LastWords", "PlaneCounts", "StoreStatus", "last_words", "store_status"]

STOPPED = "the run was stopped before it"
"""Why a raw plane is missing that was not taken any more; a resumed run may still take it."""
_REASONS_MOST = 8
"""More different ones than these are told without the places that they name."""

_Word = Literal["owed", "skipped", "impossible"]

# What a line of the journal says about a plane that is not there. A camera that dropped a plane
# ("missing") will not give it again.
_WORDS: dict[str, _Word] = {
    "missing": "impossible",
    "skipped": "skipped",
    "impossible": "impossible",
}


_NUMBERS = (
    "planned",
    "present",
    "missing",
    "owed",
    "skipped",
    "impossible",
    "uncertain",
    "waiting",
)


@dataclass
class PlaneCounts:
    """Numbers of planes: planned = present + missing, missing = owed + skipped + impossible."""

    planned: int = 0
    present: int = 0
    missing: int = 0
    owed: int = 0
    skipped: int = 0
    impossible: int = 0
    uncertain: int = 0
    """Of the present ones, those that may be another plane's."""
    waiting: int = 0
    """Of the owed ones, those whose source planes are not there, or not yet."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why planes are skipped, impossible or uncertain -> how many."""

    def add(self, other: PlaneCounts) -> None:
        """Add the numbers of another count to these."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons = dict(Counter(self.reasons) + Counter(other.reasons))


@dataclass
class StoreStatus:
    """The state of a store: totals, and the same for raw, virtual, and each channel."""

    path: str
    journal: bool
    """Whether the journal is there; without it what is missing counts as owed."""
    finished: bool
    """Whether the journal says that the last run came to its end."""
    total: PlaneCounts
    raw: PlaneCounts
    virtual: PlaneCounts
    by_channel: dict[str, PlaneCounts]
    by_position: dict[str, dict[str, PlaneCounts]]
    """The same for each channel of each position, where there are several; by their names, or numbers."""

    @property
    def planned(self) -> int:
        """Planes the sequence asks for."""
        return self.total.planned

    @property
    def present(self) -> int:
        """Planned planes whose chunk is there."""
        return self.total.present

    @property
    def missing(self) -> int:
        """Planned planes that are not there."""
        return self.total.missing

    @property
    def owed(self) -> int:
        """Missing planes that can still come."""
        return self.total.owed

    @property
    def skipped(self) -> int:
        """Missing planes that a lag policy gave up."""
        return self.total.skipped

    @property
    def impossible(self) -> int:
        """Missing planes that cannot come any more."""
        return self.total.impossible

    @property
    def uncertain(self) -> int:
        """Present planes that may be another plane's."""
        return self.total.uncertain

    @property
    def reasons(self) -> dict[str, int]:
        """Why planes are skipped, impossible or uncertain -> how many."""
        return self.total.reasons

    def short_reasons(self) -> dict[str, int]:
        """Return the reasons for people: where they are many, without the places they name after a colon."""
        if len(self.reasons) <= _REASONS_MOST:
            return self.reasons
        short: Counter[str] = Counter()
        for why, number in self.reasons.items():
            short[why.partition(": ")[0]] += number
        return dict(short)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON types; the totals lie at the top."""
        return {
            "store": self.path,
            **asdict(self.total),
            "journal": self.journal,
            "finished": self.finished,
            "raw": asdict(self.raw),
            "virtual": asdict(self.virtual),
            "channels": {name: asdict(counts) for name, counts in self.by_channel.items()},
            "positions": {
                position: {name: asdict(counts) for name, counts in channels.items()}
                for position, channels in self.by_position.items()
            },
        }


def store_status(path: Path | str) -> StoreStatus:
    """Count what is planned, present and missing in a store, also while a run goes on.

    The chunks say what is there; the journal says why something is not:

    - a plane that the journal last called missing or impossible is impossible, one it called
      skipped is skipped (`plane` and `stained` take back what was said before);
    - of the others, a raw plane is impossible once the journal says `finished` (its source never
      came; `resumed` takes that back), else owed;
    - a virtual plane is impossible if a source plane is not planned, skipped or impossible, else
      owed;
    - without a journal everything missing is owed;
    - where events are decided while the run goes on, what is there or was told of is what was planned.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    StoreStatus

    Raises
    ------
    StoreError
        If there is no livestain store, or its journal cannot be read.
    """
    with open_store(path) as store:
        # Before the chunks: a plane that comes in between is then present, not given up.
        journal = journal_path(store.path)
        has_journal = journal.exists()
        told, doubts, finished = last_words(journal_lines(store.path))
        there = store.present_grid()  # it may find more room, so the plan is asked after it
        plan = store.plan
        asked = planes_asked_for(plan, there, told)
        where = str(store.path)

    by_channel: dict[str, PlaneCounts] = {}
    names = [position_name(plan, p) for p in range(plan.n_p)]
    positions = [f"{n} ({p})" if names.count(n) > 1 else n for p, n in enumerate(names)]
    by_position: dict[str, dict[str, PlaneCounts]] = {}
    lost: dict[str, NDArray[np.bool_]] = {}
    raw, virtual, total = PlaneCounts(), PlaneCounts(), PlaneCounts()
    for c, channel in enumerate(plan.channels):
        planned, here = asked[c], there[:, :, c]
        if c < plan.first_c:  # in the recording, where everything planned is there
            lost[channel.name] = ~planned
            continue
        fields = [PlaneCounts() for _ in positions]
        for p, counts in enumerate(fields):
            counts.planned = int(planned[p].sum())
            counts.present = int((planned[p] & here[p]).sum())
            counts.missing = counts.planned - counts.present
        # Planes that no virtual plane can be predicted from.
        gone = ~planned & ~here
        for index in places_of(planned & ~here, c):
            word, why = told.get(index) or _untold(index, channel, plan, lost, finished=finished)
            counts = fields[index.p]
            setattr(counts, word, getattr(counts, word) + 1)
            if word == "owed" and channel.virtual is not None:
                counts.waiting += any(
                    s.c >= plan.first_c and not there[s.p, s.t, s.c, s.z]
                    for s in plan.sources_of(index)
                )
            if word != "owed":
                counts.reasons[why] = counts.reasons.get(why, 0) + 1
                gone[index.p, index.t, index.z] = True
        for index, why in doubts.items():
            if index.c == c and index.t < plan.n_t and here[index.p, index.t, index.z]:
                counts = fields[index.p]
                counts.uncertain += 1
                counts.reasons[why] = counts.reasons.get(why, 0) + 1
        lost[channel.name] = gone
        of_channel = by_channel[channel.name] = PlaneCounts()
        for name, counts in zip(positions, fields, strict=True):
            of_channel.add(counts)
            if len(fields) > 1:
                by_position.setdefault(name, {})[channel.name] = counts
        (raw if channel.kind == "raw" else virtual).add(of_channel)
        total.add(of_channel)
    return StoreStatus(where, has_journal, finished, total, raw, virtual, by_channel, by_position)


class LastWords(NamedTuple):
    """What a journal says in the end."""

    missing: dict[PlaneIndex, tuple[_Word, str]]
    """Planes that will not come, or are given up: the word for it, and why."""
    uncertain: dict[PlaneIndex, str]
    """Planes that may be another's, and why."""
    finished: bool
    """Whether the run came to its end."""


def last_words(lines: list[dict[str, Any]]) -> LastWords:
    """Return a journal's last word on each plane; `plane` and `stained` take back what was said before.

    Parameters
    ----------
    lines : list of dict
        As `read_journal` gives them.
    """
    told: dict[PlaneIndex, tuple[_Word, str]] = {}
    doubts: dict[PlaneIndex, str] = {}
    finished = False
    for line in lines:
        kind = line.get("kind")
        if kind in ("started", "resumed", "finished"):
            finished = kind == "finished"
            if kind == "resumed":
                told = {index: word for index, word in told.items() if word[1] != STOPPED}
            continue
        place = line.get("index")
        if not isinstance(place, list) or len(place) != 4:
            continue
        index = PlaneIndex(*place)
        if kind in _WORDS:
            told[index] = (_WORDS[kind], str(line.get("why") or kind))
        elif kind in ("plane", "stained"):
            told.pop(index, None)
        elif kind == "uncertain":
            doubts[index] = str(line.get("why") or kind)
    return LastWords(told, doubts, finished)


def _untold(
    index: PlaneIndex,
    channel: ChannelPlan,
    plan: StorePlan,
    lost: dict[str, NDArray[np.bool_]],
    *,
    finished: bool,
) -> tuple[_Word, str]:
    """Return the word for a missing plane on which the journal is silent."""
    if channel.virtual is None:
        return ("impossible", "the run finished without it") if finished else ("owed", "")
    gone = {name: lost[name] for name in channel.virtual.sources if lost[name].any()}
    if gone:
        for source in plan.sources_of(index):
            name = plan.channels[source.c].name
            if name in gone and gone[name][source.p, source.t, source.z]:
                return "impossible", "a source plane never came"
    return "owed", ""

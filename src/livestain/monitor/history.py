"""How a run went, from its journal alone: rates, latency, what was owed when, memory, light, and reasons."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.light import Light
from livestain.planes import PlaneIndex
from livestain.store import (
    journal_path,
    last_words,
    open_store,
    places_of,
    read_journal,
    store_status,
)
from livestain.store.asked import planes_asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.store import StorePlan, StoreStatus

__all__ = ["RunHistory", "Spread", "run_history"]

STAGES = ("commit", "wait", "read", "model", "write", "total")
"""From frameReady to a prediction that another process can read, in their order, and their sum."""

_Line = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median and tail of some milliseconds."""

    n: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Spread | None:
        """Return them; None of nothing."""
        if not milliseconds:
            return None
        found = np.percentile(milliseconds, (50, 95, 99, 100))
        return cls(len(milliseconds), *(round(float(v), 3) for v in found))


@dataclass(frozen=True)
class RunHistory:
    """How a run went; times are in seconds since the journal began.

    Attributes
    ----------
    store : str
        The store.
    began : str
        When, ISO 8601 in UTC.
    seconds : float
        To the last line of the journal.
    finished, interrupted, failed : bool
        How it ended; not finished while it runs, and after a crash.
    status : StoreStatus
        What is planned and there.
    acquired_s, stained_s : dict of str to array
        When each plane was in the store, by channel, ascending.
    owed : array, (n, 2)
        Time, and the virtual planes that could have been predicted by then and were not yet.
    latency_s : array, (n, 2)
        Of planes stained while they were news: when, and how long after frameReady, in milliseconds.
    stages : dict of str to Spread
        Milliseconds by stage of those planes, in the order of `STAGES`.
    memory_mib : dict of str to array, (n, 2)
        Time, and the most resident memory since the time before, MiB: of `acquisition`, which is the process
        that ran the microscope, and of its `workers` together.
    lateness_ms : Spread or None
        By how much events that the plan gives a time began later.
    answer_ms : Spread or None
        Where events were decided while the run went on: from a frame to the decision on the next event.
    frames_per_second : float or None
        Planes less one, by the time from the first to the last.
    light : dict of str to Light
        By raw channel.
    models : list of dict
        Virtual channel, bundle, device and backend.
    notes : list of str
        Faults that did not end the run.
    """

    store: str
    began: str
    seconds: float
    finished: bool
    interrupted: bool
    failed: bool
    status: StoreStatus
    acquired_s: dict[str, NDArray[np.float64]]
    stained_s: dict[str, NDArray[np.float64]]
    owed: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    stages: dict[str, Spread]
    memory_mib: dict[str, NDArray[np.float64]]
    lateness_ms: Spread | None
    answer_ms: Spread | None
    frames_per_second: float | None
    light: dict[str, Light]
    models: list[dict[str, Any]]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the curves, as plain JSON types."""
        return {
            "store": self.store,
            "began": self.began,
            "seconds": self.seconds,
            "finished": self.finished,
            "interrupted": self.interrupted,
            "failed": self.failed,
            "frames_per_second": self.frames_per_second,
            "latency_ms": {name: asdict(spread) for name, spread in self.stages.items()},
            "lateness_ms": asdict(self.lateness_ms) if self.lateness_ms else None,
            "answer_ms": asdict(self.answer_ms) if self.answer_ms else None,
            "memory_peak_mib": {n: float(x[:, 1].max()) for n, x in self.memory_mib.items()},
            "most_owed": int(self.owed[:, 1].max()) if len(self.owed) else 0,
            "light": {name: asdict(light) for name, light in self.light.items()},
            "models": self.models,
            "notes": self.notes,
            "status": self.status.to_dict(),
        }


def run_history(path: Path | str) -> RunHistory:
    """Read how a run went from its journal, also while it goes on.

    Parameters
    ----------
    path : Path
        The store.

    Raises
    ------
    StoreError
        If there is no livestain store, or no journal that can be read.
    """
    with open_store(path) as store:
        where = store.path
        lines = read_journal(journal_path(where))
        there = store.present_grid()
        plan = store.plan  # as it is after the look
    asked = planes_asked_for(plan, there, last_words(lines).missing)
    status = store_status(path)
    times = [datetime.fromisoformat(line["time"]) for line in lines if "time" in line]
    zero = times[0] if times else datetime.now().astimezone()

    def seconds(line: _Line) -> float:
        return (datetime.fromisoformat(line["time"]) - zero).total_seconds()

    by_kind: dict[str, list[_Line]] = defaultdict(list)
    for line in lines:
        by_kind[line["kind"]].append(line)
    planes, stained = by_kind["plane"], by_kind["stained"]
    names = [channel.name for channel in plan.channels]
    live = [line for line in stained if line.get("live") and "total" in line.get("latency_ms", {})]
    end = by_kind["finished"][-1] if by_kind["finished"] else {}
    moments = sorted(seconds(line) for line in planes)
    spreads = {
        stage: Spread.of(
            [line["latency_ms"][stage] for line in live if stage in line["latency_ms"]]
        )
        for stage in STAGES
    }
    return RunHistory(
        store=str(where),
        began=zero.isoformat(),
        seconds=round((max(times) - zero).total_seconds(), 3) if times else 0.0,
        finished=status.finished,
        interrupted=bool(end.get("interrupted")),
        failed=bool(end.get("failed")),
        status=status,
        acquired_s=_by_channel(planes, names, seconds),
        stained_s=_by_channel(stained, names, seconds),
        owed=_owed(plan, asked, by_kind, seconds),
        latency_s=np.array(
            [(seconds(line), line["latency_ms"]["total"]) for line in live], dtype=float
        ).reshape(-1, 2),
        stages={stage: spread for stage, spread in spreads.items() if spread is not None},
        memory_mib=_memory(by_kind["memory"], seconds),
        lateness_ms=Spread.of([line["late_ms"] for line in planes if "late_ms" in line]),
        answer_ms=Spread.of([line["answer_ms"] for line in planes if "answer_ms" in line]),
        frames_per_second=(
            round((len(moments) - 1) / (moments[-1] - moments[0]), 3)
            if len(moments) > 1 and moments[-1] > moments[0]
            else None
        ),
        light=_light(planes, names),
        models=[
            {"channel": names[m["c"]], **m}
            for line in by_kind["worker"][:1]
            for m in line.get("models", ())
        ],
        notes=[str(line.get("why", "")) for line in by_kind["fault"]],
    )


def _by_channel(
    lines: list[_Line], names: list[str], seconds: Any
) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        found[names[line["index"][2]]].append(seconds(line))
    return {name: np.sort(np.array(moments)) for name, moments in found.items()}


def _owed(
    plan: StorePlan,
    asked: dict[int, NDArray[np.bool_]],
    by_kind: dict[str, list[_Line]],
    seconds: Any,
) -> NDArray[np.float64]:
    """Return when the number of owed planes changed, and to what."""
    came = {PlaneIndex(*line["index"]): seconds(line) for line in by_kind["plane"]}
    settled = {
        PlaneIndex(*line["index"]): seconds(line)
        for kind in ("stained", "skipped", "impossible")
        for line in by_kind[kind]
    }
    changes: list[tuple[float, int]] = []
    for c, channel in enumerate(plan.channels):
        if channel.virtual is None:
            continue
        for target in places_of(asked[c], c):
            sources = plan.sources_of(target)
            if all(source in came for source in sources):
                begins = max(came[source] for source in sources)
                changes.append((begins, 1))
                if target in settled:
                    # The journal's line of the last source may be written a moment later.
                    changes.append((max(settled[target], begins), -1))
    if not changes:
        return np.empty((0, 2))
    changes.sort(key=lambda change: (change[0], -change[1]))
    moments, steps = np.array(changes, dtype=float).T
    return np.stack([moments, np.cumsum(steps)], axis=1)


def _memory(lines: list[_Line], seconds: Any) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in lines:
        for name, mib in line.get("mib", {}).items():
            found[name].append((seconds(line), mib))
    return {name: np.array(points) for name, points in found.items()}


def _light(planes: list[_Line], names: list[str]) -> dict[str, Light]:
    exposures: dict[str, list[float]] = defaultdict(list)
    for line in planes:
        exposures[names[line["index"][2]]].append(float(line.get("exposure_ms") or 0.0))
    return {name: Light.of(ms) for name, ms in exposures.items()}

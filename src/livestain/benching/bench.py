"""Everything that is measured, in the order in which it is most useful if the time runs out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from livestain.benching.asking import NoAnswerError, RefusedError, ask
from livestain.benching.budget import Budget
from livestain.benching.machine import hardware, load, names_of_folders, scrubbed, versions
from livestain.benching.results import (
    AutoChoice,
    BenchResult,
    BundleResult,
    Look,
    Measurement,
    Roof,
    SizeResult,
    StoreTimes,
)
from livestain.benching.settings import Job
from livestain.benching.verdict import auto_over_fastest, sentences
from livestain.bundle.description import NetworkSpec
from livestain.errors import BundleError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.benching.settings import BenchSettings
    from livestain.bundle import Bundle

__all__ = ["Progress", "run_bench"]

Progress = Callable[[int, int, str], None]
"""Called with what is done, of how much, and what is measured now."""


def run_bench(
    bundles: Sequence[Bundle],
    settings: BenchSettings,
    *,
    command: str,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
) -> BenchResult:
    """Measure models, each backend at each frame size in a process of its own.

    Parameters
    ----------
    bundles : sequence of Bundle
        The models.
    settings : BenchSettings
        What of them is measured.
    command : str
        The command line that asks for it, for the result.
    progress : callable, optional
        Told what goes on.
    notes : sequence of str
        What the result says besides, such as models that were left out before.

    Returns
    -------
    BenchResult
        Without a user's name or a folder in it. Ctrl-C ends it early; what was measured is there.

    Raises
    ------
    LivestainError
        If the device or a backend is unknown, or a model cannot be loaded.
    """
    bench = _Bench(bundles, settings, progress or (lambda *_: None))
    bench.notes.extend(notes)
    date, before = datetime.now(UTC).isoformat(timespec="seconds"), load()
    began, interrupted = time.monotonic(), False
    try:
        bench.look()
        bench.measure()
    except KeyboardInterrupt:
        if not bench.looks:
            raise
        interrupted = True
        bench.notes.append("Interrupted: what is not here was not measured.")
    if not bench.looks:
        raise BundleError(f"None of the models can be measured: {'; '.join(bench.notes)}")
    bench.leave_out_the_rest()
    first = next(iter(bench.looks.values()))
    machine = hardware() | {"device": first.device_name, "torch": first.facts}
    result = BenchResult(
        command=command,
        date=date,
        seconds=round(time.monotonic() - began, 1),
        hardware=machine,
        versions=versions(),
        load=(before, load()),
        device=first.device,
        threads=first.facts["threads"],
        roof=bench.roof,
        store=bench.store,
        bundles=tuple(bench.result_of(bundle) for bundle in bench.looked()),
        notes=tuple(bench.notes),
        interrupted=interrupted,
    )
    return BenchResult.model_validate(
        scrubbed(result.model_dump(mode="json"), names_of_folders(bundles))
    )


@dataclass
class _Size:
    """What is known of a model at a size so far."""

    measured: list[Measurement] = field(default_factory=list)
    auto: AutoChoice | None = None
    refused: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)


class _Bench:
    def __init__(
        self, bundles: Sequence[Bundle], settings: BenchSettings, progress: Progress
    ) -> None:
        self._bundles = bundles
        self._settings = settings
        self._progress = progress
        self._budget = Budget(settings.minutes)
        self._sizes: dict[tuple[str, int], _Size] = {
            (bundle.sha256, size): _Size() for bundle in bundles for size in settings.sizes
        }
        self._done = 0
        self.looks: dict[str, Look] = {}
        self.roof: Roof | None = None
        self.store: dict[int, StoreTimes] = {}
        self.notes: list[str] = []

    def looked(self) -> list[Bundle]:
        """Return the models of which something is known."""
        return [bundle for bundle in self._bundles if bundle.sha256 in self.looks]

    # ------------------------------------------------------------------ in order

    def look(self) -> None:
        """Ask which backends are ready, and count the work; short, and never left out."""
        for place, bundle in enumerate(self._bundles):
            self._progress(place, len(self._bundles), f"looking at {bundle.name}")
            job = self._job("look", bundle, sizes=self._settings.sizes)
            try:
                look = Look.model_validate(ask(job))
            except (RefusedError, NoAnswerError) as error:
                if len(self._bundles) == 1:
                    raise
                self.notes.append(f"{bundle.name} was left out: {error}")
                continue
            if unknown := set(self._settings.backends) - set(look.precisions):
                raise SettingsError(
                    f"The backend {min(unknown)!r} is unknown; expected one of "
                    f"{', '.join(look.precisions)}."
                )
            self.looks[bundle.sha256] = look

    def measure(self) -> None:
        """Measure the device's limits and the store, then each model at each size: `auto` first."""
        sizes = self._settings.sizes
        total = 1 + len(sizes) + sum(len(self._wanted(b)) + 1 for b in self.looked()) * len(sizes)
        self._total = total
        self._measure_roof()
        for size in sizes:
            self._measure_store(size)
        for size in sizes:
            for bundle in self.looked():
                self._measure_auto(bundle, size)
                for backend in self._wanted(bundle):
                    self._measure_one(bundle, size, backend)
        self._progress(total, total, "done")

    def leave_out_the_rest(self) -> None:
        """Say of everything that has no result that it was not measured."""
        for bundle in self.looked():
            for size in self._settings.sizes:
                found = self._sizes[bundle.sha256, size]
                known = {one.backend for one in found.measured} | {
                    *found.refused,
                    *found.not_measured,
                }
                for backend in self._wanted(bundle):
                    if backend not in known:
                        found.not_measured[backend] = "it was ended before"

    def result_of(self, bundle: Bundle) -> BundleResult:
        """Return what is known of a model."""
        look = self.looks[bundle.sha256]
        made = []
        for size in self._settings.sizes:
            found = self._sizes[bundle.sha256, size]
            work = look.work.get(size)
            measured = tuple(self._with_share(one, look, size) for one in found.measured)
            result = SizeResult(
                size=size,
                work=work,
                measured=measured,
                auto=found.auto,
                refused=found.refused,
                not_measured=found.not_measured,
            )
            store = self.store.get(size)
            told = sentences(
                result, store, self._settings.intervals_ms, reads=look.reads, writes=look.writes
            )
            over = auto_over_fastest(result)
            made.append(result.model_copy(update={"sentences": told, "auto_over_fastest": over}))
        # What is no candidate is measured all the same where it is named; it then has a reason of its own.
        refused = {} if self._settings.backends else look.refused
        return BundleResult(
            bundle=bundle.name,
            sha256=bundle.sha256,
            network=_network_of(bundle),
            parameters=look.parameters,
            sizes=tuple(made),
            refused=refused,
        )

    # ------------------------------------------------------------------ one by one

    def _measure_roof(self) -> None:
        self._next("the device's limits")
        wanted = {
            look.precisions[name]: None
            for bundle in self.looked()
            for look in (self.looks[bundle.sha256],)
            for name in self._wanted(bundle)
        }
        try:
            answer = ask(self._job("roof", precisions=tuple(wanted)), timeout_s=self._budget.left_s)
            self.roof = Roof.model_validate(answer)
        except (RefusedError, NoAnswerError) as error:
            self.notes.append(f"The device's limits are not known: {error}")

    def _measure_store(self, size: int) -> None:
        self._next(f"reading and writing planes of {size}²")
        with tempfile.TemporaryDirectory(
            prefix="livestain-bench-", ignore_cleanup_errors=True
        ) as folder:
            try:
                answer = ask(
                    self._job("store", size=size, folder=folder), timeout_s=self._budget.left_s
                )
                self.store[size] = StoreTimes.model_validate(answer)
            except (RefusedError, NoAnswerError) as error:
                self.notes.append(f"The store was not measured at {size}²: {error}")

    def _measure_auto(self, bundle: Bundle, size: int) -> None:
        self._next(f"{bundle.name}, {size}²: auto")
        found = self._sizes[bundle.sha256, size]
        if why := self._budget.refuses(bundle.sha256, "auto", size):
            found.not_measured["auto"] = why
            return
        began = time.monotonic()
        try:
            answer = ask(self._job("auto", bundle, size=size), timeout_s=self._budget.left_s)
            found.auto = AutoChoice.model_validate(answer)
        except RefusedError as error:
            found.refused["auto"] = str(error)
        except NoAnswerError as error:
            found.not_measured["auto"] = str(error)
        self._budget.note(bundle.sha256, "auto", size, time.monotonic() - began)

    def _measure_one(self, bundle: Bundle, size: int, backend: str) -> None:
        self._next(f"{bundle.name}, {size}²: {backend}")
        found = self._sizes[bundle.sha256, size]
        if why := self._budget.refuses(bundle.sha256, backend, size):
            found.not_measured[backend] = why
            return
        began = time.monotonic()
        try:
            job = self._job("measure", bundle, size=size, backend=backend)
            found.measured.append(
                Measurement.model_validate(ask(job, timeout_s=self._budget.left_s))
            )
        except RefusedError as error:
            found.refused[backend] = str(error)
        except NoAnswerError as error:
            found.not_measured[backend] = str(error)
        self._budget.note(bundle.sha256, backend, size, time.monotonic() - began)

    # ------------------------------------------------------------------ helpers

    def _wanted(self, bundle: Bundle) -> list[str]:
        """Return the backends to measure: those that were named, else those that are candidates here."""
        wanted, look = self._settings.backends, self.looks[bundle.sha256]
        return [n for n in look.precisions if (n in wanted if wanted else n not in look.refused)]

    def _with_share(self, one: Measurement, look: Look, size: int) -> Measurement:
        """Return a measurement with its share of the roof; torch is not needed for it."""
        work = look.work.get(size)
        if work is None or self.roof is None or one.tile is not None or one.device != look.device:
            return one
        least = self.roof.least_ms(work, one.precision)
        network = one.stages["network"].p50
        if least is None or network <= 0:
            return one
        return one.model_copy(update={"share_of_roof": round(least / network, 4)})

    def _job(self, kind: str, bundle: Bundle | None = None, **more: object) -> Job:
        settings = self._settings
        return Job.model_validate(
            {
                "kind": kind,
                "began": 0.0,
                "bundle": str(bundle.path.resolve()) if bundle is not None else "",
                "device": settings.device,
                "threads": settings.threads,
                "planes": settings.planes,
                "seconds": settings.seconds,
                **more,
            }
        )

    def _next(self, words: str) -> None:
        self._progress(self._done, self._total, words)
        self._done += 1


def _network_of(bundle: Bundle) -> str:
    """Return the name of a model's architecture; of other tools' models, in what form it is there."""
    spec = bundle.description.network
    return spec.name if isinstance(spec, NetworkSpec) else f"a network in {spec.foreign}"

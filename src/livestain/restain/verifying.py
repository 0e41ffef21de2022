"""Staining repeated and compared: whether a store's predictions are those of the models that it names."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import BundleError, LivestainError, StoreError
from livestain.recordings import is_store
from livestain.restain.asking import begun_with
from livestain.restain.beside import beside
from livestain.restain.made_by import made_by
from livestain.stain.backlog import Task
from livestain.stain.models import Models
from livestain.stain.planes import planes_of
from livestain.stain.provenance import versions_of
from livestain.stain.setup import worker_setup
from livestain.store import open_store

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from livestain.bundle.description import BundleDescription
    from livestain.planes import PlaneIndex
    from livestain.stain.planes import Planes
    from livestain.store import Store

__all__ = ["ChannelVerdict", "VerifyReport", "verify_staining"]

_ENVIRONMENT = ("device", "backend", "threads", "cpu", "tile")
"""What of a model's surroundings may change the last bits of a prediction."""


@dataclass
class ChannelVerdict:
    """How the predictions of one channel compare with new ones.

    Attributes
    ----------
    channel, bundle, sha256 : str
    compared : int
        Planes that were predicted anew.
    identical : int
        Those of them that are equal, bit for bit.
    not_comparable : int
        Planes that are there, and whose sources are not any more.
    largest : int
        Largest difference of a pixel, in stored counts.
    rms : float
        Worst root mean square difference of a plane, relative to the plane's own standard deviation.
    tolerance : float
        What the bundle allows, for the precisions of then and now.
    surroundings : list of str
        What is different now from when they were made: device, backend, versions.
    failed : list of str
        Planes that differ beyond the tolerance, or on which the model failed, with why.
    """

    channel: str
    bundle: str
    sha256: str
    compared: int = 0
    identical: int = 0
    not_comparable: int = 0
    largest: int = 0
    rms: float = 0.0
    tolerance: float = 0.0
    surroundings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether they are what the model predicts: bit for bit, or within its tolerance."""
        return not self.failed and self.compared > 0

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if not self.compared:
            return "nothing could be compared: no prediction is there whose sources are there too"
        if self.failed:
            return f"{len(self.failed)} of {self.compared} planes are not what the model predicts"
        if self.identical == self.compared:
            return f"repeated: all {self.compared} planes are equal, bit for bit"
        why = f" ({'; '.join(self.surroundings)})" if self.surroundings else ""
        return (
            f"repeated: {self.identical} of {self.compared} planes are equal, bit for bit, the others within "
            f"the model's tolerance{why}"
        )


@dataclass(frozen=True)
class VerifyReport:
    """How a staining was repeated.

    Attributes
    ----------
    store : str
    channels : list of ChannelVerdict
    interrupted : bool
        Whether the user stopped it before its end.
    """

    store: str
    channels: list[ChannelVerdict]
    interrupted: bool

    @property
    def passed(self) -> bool:
        """Whether every channel passed."""
        return all(verdict.passed for verdict in self.channels)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON types."""
        told = asdict(self)
        for verdict, row in zip(self.channels, told["channels"], strict=True):
            row |= {"passed": verdict.passed, "verdict": verdict.sentence}
        return told | {"passed": self.passed}


def verify_staining(
    store: Path | str,
    *,
    channel: str | None = None,
    models: Mapping[str, str] | None = None,
    planes: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    stop: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Predict again what a store holds, by the models that it names, and compare; nothing is written.

    Parameters
    ----------
    store : Path or str
        RUN.ome.zarr, also while it is being written; or data of another program that was stained.
    channel : str, optional
        A virtual channel; by default all.
    models : mapping, optional
        Where a bundle is now, by virtual channel, if not on the search path under its name.
    planes : int, optional
        Compare so many of a channel's planes, evenly spread; by default all.
    device : str
        One of `auto`, `cpu`, `cuda`, `cuda:N`.
    threads : int, optional
        CPU threads; by default as many as they were made with.
    stop : threading.Event, optional
        When set, ends after the plane in hand.
    progress : callable, optional
        Called as ``(compared, to_be_compared)``.

    Returns
    -------
    VerifyReport

    Raises
    ------
    StoreError
        If there is no store, or no such channel.
    BundleError
        If a model is not found, or is another than the channel was begun with.
    DataError
        If the recording that predictions were made from is gone.
    """
    path = Path(store).absolute()
    if not is_store(path) and (stained := beside(path)).is_dir():
        path = stained  # of data of another program, its predictions are meant
    if planes is not None and planes < 1:
        raise StoreError(
            f"{planes} planes are to be compared; give 1 or more, or leave it out for all."
        )
    with ExitStack() as stack:
        opened = stack.enter_context(open_store(path))
        plan = opened.plan
        virtual = {ch.name: c for c, ch in enumerate(plan.channels) if ch.virtual is not None}
        strange = ({channel} if channel is not None else set()) | set(models or {})
        if wrong := sorted(strange - set(virtual)):
            raise BundleError(
                f"{path.name} has no virtual channel {wrong[0]!r}; it has: {', '.join(virtual) or 'none'}."
            )
        if not virtual:
            raise StoreError(f"{path} has no virtual channel, so there is no staining to repeat.")
        facts = opened.attributes.get("models") or {}
        meant = virtual if channel is None else {channel: virtual[channel]}
        bundles = {
            c: begun_with(plan.channels[c], (models or {}).get(name), facts.get(name))
            for name, c in meant.items()
        }
        sources = stack.enter_context(planes_of(opened))
        there = sources.present_indices()
        told = made_by(opened)
        # The number of threads decides the order of sums, and so the last bits.
        threads = threads or next(
            (told.last[c].get("threads") for c in bundles if c in told.last), None
        )
        todo = {c: _chosen([i for i in sorted(there) if i.c == c], planes) for c in bundles}
        total, done = sum(map(len, todo.values())), 0
        verdicts = {
            c: ChannelVerdict(
                plan.channels[c].name,
                bundle.name,
                bundle.sha256,
                tolerance=bundle.description.tolerance,
            )
            for c, (bundle, _) in bundles.items()
        }
        # Another backend may be another precision: each plane is judged by the one that made it.
        rounds: dict[str, dict[int, list[PlaneIndex]]] = {}
        for c, indices in todo.items():
            for index in indices:
                backend = _known(told.of(index).get("backend"))
                rounds.setdefault(backend, {}).setdefault(c, []).append(index)
        for backend, by_channel in rounds.items():
            with ExitStack() as models_open:
                loaded = Models(lambda *_: None)
                loaded.load(
                    worker_setup(
                        plan,
                        {c: bundles[c] for c in by_channel},
                        device=device,
                        backend=backend,
                        threads=threads,
                        live=False,
                    ),
                    models_open,
                )
                for now in loaded.facts():
                    c = now["c"]
                    description = bundles[c][0].description
                    for index in by_channel[c]:
                        if stop is not None and stop.is_set():
                            return VerifyReport(str(path), [*verdicts.values()], interrupted=True)
                        needed = plan.sources_of(index)
                        if there.issuperset(needed):
                            then = told.of(index)
                            for words in _differences(then, now, told.versions):
                                if words not in verdicts[c].surroundings:
                                    verdicts[c].surroundings.append(words)
                            allowed = _allowed(description, then.get("backend"), now["backend"])
                            verdicts[c].tolerance = max(verdicts[c].tolerance, allowed)
                            _compare(verdicts[c], allowed, opened, sources, loaded, index, needed)
                        else:
                            verdicts[c].not_comparable += 1
                        done += 1
                        if progress is not None:
                            progress(done, total)
    return VerifyReport(str(path), [*verdicts.values()], interrupted=False)


def _known(backend: str | None) -> str:
    """Return the backend of then; where it is not known, that of fp32 and never whatever is fastest."""
    from livestain.inference import backend_names  # with torch, which reading asks nothing of

    return backend if backend in backend_names() else "folded"


def _allowed(description: BundleDescription, *backends: str | None) -> float:
    """Return how far predictions of two backends may be apart."""
    from livestain.inference import backend_names
    from livestain.inference.proving import parity_limit

    limits = [parity_limit(name, description) for name in backends if name in backend_names()]
    return max(description.tolerance, *limits)


def _chosen(present: Sequence[PlaneIndex], number: int | None) -> list[PlaneIndex]:
    if number is None or number >= len(present):
        return list(present)
    return [present[n] for n in np.linspace(0, len(present) - 1, number).round().astype(int)]


def _compare(
    verdict: ChannelVerdict,
    allowed: float,
    store: Store,
    sources: Planes,
    models: Models,
    index: PlaneIndex,
    needed: tuple[PlaneIndex, ...],
) -> None:
    verdict.compared += 1
    try:
        made = models.predict(sources, Task(target=index, sources=needed, stamp=None, live=False))
        again = made.plane.counts
        stored = store.read(index)
    except LivestainError as error:
        verdict.failed.append(f"{index.words}: {error}")
        return
    if np.array_equal(again, stored):
        verdict.identical += 1
        return
    difference = again.astype(np.float64) - stored
    largest = int(np.abs(difference).max())
    spread = float(stored.std())
    rms = float(np.sqrt(np.mean(difference**2)))
    relative = rms / spread if spread else float("inf")
    verdict.largest = max(verdict.largest, largest)
    verdict.rms = max(verdict.rms, relative)
    # A single count is what rounding may make of the last bit.
    if relative > allowed and largest > 1:
        verdict.failed.append(
            f"{index.words}: RMS difference {relative:.3g} of the plane's standard deviation, and the bundle "
            f"allows {allowed:g}"
        )


def _differences(
    then: Mapping[str, Any], now: Mapping[str, Any], versions: Mapping[str, Any]
) -> list[str]:
    found = [
        f"{name} {then[name]} then, {now[name]} now"
        for name in _ENVIRONMENT
        if name in then and _plain(then[name]) != _plain(now[name])
    ]
    torch = versions_of(["torch"])["torch"]
    if versions.get("torch", torch) != torch:
        found.append(f"torch {versions['torch']} then, {torch} now")
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

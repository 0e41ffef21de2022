"""What was measured; each as plain JSON types, so that a child process can send it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field

from livestain.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AutoChoice",
    "BenchResult",
    "BundleResult",
    "ColdStart",
    "Look",
    "Measurement",
    "Roof",
    "SizeResult",
    "Spread",
    "StoreTimes",
    "WarmStart",
    "Work",
]

_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "int8": 1}
"""Of a number, by precision."""


class Spread(Settings):
    """Milliseconds of something that was done several times."""

    p50: float
    """Median."""
    p95: float
    """95th percentile; of fewer than 20 times close to the longest."""
    p99: float
    """99th percentile; of fewer than 100 times close to the longest."""
    mean: float
    """Mean: what decides how many frames fit into a minute."""
    n: int
    """Number of times."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the spread of some durations in seconds."""
        p50, p95, p99 = (round(1e3 * float(q), 3) for q in np.percentile(seconds, (50, 95, 99)))
        mean = round(1e3 * float(np.mean(seconds)), 3)
        return cls(p50=p50, p95=p95, p99=p99, mean=mean, n=len(seconds))


class ColdStart(Settings):
    """Milliseconds from the start of a process to its first prediction."""

    imports: float
    """Python, torch and livestain."""
    load: float
    """Reading the bundle with its hashes, building the network, handing it to the backend."""
    parity: float
    """Predicting the bundle's test input and comparing."""
    first: float
    """First prediction at the frame size."""
    total: float
    """All of it."""


class WarmStart(Settings):
    """Milliseconds of the same in a process that has done it before."""

    load: float
    """Until the model is loaded and held to its test output."""
    first: float
    """First prediction at the frame size."""
    total: float
    """Both."""


class Work(Settings):
    """What one prediction asks of a device, whatever the backend."""

    macs: int
    """Multiplications with addition of the network (`torch.utils.flop_counter`)."""
    moved: int
    """Numbers that its convolutions and products of matrices read and write, weights with them; all else can
    be fused into these."""


class Roof(Settings):
    """What a device could do, measured on it with the same threads."""

    gemm_gflops: dict[str, float]
    """Fastest product of matrices, GFLOP/s (2 a multiplication with addition), by precision."""
    copy_gb_s: float
    """Copying large memory on the device, GB/s read and written."""
    to_device_gb_s: float | None = None
    """From pinned memory to a GPU, GB/s."""
    from_device_gb_s: float | None = None
    """From a GPU to pinned memory, GB/s."""
    notes: dict[str, str] = Field(default_factory=dict)
    """Why a precision has no number."""

    def least_ms(self, work: Work, precision: str) -> float | None:
        """Return the least milliseconds that these limits allow for a network; None where unknown.

        Parameters
        ----------
        work : Work
            Of one prediction.
        precision : str
            Of the arithmetic, and of the numbers that are moved.
        """
        gflops = self.gemm_gflops.get(precision)
        if not gflops or precision not in _BYTES:
            return None
        compute = 2 * work.macs / (gflops * 1e6)
        memory = work.moved * _BYTES[precision] / (self.copy_gb_s * 1e6)
        return max(compute, memory)


class StoreTimes(Settings):
    """What a worker does beside predicting, by plane; how many it reads and writes is told elsewhere."""

    read: Spread
    """Reading a raw plane that was just written."""
    write: Spread
    """Writing a predicted plane."""


class AutoChoice(Settings):
    """What `auto` takes."""

    backend: str
    """Its name."""
    cached: bool
    """Whether the choice was made by an earlier run and found again."""
    seconds: float
    """What choosing took; loading and parity with it."""
    cached_seconds: float | None = None
    """What it took once the choice was known."""
    milliseconds: dict[str, float] = Field(default_factory=dict)
    """What it measured, by candidate."""
    refused: dict[str, str] = Field(default_factory=dict)
    """Why others were not taken."""


class Measurement(Settings):
    """One backend at one frame size."""

    backend: str
    """Its name."""
    precision: str
    """Of its arithmetic."""
    device: str
    """Where it computed: another than asked for where that had no memory."""
    threads: int
    """CPU threads of torch."""
    cold: ColdStart
    """A fresh process."""
    warm: WarmStart
    """The same process again."""
    stages: dict[str, Spread]
    """`upload`, `normalise` (with padding), `network`, `encode` (with the way back)."""
    total: Spread
    """uint16 in, uint16 out."""
    planes: int
    """Planes that one prediction gives."""
    planes_per_second: float
    """By the mean."""
    overlapped_per_second: float | None = None
    """The same on a GPU where several planes are known to be owed, so that copies and work overlap."""
    memory_mb: float
    """Most memory of a prediction above that of the process with the model loaded, 10^6 bytes."""
    model_mb: float
    """What loading the model added, 10^6 bytes."""
    cuda_mb: float | None = None
    """Most CUDA memory of a prediction, the model's with it, 10^6 bytes; None on a CPU."""
    error: float
    """RMS difference from fp32 eager on the bundle's test input, relative to the standard deviation."""
    tile: tuple[int, int] | None = None
    """Tiles that were taken because memory was short, in pixels."""
    share_of_roof: float | None = None
    """Least time that the device's measured limits allow for the network, over what it took."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""


class SizeResult(Settings):
    """A model at one frame size."""

    size: int
    """Side of the square frames, in pixels."""
    work: Work | None
    """None where the network is not a torch module, so that nothing is counted."""
    measured: tuple[Measurement, ...] = ()
    """By backend."""
    auto: AutoChoice | None = None
    """None where it was not asked, or could not be."""
    auto_over_fastest: float | None = None
    """Mean time of what `auto` takes over that of the fastest that was measured: 1 is best."""
    refused: dict[str, str] = Field(default_factory=dict)
    """Why a backend gave nothing at this size."""
    not_measured: dict[str, str] = Field(default_factory=dict)
    """What was left out, and why."""
    sentences: tuple[str, ...] = ()
    """Whether it keeps up."""


class BundleResult(Settings):
    """A model."""

    bundle: str
    """Its name."""
    sha256: str
    """Its identity."""
    network: str
    """The architecture."""
    parameters: int | None
    """Of the network."""
    sizes: tuple[SizeResult, ...] = ()
    """By frame size."""
    refused: dict[str, str] = Field(default_factory=dict)
    """Backends that cannot be used here at all, and why."""


class Look(Settings):
    """What a child sees of a model and of the device."""

    device: str
    """Resolved: "cpu" or "cuda:N"."""
    device_name: str
    """As its maker calls it."""
    precisions: dict[str, str]
    """Of every backend's arithmetic."""
    refused: dict[str, str]
    """Why some are no candidates here."""
    parameters: int | None
    """Of the network."""
    work: dict[int, Work]
    """By frame size."""
    reads: int = 1
    """Raw planes that a worker reads for each predicted one: one of each source."""
    writes: int = 1
    """Predicted planes that it writes for each: one for each output."""
    facts: dict[str, Any]
    """Of torch: CPU capability, threads, GPU."""


class BenchResult(Settings):
    """All of it: `bench.json`."""

    what: str = "livestain bench"
    """What wrote this."""
    command: str
    """How to do it again; models by their names."""
    date: str
    """When it began, UTC."""
    seconds: float
    """What it took."""
    hardware: dict[str, Any]
    """CPU, GPU, memory, system."""
    versions: dict[str, str]
    """Of packages."""
    load: tuple[float | None, float | None]
    """Load average of a minute before and after."""
    device: str
    """Where it computed."""
    threads: int
    """CPU threads of the models."""
    roof: Roof | None
    """The device's limits."""
    store: dict[int, StoreTimes] = Field(default_factory=dict)
    """Reading and writing planes, by size."""
    bundles: tuple[BundleResult, ...] = ()
    """By model."""
    notes: tuple[str, ...] = ()
    """Why not everything was measured, if so."""
    interrupted: bool = False
    """Whether the user stopped it."""

"""Results as `livestain bench` makes them, for the tests of what is told of them."""

from __future__ import annotations

from livestain.benching.results import (
    AutoChoice,
    BenchResult,
    BundleResult,
    ColdStart,
    Measurement,
    Roof,
    SizeResult,
    Spread,
    StoreTimes,
    WarmStart,
    Work,
)


def spread(milliseconds):
    return Spread(p50=milliseconds, p95=milliseconds, p99=milliseconds, mean=milliseconds, n=5)


def measurement(backend="folded", total=40.0, **changes):
    stages = {
        "upload": spread(1.0),
        "normalise": spread(2.0),
        "network": spread(total - 4.0),
        "encode": spread(1.0),
    }
    values = {
        "backend": backend,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "cold": ColdStart(imports=1500.0, load=200.0, parity=50.0, first=250.0, total=2000.0),
        "warm": WarmStart(load=100.0, first=40.0, total=140.0),
        "stages": stages,
        "total": spread(total),
        "planes": 1,
        "planes_per_second": 1e3 / total,
        "memory_mb": 123.0,
        "model_mb": 20.0,
        "error": 1.2e-6,
    }
    return Measurement(**{**values, **changes})


def store_times(read=2.0, write=3.0):
    return StoreTimes(read=spread(read), write=spread(write))


def size_result(*measured, size=2048, auto=None, **changes):
    choice = AutoChoice(backend=auto, cached=False, seconds=3.0) if auto else None
    values = {"size": size, "work": Work(macs=28_000_000_000, moved=10**9), "auto": choice}
    return SizeResult(**{**values, "measured": measured, **changes})


def bench_result(*sizes, **changes):
    bundle = BundleResult(
        bundle="a-model",
        sha256="0" * 64,
        network="slim2d",
        parameters=1_360_000,
        sizes=sizes,
        refused={"cudagraph": "no CUDA device"},
    )
    values = {
        "command": "livestain bench a-model",
        "date": "2026-01-02T03:04:05+00:00",
        "seconds": 12.0,
        "hardware": {
            "cpu": "A CPU",
            "cores": 2,
            "flags": ["avx2"],
            "memory_gb": 16.0,
            "gpus": [],
            "system": "Linux",
            "python": "3.12",
        },
        "versions": {"torch": "2.13.0"},
        "load": (0.1, 0.2),
        "device": "cpu",
        "threads": 1,
        "roof": Roof(gemm_gflops={"fp32": 50.0}, copy_gb_s=8.0),
        "bundles": (bundle,),
    }
    return BenchResult(**{**values, **changes})

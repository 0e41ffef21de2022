"""What every 2-D network of the study takes, by every backend: one half of accuracy against latency.

    python benchmarks/papers.py run --runs RUNS --studies real
    python benchmarks/pareto.py --runs RUNS

Runs the bundles that benchmarks/papers.py trained on real cells, uint16 in, uint16 out, at 512 and 1024
pixels: eagerly in float32, and by every backend that is ready, interleaved in one process, another one first
each time; ratios are of one repeat. Results go to results/pareto.json, from which docs/study.md draws its
chart beside the scores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from study.environment import with_environment

from livestain.stain.launching import worker_environment

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BASELINE = ("fnet2d", "eager")


def main() -> None:
    arguments = parse()
    with_environment(worker_environment(arguments.threads))
    import torch

    from livestain._version import __version__
    from training import hardware

    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/pareto.py --runs RUNS",
        "hardware": hardware(torch.device("cpu")),
        "versions": {"livestain": __version__, "torch": torch.__version__},
        "latency": latency(arguments),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--networks", nargs="+", help="recipes of pareto/; all where left out")
    parser.add_argument("--threads", type=int, default=2, help="of the predictions")
    parser.add_argument("--repeats", type=int, default=3)
    # In float32, as the scores are; others by name (bfloat16 may be emulated, and takes minutes then).
    backends = ["eager", "folded", "inductor", "cudagraph", "onnxruntime", "openvino"]
    parser.add_argument("--backends", nargs="+", default=backends)
    parser.add_argument("--out", type=Path, default=RESULTS / "pareto.json")
    return parser.parse_args()


def bundles(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return a trained bundle of each network, of whichever fold."""
    from study.cell import MOVIES
    from study.times import SAME_NETWORK

    names = arguments.networks or [path.stem for path in sorted((HERE / "pareto").glob("*.yaml"))]
    found: dict[str, Path] = {}
    for name in names:
        for fold in MOVIES:
            bundle = arguments.runs / "cpu" / "real" / f"{name}-not-{fold}-bundle"
            if name not in SAME_NETWORK and bundle.is_dir():
                found.setdefault(name, bundle)
    if BASELINE[0] not in found:
        sys.exit(
            f"There is no trained {BASELINE[0]} in {arguments.runs / 'cpu' / 'real'}: run papers.py first."
        )
    return found


def latency(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time every network by every backend that is ready."""
    import torch
    from study.times import SIZES

    from livestain.inference import Stainer, backend_names

    torch.set_num_threads(arguments.threads)
    cells: dict[tuple[str, str], Any] = {}
    refused: dict[str, dict[str, str]] = {}
    for name, bundle in bundles(arguments).items():
        for backend in backend_names():
            if backend not in arguments.backends:
                continue
            stainer = Stainer(bundle, device="cpu", backend=backend)
            if stainer.backend == backend:
                cells[name, backend] = stainer
            else:
                refused.setdefault(name, {})[backend] = stainer.refused.get(backend, "")
                stainer.close()
    ms: dict[tuple[str, str, int], list[float]] = {}
    rng = np.random.default_rng(0)
    for size in SIZES:
        plane = rng.integers(0, 4096, (1, size, size), dtype=np.uint16)
        for stainer in cells.values():
            stainer.stain_counts(plane)
        for repeat in range(arguments.repeats):
            order = list(cells)
            first = repeat * len(order) // arguments.repeats
            for key in order[first:] + order[:first]:
                began = time.perf_counter()
                cells[key].stain_counts(plane)
                ms.setdefault((*key, size), []).append((time.perf_counter() - began) * 1e3)
                print(*key, size, round(ms[*key, size][-1], 1), file=sys.stderr, flush=True)
    table = [
        {
            "network": name,
            "backend": backend,
            "size": size,
            "ms": statistics.median(times),
            "times_faster_than_fnet2d_eager": statistics.median(
                base / own for base, own in zip(ms[*BASELINE, size], times, strict=True)
            ),
        }
        for (name, backend, size), times in ms.items()
    ]
    return {
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "table": table,
        "refused": refused,
        "parameters": {
            name: sum(p.numel() for p in stainer.bundle.load_module().parameters())
            for (name, backend), stainer in cells.items()
            if backend == "eager"
        },
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


if __name__ == "__main__":
    main()

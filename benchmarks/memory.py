"""How much memory a prediction needs beyond the loaded model, on the CPU.

    python benchmarks/memory.py
    python benchmarks/memory.py --size 1024 --bundle models/h9c2-omp25
    python benchmarks/memory.py --backend onnxruntime

Each backend is measured in a process of its own, with the environment that a worker gets: the model is loaded
and predicts a plane of 256 x 256, then a plane of the size asked for, three times; the peak of what the
process keeps in memory meanwhile, less what it kept before, is what counts. Without a bundle a student of
random weights (slim2d, unshuffle 4) is written and measured. Linux alone tells a process's peak since a
moment; elsewhere the peak since the start stands in for it, which can only be more. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

SMALL = 256


def main() -> None:
    arguments = parse()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    from livestain.stain.launching import worker_environment

    with tempfile.TemporaryDirectory(prefix="livestain-memory-") as scratch:
        bundle = arguments.bundle or student(Path(scratch) / "student")
        found = {}
        for backend in arguments.backend or ["folded"]:
            done = subprocess.run(
                [
                    *(sys.executable, "-P", __file__, "--measure", "--bundle", str(bundle)),
                    *("--size", str(arguments.size), "--backend", backend),
                ],
                env=os.environ | worker_environment(arguments.threads),
                check=True,
                capture_output=True,
                text=True,
            )
            found[backend] = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{backend}: {found[backend]['above_mb']} MB above the loaded model's "
                f"{found[backend]['loaded_mb']} MB, for {arguments.size} x {arguments.size}"
            )
    print(json.dumps({"size": arguments.size, "backends": found}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="side of the plane, in pixels")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--backend", action="append", help="may be repeated")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Predict in this process, and tell what it took."""
    from livestain.inference import Stainer

    (backend,) = arguments.backend
    with Stainer(arguments.bundle, device="cpu", backend=backend) as stainer:
        n = stainer.bundle.description.input.window.n_planes
        n *= len(stainer.bundle.description.input.kinds)
        sides = (n, arguments.size, arguments.size)
        planes = np.random.default_rng(0).integers(0, 4000, sides, dtype=np.uint16)
        stainer.stain_counts(planes[:, :SMALL, :SMALL])
        loaded = psutil.Process().memory_info().rss
        forget_peak()
        for _ in range(3):
            stainer.stain_counts(planes)
        above = peak() - loaded
        return {
            "backend": stainer.backend,
            "refused": stainer.refused,
            "loaded_mb": round(loaded / 1e6),
            "above_mb": round(above / 1e6),
        }


def forget_peak() -> None:
    """Let the peak begin at what is kept now, where the system can."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Return the most bytes that the process kept in memory."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = [each for each in status.splitlines() if each.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def student(folder: Path) -> Path:
    """Write a bundle of the student with random weights."""
    import torch

    from livestain.bundle import (
        BundleDescription,
        InputSpec,
        NetworkSpec,
        OutputChannel,
        write_bundle,
    )
    from livestain.networks import build_network

    torch.manual_seed(0)
    kwargs = {"in_channels": 1, "unshuffle": 4}
    write_bundle(
        folder,
        network=build_network("slim2d", **kwargs),
        description=BundleDescription(
            input=InputSpec(pixel_size_um=0.1, pixel_size_range_um=(0.09, 0.11)),
            outputs=(
                OutputChannel(
                    name="mitochondria", unit="sd", scale=0.001, offset=-20.0, display=(-1, 3)
                ),
            ),
            network=NetworkSpec(name="slim2d", kwargs=kwargs),
        ),
        name="student",
        title="A student of random weights",
        licence="BSD-3-Clause",
        card="# Student\n\nRandom weights, for measurements.\n",
        test_input=np.random.default_rng(0).integers(0, 4000, (1, 128, 128), np.uint16),
        onnx=False,
    )
    return folder


if __name__ == "__main__":
    main()

"""Whether a cheap trick finds the simulated mitochondria, in every profile, and what a small model finds.

    python benchmarks/control.py --runs RUNS
    python benchmarks/control.py --runs RUNS --profiles hela-20x --no-results

For each profile: a few dishes are made with `livestain simulate`, a small U-Net is trained on them for a few
minutes (the recipe of sim_to_real.py, of width 8), and model and control ("blurred |brightfield - median|",
no learning) are scored by Pearson correlation with the noise-free fluorescence of dishes that the training
did not see. The control must not be above 0.6: then a model could win by calling everything in a cell a
mitochondrion. What is finished is not done again. Results go to results/control.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sim_to_real import HERE, livestain

from livestain.simulate import find_profile, profile_names

RESULTS = HERE / "results" / "control.json"
FIRST_SEED, UNSEEN_SEED = 6001, 6501


def measured(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on a profile's dishes, and score on others."""
    runs = arguments.runs / name
    size = find_profile(name).pixel_size_um
    for folder, seed, movies in (("train", FIRST_SEED, 4), ("unseen", UNSEEN_SEED, 3)):
        livestain(
            *("simulate", "--out", str(runs / folder), "--profile", name, "--seed", str(seed)),
            *("--movies", str(movies), "--fields", "5", "--size", "192"),
        )
    run, bundle = runs / "training", runs / "model"
    sets = {
        "pixel_size_um": size,
        "pixel_size_range_um": f"[{0.8 * size}, {1.2 * size}]",
        "network.kwargs.width": 8,
        "crop": 96,
    }
    if not (run / "finished.json").exists():
        livestain(
            *("train", str(HERE / "sim_to_real.yaml"), "--data", str(runs / "train")),
            *("--out", str(run), "--steps", str(arguments.steps)),
            *("--threads", str(os.cpu_count())),
            *(word for key, value in sets.items() for word in ("--set", f"{key}={value}")),
        )
    if not bundle.exists():
        livestain("export", str(run), "--out", str(bundle), "--no-onnx")
    words = ("evaluate", str(bundle), "--data", str(runs / "unseen"), "--metrics", "pearson")
    told = json.loads(livestain(*words, "--json"))
    return {key: told[key] for key in ("pearson", "interval", "control", "control_interval")}


def main() -> None:
    """Read the command line, make, train, and score."""
    parser = argparse.ArgumentParser(description="Control and a small model in every profile.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of movies and trainings")
    parser.add_argument("--profiles", nargs="+", default=list(profile_names()))
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--no-results", action="store_true", help="print only")
    arguments = parser.parse_args()
    found = {}
    for name in arguments.profiles:
        found[name] = measured(name, arguments)
        print(f"{name}: model {found[name]['pearson']:.3f}, control {found[name]['control']:.3f}")
    if not arguments.no_results:
        result = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "benchmarks/control.py", *sys.argv[1:]]),
            "versions": {name: version(name) for name in ("torch", "numpy")},
            "profiles": found,
        }
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

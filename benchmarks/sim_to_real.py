"""What a model is worth on real cells that was trained on simulated ones alone.

    LIVESTAIN_DATA=FOLDER python benchmarks/sim_to_real.py --runs RUNS
    LIVESTAIN_DATA=FOLDER python benchmarks/sim_to_real.py --runs RUNS --steps 300 --movies 8 --no-results

Makes movies of the profile h9c2-60x with `livestain simulate`, each with its own draw of what nobody
knows of a real microscope (where brightfield is focused, how wide the condenser is, how much light there
was, how much mitochondria stand out), trains benchmarks/sim_to_real.yaml on them, and scores the model on
the real movies 009 to 011 of h9c2-omp25, of which no pixel was in the training. Beside it: the control
without learning ("blurred |brightfield - median|"), the shipped model of simulated cells that knows
another kind of cell, and the models trained on the other two real movies (results/nested.json). The model
is also scored on simulated dishes that it never saw.

What is finished is not done again. Results go to results/sim_to_real.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from livestain.simulate import Profile, find_profile

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "sim_to_real.json"
NESTED = HERE / "results" / "nested.json"
FIRST_SEED = 8001
UNSEEN_SEED = 9001


def variant(profile: Profile, seed: int) -> Profile:
    """Return the profile with another draw of what differs between microscopes and cells."""
    rng = np.random.default_rng(seed)
    factor = float(np.exp(rng.uniform(-0.7, 0.7)))
    optics = profile.optics.model_copy(
        update={
            "brightfield_offset_um": round(float(rng.uniform(0.1, 1.3)), 3),
            "condenser_aperture": round(float(rng.uniform(0.4, 0.8)), 3),
        }
    )
    low, high = profile.cells.mitochondria.index
    bold = float(rng.uniform(0.8, 1.4))
    tubes = profile.cells.mitochondria.model_copy(
        update={"index": (round(low * bold, 4), round(high * bold, 4))}
    )
    return profile.model_copy(
        update={
            "name": f"{profile.name}-{seed}",
            "optics": optics,
            "cells": profile.cells.model_copy(update={"mitochondria": tubes}),
            "brightfield_electrons_per_ms": profile.brightfield_electrons_per_ms * factor,
        }
    )


def make_movies(out: Path, first: int, movies: int, fields: int) -> None:
    """Make movies of as many dishes, each of its own variant of the profile."""
    profile = find_profile("h9c2-60x")
    for seed in range(first, first + movies):
        if (out / f"movie-{seed:04d}.ome.zarr").exists():
            continue
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"profile-{seed}.yaml"
        file.write_text(variant(profile, seed).to_yaml(), encoding="utf-8")
        livestain(
            *("simulate", "--out", str(out), "--profile", str(file), "--movies", "1"),
            *("--seed", str(seed), "--fields", str(fields), "--focus-spread", "0.35"),
        )


def livestain(*words: str) -> str:
    """Run a verb; what it says to the terminal goes there, what it prints is returned."""
    command = [sys.executable, "-m", "livestain", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{shlex.join(command)} ended with exit code {done.returncode}")
    return done.stdout


def scores(bundle: str, data: Path, *more: str) -> dict[str, Any]:
    told = json.loads(
        livestain("evaluate", bundle, "--data", str(data), "--metrics", "pearson", "--json", *more)
    )
    keys = ("pearson", "control", "n", "frames", "interval", "control_interval")
    by_movie = {m: {k: one[k] for k in keys if k in one} for m, one in told["by_movie"].items()}
    return {**{k: told[k] for k in keys if k in told}, "by_movie": by_movie}


def main() -> None:
    """Read the command line, make, train, and score."""
    parser = argparse.ArgumentParser(description="Train on simulated cells, score on real ones.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of movies and training")
    parser.add_argument("--movies", type=int, default=16)
    parser.add_argument("--fields", type=int, default=10, help="a movie")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-results", action="store_true", help="print only")
    arguments = parser.parse_args()
    real = Path(os.environ.get("LIVESTAIN_DATA", "")) / "h9c2-omp25"
    if not real.is_dir():
        parser.error(f"There is no {real}; set LIVESTAIN_DATA.")
    runs: Path = arguments.runs
    make_movies(runs / "movies", FIRST_SEED, arguments.movies, arguments.fields)
    make_movies(runs / "unseen", UNSEEN_SEED, 3, 6)
    run, bundle = runs / "training", runs / "sim-to-real"
    if not (run / "finished.json").exists():
        resume = ["--resume"] if (run / "checkpoints").is_dir() else []
        livestain(
            *("train", str(HERE / "sim_to_real.yaml"), "--data", str(runs / "movies")),
            *("--out", str(run), "--steps", str(arguments.steps)),
            *("--threads", str(arguments.threads), *resume),
        )
    if not bundle.exists():
        livestain("export", str(run), "--out", str(bundle), "--no-onnx")
    nested = json.loads(NESTED.read_text(encoding="utf-8"))["folds"]
    trained_on_real = {
        movie: fold["scores"]["by_movie"][movie]["pearson"] for movie, fold in nested.items()
    }
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/sim_to_real.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "python": platform.python_version(),
        "training": json.loads((run / "finished.json").read_text(encoding="utf-8")),
        "real": scores(str(bundle), real),
        "unseen_simulated": scores(str(bundle), runs / "unseen"),
        "demo_model_on_real": scores("demo-mitochondria", real),
        "trained_on_real": {
            "mean": float(np.mean(list(trained_on_real.values()))),
            "by_movie": trained_on_real,
        },
    }
    for name in ("real", "unseen_simulated", "demo_model_on_real"):
        told = result[name]
        assert isinstance(told, dict)
        print(f"{name}: {told['pearson']:.3f}, control {told['control']:.3f}")
    print(f"trained on real: {np.mean(list(trained_on_real.values())):.3f}")
    if not arguments.no_results:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Accuracy against latency: every 2-D network, trained for equal processor time, on a movie it never saw.

    python benchmarks/pareto.py steps --data FOLDER --runs RUNS
    python benchmarks/pareto.py train --data FOLDER --runs RUNS --folds 009 --networks fnet2d slim-4
    python benchmarks/pareto.py latency --runs RUNS
    python benchmarks/pareto.py report --runs RUNS

`steps` measures the processor time of a training step of each recipe of pareto/*.yaml, and so how many
steps the budget (`--seconds`, of one core) buys; processor time, since a machine that others use lengthens
wall time and not the work. `train` trains on the movies that are not left out and scores the movie left out,
which chose nothing. The recipes are the papers' (losses, batches, augmentation) but for the number of steps.
slim-4-distilled has `--steps` and a `--teacher` for each fold (which began with simulated cells): it is what
is shipped, and its budget is larger, which the result tells.

`latency` runs what was trained, uint16 in, uint16 out, at 512 and 1024 pixels: eagerly in float32, and by
every backend that is ready, interleaved in one process, another one first each time; ratios are of one
repeat. What is finished is not done again. `report` writes results/pareto.json and results/pareto.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results"
MOVIES = ("009", "010", "011")
BASELINE = ("fnet2d", "eager")
SIZES = (512, 1024)
SAME_NETWORK = {"fnet2d-b4": "fnet2d"}
"""Recipes that differ in training alone: the one's times are the other's."""
ENVIRONMENT = {
    # As the staining worker sets them; they must be there before torch is loaded.
    "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(1024 * 2**20),
    "OMP_WAIT_POLICY": "PASSIVE",
}


def main() -> None:
    arguments = parse()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        sys.exit(
            subprocess.run([sys.executable, *sys.argv], env=os.environ | ENVIRONMENT).returncode
        )
    arguments.runs.mkdir(parents=True, exist_ok=True)
    {"steps": steps, "train": train, "latency": latency, "report": report}[arguments.what](
        arguments
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["steps", "train", "latency", "report"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--networks", nargs="+", help="recipes of pareto/; all where left out")
    parser.add_argument("--folds", nargs="+", default=list(MOVIES))
    parser.add_argument("--seconds", type=float, default=300, help="processor time of a training")
    parser.add_argument("--steps", type=int, help="instead of what the budget buys")
    parser.add_argument("--threads", type=int, default=2, help="of the predictions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backends", nargs="+", help="all that are ready where left out")
    parser.add_argument(
        "--teacher",
        nargs="+",
        help="bundle (or several) that teaches, in recipes that have a teacher",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "pareto.json")
    return parser.parse_args()


def recipes(arguments: argparse.Namespace) -> dict[str, Path]:
    found = {path.stem: path for path in sorted((HERE / "pareto").glob("*.yaml"))}
    return {name: found[name] for name in arguments.networks or found}


def steps(arguments: argparse.Namespace) -> None:
    """Measure the processor time of a step of each recipe."""
    import torch

    import training
    from livestain.training.preparing import prepare
    from livestain.training.recipe import Recipe
    from livestain.training.sampling import Crops

    torch.set_num_threads(1)
    training.SKIPPED = 2
    out = arguments.runs / "steps.json"
    known = json.loads(out.read_text()) if out.exists() else {}
    for name, path in recipes(arguments).items():
        if name in known:
            continue
        recipe = Recipe.from_yaml(path)
        with (
            tempfile.TemporaryDirectory() as scratch,
            prepare(recipe, arguments.data, monitor=None, progress=False) as prepared,
        ):
            clock = training.Clock(torch.device("cpu"), 5)
            crops = Crops(prepared.train, prepared.recipe)
            training.livestain_loop(prepared.recipe, crops, Path(scratch), clock)
        known[name] = clock.seconds["processor"] / 3
        print(name, clock.seconds, flush=True)
        out.write_text(json.dumps(known, indent=1))


def train(arguments: argparse.Namespace) -> None:
    known = json.loads((arguments.runs / "steps.json").read_text())
    for fold in arguments.folds:
        for name, path in recipes(arguments).items():
            run = arguments.runs / f"{name}-not-{fold}"
            n = arguments.steps or max(10, round(arguments.seconds / known[name]))
            if not (run / "finished.json").exists():
                more = ["--resume"] if (run / "checkpoints").is_dir() else []
                if arguments.teacher:
                    one, *others = arguments.teacher
                    named = json.dumps([one, *others]) if others else one
                    more += ["--set", f"loss.teacher={named}"]
                livestain(
                    *("train", str(path), "--data", str(arguments.data), "--out", str(run)),
                    *("--leave-out", fold, "--steps", str(n), "--threads", "1", "--device", "cpu"),
                    *more,
                )
            score(run, fold, arguments)


def score(run: Path, fold: str, arguments: argparse.Namespace) -> None:
    """Score the movie left out, by float32 and, where it has them, by 8-bit weights."""
    bundle, scores = export(run), run.with_suffix(".json")
    if not scores.exists():
        data = ["--data", str(arguments.data), "--movies", fold, "--device", "cpu"]
        scores.write_text(livestain("evaluate", str(bundle), *data, "--json"), encoding="utf-8")
    found = json.loads(scores.read_text(encoding="utf-8"))["by_movie"][fold]
    print(run.name, found, flush=True)


def export(run: Path) -> Path:
    bundle = run.with_name(f"{run.name}-bundle")
    if not bundle.exists():
        named = ["--name", run.name, "--licence", "GPL-3.0-only"]
        livestain("export", str(run), "--out", str(bundle), *named)
    return bundle


def latency(arguments: argparse.Namespace) -> None:
    """Time every network by every backend that is ready."""
    import torch

    from livestain.inference import Stainer, backend_names

    torch.set_num_threads(arguments.threads)
    bundles = {}
    for name in set(recipes(arguments)) - set(SAME_NETWORK):
        for fold in MOVIES:
            if (arguments.runs / f"{name}-not-{fold}" / "finished.json").exists():
                bundles.setdefault(name, export(arguments.runs / f"{name}-not-{fold}"))
    cells: dict[tuple[str, str], Any] = {}
    refused: dict[str, dict[str, str]] = {}
    for name, bundle in bundles.items():
        for backend in arguments.backends or backend_names():
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
    told = {
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
    (arguments.runs / "latency.json").write_text(json.dumps(told, indent=1))


def report(arguments: argparse.Namespace) -> None:
    """Put scores and times together."""
    import torch

    from livestain._version import __version__
    from training import hardware

    times = json.loads((arguments.runs / "latency.json").read_text())
    rows = []
    for name, path in recipes(arguments).items():
        scores = {}
        finished = {}
        for fold in MOVIES:
            file = arguments.runs / f"{name}-not-{fold}.json"
            if file.exists():
                found = json.loads(file.read_text(encoding="utf-8"))["by_movie"][fold]
                scores[fold] = {k: found[k] for k in ("pearson", "interval", "control", "n")}
                run = arguments.runs / f"{name}-not-{fold}"
                finished[fold] = json.loads((run / "finished.json").read_text())
        if not scores:
            continue
        timed = SAME_NETWORK.get(name, name)
        own = [cell for cell in times["table"] if cell["network"] == timed]
        best = {
            str(size): min((c for c in own if c["size"] == size), key=lambda c: c["ms"])
            for size in SIZES
        }
        rows.append(
            {
                "network": name,
                "recipe": path.read_text(encoding="utf-8"),
                "parameters": times["parameters"][timed],
                "left_out": scores,
                "steps": {fold: f["steps"] for fold, f in finished.items()},
                "training_wall_seconds": {fold: f["seconds"] for fold, f in finished.items()},
                "commits": sorted({f["commit"] for f in finished.values()}),
                "fastest": best,
            }
        )
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/pareto.py report --runs RUNS",
        "hardware": hardware(torch.device("cpu")),
        "versions": {"livestain": __version__, "torch": torch.__version__},
        "processor_seconds_of_a_training": arguments.seconds,
        "processor_seconds_of_a_step": json.loads((arguments.runs / "steps.json").read_text()),
        "networks": rows,
        "latency": times,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".svg").write_text(chart(rows), encoding="utf-8")


def chart(rows: list[dict[str, Any]]) -> str:
    """Draw Pearson on movie 009 over milliseconds at 1024 pixels, on a logarithmic axis, with the front."""
    points = [
        (r["network"], r["fastest"]["1024"]["ms"], r["left_out"]["009"]["pearson"])
        for r in rows
        if "009" in r["left_out"]
    ]
    points.sort(key=lambda p: p[1])
    left, top, wide, tall = 60, 30, 620, 300
    low, high = math.floor(math.log10(points[0][1])), math.ceil(math.log10(points[-1][1]))
    floor = math.floor(min(p[2] for p in points) * 10) / 10
    ceiling = math.ceil(max(p[2] for p in points) * 10) / 10

    def at(ms: float, r: float) -> tuple[float, float]:
        x = left + wide * (math.log10(ms) - low) / (high - low)
        return x, top + tall * (ceiling - r) / (ceiling - floor)

    parts = [
        (
            f'<svg viewBox="0 0 {left + wide + 110} {top + tall + 50}" xmlns="http://www.w3.org/2000/svg" '
            'font-family="sans-serif" font-size="12" role="img" aria-label="Accuracy against latency">'
        ),
        f'<rect width="{left + wide + 110}" height="{top + tall + 50}" fill="#ffffff"/>',
        '<text x="8" y="16">Pearson on the movie left out (009)</text>',
        (
            f'<text x="{left + wide / 2}" y="{top + tall + 40}" text-anchor="middle">'
            "ms a plane of 1024 x 1024, fastest backend</text>"
        ),
    ]
    for k in range(round(floor * 10), round(ceiling * 10) + 1):
        y = at(10**low, k / 10)[1]
        parts += [
            f'<line x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>',
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{k / 10:.1f}</text>',
        ]
    for power in range(low, high + 1):
        x = at(10**power, floor)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{top + tall + 18}" text-anchor="middle">{10**power:g}</text>'
        )
    front, best = [], -1.0
    for _, ms, r in points:
        if r > best:
            front.append(at(ms, r))
            best = r
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
    parts.append(f'<polyline points="{path}" fill="none" stroke="#c2188b" stroke-width="1.5"/>')
    for name, ms, r in points:
        x, y = at(ms, r)
        on = (x, y) in front
        colour = "#c2188b" if on else "#555555"
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
            f'<text x="{x + 7:.1f}" y="{y - 6:.1f}" fill="{colour}">{escape(name)}</text>',
        ]
    return "".join([*parts, "</svg>\n"])


def livestain(*words: str) -> str:
    command = [sys.executable, "-m", "livestain", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{shlex.join(command)} ended with exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()

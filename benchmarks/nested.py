"""Choose a recipe without the movie that will be reported: nested leave one movie out.

    python benchmarks/nested.py --data FOLDER --runs RUNS
    python benchmarks/nested.py --data FOLDER --runs RUNS --candidates benchmarks/nested/*.yaml

Of every fold, which leaves one movie out, each candidate is trained on one of the other movies and scored
on another, for each ordered pair of them; the candidate with the best mean is then trained on all movies of
the fold and scored on the movie left out, once. Scores of a fold's own movie choose nothing in it. The
candidate with the best mean over all pairs, which is told, is the one for a model of all movies; that has no
score of its own.

What is finished is not done again, and a training that was ended goes on, so a killed call is repeated as it
was. Bundles are in RUNS/fold-NAME-bundle, their scores in RUNS/fold-NAME.json, as `livestain export --scores`
takes them; what was found goes to results/nested.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

from tqdm import tqdm

HERE = Path(__file__).parent
INNER_SCORE = "monitor_pearson"


def main() -> None:
    arguments = parse()
    candidates = {path.stem: path for path in sorted(arguments.candidates)}
    movies = arguments.movies
    cells = [(c, a, b) for c in candidates for a, b in permutations(movies, 2)]
    inner: dict[str, dict[str, float]] = {c: {} for c in candidates}
    made: dict[str, dict[str, Any]] = {c: {} for c in candidates}
    for c, a, b in tqdm(cells, desc="inner trainings"):
        run = arguments.runs / "inner" / f"{c}-{a}-to-{b}"
        train(run, candidates[c], arguments, "--movies", a, "--monitor", b)
        inner[c][f"{a} to {b}"] = last_score(run)
        made[c][f"{a} to {b}"] = {k: finished(run)[k] for k in ("steps", "seconds", "commit")}
    folds = {m: fold(m, inner, candidates, arguments) for m in tqdm(movies, desc="folds")}
    means = {c: statistics.mean(by.values()) for c, by in inner.items()}
    chosen = max(means, key=lambda c: means[c])
    result = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/nested.py", *sys.argv[1:]]),
        "inner": inner,
        "inner_trainings": made,
        "folds": folds,
        "all": {"mean_of_inner": means, "chosen": chosen},
        "recipes": {c: path.read_text(encoding="utf-8") for c, path in candidates.items()},
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for m, found in folds.items():
        print(m, found["chosen"], json.dumps(found["scores"]["by_movie"][m]))
    print("all movies:", chosen)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--name", default="h9c2-omp25", help="of the folds' bundles")
    parser.add_argument("--movies", nargs="+", default=["009", "010", "011"])
    parser.add_argument(
        "--candidates", nargs="+", type=Path, default=list((HERE / "nested").glob("*.yaml"))
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "nested.json")
    return parser.parse_args()


def fold(
    movie: str,
    inner: dict[str, dict[str, float]],
    candidates: dict[str, Path],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Choose by the pairs without the movie, train on all of theirs, and score the movie."""
    seen = {c: {k: v for k, v in by.items() if movie not in k.split()} for c, by in inner.items()}
    means = {c: statistics.mean(by.values()) for c, by in seen.items()}
    chosen = max(means, key=lambda c: means[c])
    run = arguments.runs / f"fold-{movie}"
    train(run, candidates[chosen], arguments, "--leave-out", movie)
    bundle, scores = run.with_name(f"{run.name}-bundle"), run.with_suffix(".json")
    if not bundle.exists():
        export(run, bundle, "--no-onnx", f"--name={arguments.name}-not-{movie}")
    if not scores.exists():
        data = ["--data", str(arguments.data), "--movies", movie, "--device", arguments.device]
        scores.write_text(livestain("evaluate", str(bundle), *data, "--json"), encoding="utf-8")
    return {
        "mean_of_inner": means,
        "chosen": chosen,
        "finished": finished(run),
        "scores": json.loads(scores.read_text(encoding="utf-8")),
    }


def train(run: Path, recipe: Path, arguments: argparse.Namespace, *more: str) -> None:
    if finished(run) is not None:
        return
    where = ["--data", str(arguments.data), "--out", str(run), "--device", arguments.device]
    goes_on = ["--resume"] if (run / "checkpoints").is_dir() else []
    livestain("train", str(recipe), *where, "--threads", str(arguments.threads), *more, *goes_on)


def export(run: Path, bundle: Path, *more: str) -> None:
    livestain("export", str(run), "--out", str(bundle), "--overwrite", *more)


def livestain(*words: str) -> str:
    """Run a verb; what it says to the terminal goes there, what it prints is returned."""
    command = [sys.executable, "-m", "livestain", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{shlex.join(command)} ended with exit code {done.returncode}")
    return done.stdout


def finished(run: Path) -> Any:
    path = run / "finished.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def last_score(run: Path) -> float:
    with (run / "logs" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [float(row[INNER_SCORE]) for row in csv.DictReader(file) if row[INNER_SCORE]][-1]


if __name__ == "__main__":
    main()

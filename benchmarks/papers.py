"""The study: the methods of four papers on one bench, beside our own recipe.

    LIVESTAIN_DATA=FOLDER python benchmarks/papers.py run --runs RUNS
    LIVESTAIN_DATA=FOLDER python benchmarks/papers.py run --runs RUNS --studies hsu --budget-minutes 60
    LIVESTAIN_DATA=FOLDER python benchmarks/papers.py recalibrate --runs RUNS
    python benchmarks/papers.py list
    python benchmarks/papers.py picture --runs RUNS
    python benchmarks/papers.py report

`run` trains and scores every cell (recipe, fold, data set) of benchmarks/study/plan.py that has no result
file yet, the most important first, and writes results/papers/SCALE/STUDY/CELL.json for each; what was
stopped goes on where it was, and no cell is begun after `--budget-minutes`. On a CPU the networks of some
cells are narrower than the papers' (the scale "cpu"; every such change is in the result), every training
gets the same processor time of one core, and two calls run well beside each other on two cores: each takes
cells that the other is not at. With a CUDA device the papers' networks are trained for equal wall time (the
scale "cuda").

Simulated data is made by `livestain simulate`'s code (benchmarks/study/data.py). `recalibrate` scores
what is trained again, with batch normalisation recalibrated on the training data, and `picture` merges the
predictions of the models of mitochondria and of DNA (docs/images/study-merge.png). `report` writes
docs/study.md from the committed result files and benchmarks/study/claims.yaml.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.environment import with_environment

from livestain.stain.launching import worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from study.cell import Cell
    from study.options import Options

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "papers"
STUDIES = ("real", "hsu", "ounkomol", "koelln", "somani")
THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
"""Of each training: one where nothing else is said, since trainings run beside each other."""


def main() -> None:
    arguments = parse()
    verbs = {
        "run": run,
        "recalibrate": recalibrate,
        "list": listed,
        "picture": picture,
        "report": report,
    }
    verbs[arguments.what](arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "recalibrate", "list", "picture", "report"])
    parser.add_argument("--runs", type=Path, help="folder of data and trainings")
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--cells", nargs="+", help="of those; all where left out")
    parser.add_argument("--budget-minutes", type=float, help="begin no cell after that")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--scale", choices=["cpu", "cuda"], help="the device's where left out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.what in ("run", "recalibrate", "picture") and arguments.runs is None:
        parser.error(f"{arguments.what} needs --runs: a folder for the data and the trainings.")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Train and score what has no result yet."""
    with_environment(worker_environment(THREADS))
    import torch
    from study.cell import REAL
    from study.options import result_file
    from study.plan import cells
    from study.running import run_cell
    from tqdm import tqdm

    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    scale = arguments.scale or ("cpu" if device == "cpu" else "cuda")
    plan = cells(scale)
    chosen = _chosen(arguments, plan)
    needs_real = any(REAL in cell.data for cell in chosen)
    options = _options(arguments, scale, device, needs_real=needs_real)
    options.runs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for cell in tqdm(_without_result(chosen, options), desc="cells"):
        minutes = (time.monotonic() - began) / 60
        if arguments.budget_minutes is not None and minutes >= arguments.budget_minutes:
            n = len(_without_result(chosen, options))
            tqdm.write(
                f"{minutes:.0f} minutes have passed; {n} cells are left. The same command goes on."
            )
            return
        teacher = next((one for one in plan if one.name == cell.after), None)
        file = result_file(cell, options)
        found, _ = _made(cell, options, file, partial(run_cell, cell, options, teacher))
        if found is not None:
            told = _pearson(found)
            tqdm.write(f"{cell.study}/{cell.name}: {found['steps']} steps, Pearson {told}")
    if left := [cell.name for cell in _without_result(chosen, options)]:
        sys.exit(
            f"{len(left)} of {len(chosen)} cells have no result (see above): {', '.join(left)}"
        )


def _made(
    cell: Cell, options: Options, file: Path, make: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any] | None, Exception | None]:
    """Make a cell's file under its lock; return what came of it, or what went wrong.

    Neither where another process is at it, or has made it.
    """
    from filelock import Timeout
    from study.options import cell_lock
    from tqdm import tqdm

    from livestain.errors import LivestainError

    try:
        with cell_lock(cell, options):
            return (None if file.exists() else make()), None
    except Timeout:
        tqdm.write(f"{cell.study}/{cell.name}: another process is at it")
        return None, None
    except (RuntimeError, LivestainError, OSError) as error:
        # One recipe that cannot be trained must not cost the others their time.
        tqdm.write(f"{cell.study}/{cell.name}: {error}", file=sys.stderr)
        return None, error


def _pearson(found: dict[str, Any]) -> dict[str, float]:
    return {label: round(one["pearson"]["mean"], 3) for label, one in found["scores"].items()}


def _options(
    arguments: argparse.Namespace, scale: str, device: str, *, needs_real: bool
) -> Options:
    from study.cell import REAL
    from study.options import Options

    real = Path(os.environ.get("LIVESTAIN_DATA", "")) / REAL
    if needs_real and not real.is_dir():
        sys.exit(f"There is no {real}. Set LIVESTAIN_DATA to the folder that {REAL} is in.")
    return Options(
        scale=scale,
        # Sets, and what a step costs, are the scale's own.
        runs=arguments.runs.absolute() / scale,
        results=arguments.results,
        real=real.absolute(),
        device=device,
        command=_command(arguments),
    )


def _without_result(chosen: list[Any], options: Any) -> list[Any]:
    from study.options import result_file

    return [cell for cell in chosen if not result_file(cell, options).exists()]


def _chosen(arguments: argparse.Namespace, plan: list[Any]) -> list[Any]:
    names = set(arguments.cells or ())
    unknown = names - {cell.name for cell in plan}
    if unknown:
        sys.exit(f"There is no cell {', '.join(sorted(unknown))}; `papers.py list` tells all.")
    return [
        cell
        for cell in plan
        if cell.study in arguments.studies and (not names or cell.name in names)
    ]


def _command(arguments: argparse.Namespace) -> str:
    """Return the command without the folders of whoever ran it."""
    words = ["python", "benchmarks/papers.py", arguments.what, "--runs", "RUNS"]
    if arguments.studies != list(STUDIES):
        words += ["--studies", *arguments.studies]
    if arguments.cells:
        words += ["--cells", *arguments.cells]
    for name in ("device", "scale", "budget_minutes"):
        value = getattr(arguments, name)
        if value not in (None, "auto"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def listed(arguments: argparse.Namespace) -> None:
    """Tell the cells, and which have results."""
    from study.cell import SCALES
    from study.plan import cells

    for scale in SCALES if arguments.scale is None else [arguments.scale]:
        for cell in _chosen(arguments, cells(scale)):
            file = arguments.results / scale / cell.study / f"{cell.name}.json"
            print(
                f"{scale:5} {cell.study:9} {cell.name:24} {'done' if file.exists() else '':5} {cell.about}"
            )


def recalibrate(arguments: argparse.Namespace) -> None:
    """Score what is trained again, with batch normalisation recalibrated."""
    with_environment(worker_environment(THREADS))
    from study.cell import REAL
    from study.options import recalibrated_file, result_file
    from study.plan import cells
    from study.recalibrating import recalibrate_cell
    from tqdm import tqdm

    scale = arguments.scale or "cpu"
    device = "cpu" if arguments.device == "auto" else arguments.device
    chosen = _chosen(arguments, cells(scale))
    needs_real = any(REAL in cell.data for cell in chosen)
    options = _options(arguments, scale, device, needs_real=needs_real)
    trained = [
        cell
        for cell in chosen
        if result_file(cell, options).exists() and options.bundle(cell).is_dir()
    ]
    if not trained:
        sys.exit(
            f"There is no trained cell of that choice in {options.runs}. Run `papers.py run` first."
        )
    failed = []
    for cell in tqdm(trained, desc="cells"):
        file = recalibrated_file(cell, options)
        if file.exists():
            continue
        found, error = _made(cell, options, file, partial(recalibrate_cell, cell, options))
        if error is not None:
            failed.append(cell.name)
        if found is not None:
            told = _pearson(found) or "has no batch normalisation"
            tqdm.write(f"{cell.study}/{cell.name}: {told}")
    if failed:
        sys.exit(f"{len(failed)} of {len(trained)} cells failed (see above): {', '.join(failed)}")


def picture(arguments: argparse.Namespace) -> None:
    """Merge two structures that two models predict of one stack."""
    from study.merge import draw_merge

    options = _options(arguments, arguments.scale or "cpu", "cpu", needs_real=False)
    trained = options.runs / "ounkomol"
    models = {
        "Mitochondria": trained / "fnet-mitochondria-bundle",
        "DNA": trained / "fnet-dna-bundle",
    }
    missing = [path.name for path in models.values() if not path.is_dir()]
    if missing:
        sys.exit(f"There is no {', '.join(missing)} in {trained}; run the study ounkomol first.")
    out = HERE.parent / "docs" / "images" / "study-merge.png"
    print(draw_merge(models, options.part("z", "truth"), out, options.device))


def report(arguments: argparse.Namespace) -> None:
    """Write docs/study.md."""
    from study.tables import write_study

    write_study(arguments.results, HERE.parent / "docs")


if __name__ == "__main__":
    main()

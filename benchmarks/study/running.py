"""Train a cell of the study, score it, and write what came of it."""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from filelock import FileLock

from livestain.bundle import find_bundle
from livestain.inference import Stainer
from study.data import VALIDATION, make_set, movie_names
from study.invented import invented
from study.plan import REAL, SCALES, Cell, Look

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Options", "cell_lock", "result_file", "run_cell"]

BENCHMARKS = Path(__file__).parent.parent

METRICS = "pearson,ssim,psnr,nmse"
LOOKS = 5
"""Looks at the watched movie, a training; each costs a prediction of all of it."""

GAIN = 0.005
"""A training is at its plateau when its last third has gained less Pearson correlation than this,"""

UNSTEADY = 0.03
"""and its second half has moved by less than this: a curve that still jumps has not arrived."""

_CALIBRATION = (3, 8)
"""Steps that are left out and made, to learn what a step costs."""


@dataclass(frozen=True)
class Options:
    """How the study is run.

    Attributes
    ----------
    scale : {"cpu", "cuda"}
    runs : Path
        Folder of data and trainings.
    results : Path
        Folder of the result files.
    real : Path
        Folder of the real data.
    device : str
        "cpu", "cuda" or "cuda:N".
    command : str
        That made the results.
    """

    scale: str
    runs: Path
    results: Path
    real: Path
    device: str
    command: str

    @property
    def threads(self) -> int:
        """Threads of a training: one on a CPU, so that two run beside each other and cost what they say."""
        return 1 if self.device == "cpu" else 4


def result_file(cell: Cell, options: Options) -> Path:
    """Return where a cell's result is."""
    return options.results / options.scale / cell.study / f"{cell.name}.json"


def cell_lock(cell: Cell, options: Options) -> FileLock:
    """Return the lock that a process holds while it is at a cell; `filelock.Timeout` where another does."""
    folder = options.runs / cell.study
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{cell.name}.lock", timeout=0)


def run_cell(cell: Cell, options: Options) -> dict[str, Any]:
    """Train, score and time a cell; what is finished of it is not done again.

    Returns
    -------
    dict
        What is written to `result_file`.
    """
    run = options.runs / cell.study / cell.name
    variant = _variant(cell, options, run.with_suffix(".yaml"))
    data = _training_data(cell, options)
    if not (run / "finished.json").exists():
        steps = cell.steps or _affordable_steps(cell, variant, data, options)
        _train(cell, variant, data, run, steps, options)
    bundle = run.with_name(f"{run.name}-bundle")
    if not bundle.exists():
        more = ["--no-onnx"] if cell.study != "real" else []
        licence = ["--licence", "GPL-3.0-only" if REAL in cell.data else "BSD-3-Clause"]
        livestain("export", str(run), "--out", str(bundle), "--name", cell.name, *licence, *more)
    scores, by_time = {}, None
    for look in cell.looks:
        scores[look.label], times = _scored(cell, look, run, bundle, options)
        by_time = times or by_time
    result = _told(cell, run, bundle, options)
    result["scores"] = scores
    if by_time:
        result["by_time"] = by_time
    if cell.counts_invented:
        truth = make_set("labels", options.runs / "data", SCALES[options.scale].data) / "truth"
        result["invented"] = invented(bundle, truth, options.device)
    file = result_file(cell, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def livestain(*words: str) -> str:
    """Run a verb; what it says to the terminal goes there, what it prints is returned."""
    command = [sys.executable, "-m", "livestain", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with exit code {done.returncode}")
    return done.stdout


def plateau(looks: Iterable[tuple[int, float]], steps: int) -> str:
    """Say whether a training was at its plateau: its second half steady, its last third no better."""
    seen = list(looks)
    early = [score for step, score in seen if step <= steps * 2 / 3]
    late = [score for step, score in seen if step > steps * 2 / 3]
    half = [score for step, score in seen if step > steps / 2]
    if not early or not late:
        return "not looked at"
    steady = max(half) - min(half) < UNSTEADY
    return "reached" if steady and max(late) < max(early) + GAIN else "not reached"


def _variant(cell: Cell, options: Options, file: Path) -> Path:
    base = BENCHMARKS / cell.base
    given: dict[str, Any] = {"base": str(base) if base.is_file() else cell.base, "name": cell.name}
    for key, value in (cell.changes | cell.reduced).items():
        *parents, last = key.split(".")
        at = given
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    if REAL not in cell.data:
        # Brightfield is focused elsewhere than fluorescence, as the profile says and as users do it.
        given["checks"] = {"registration": "off"}
    if cell.after:
        teacher = options.runs / cell.study / f"{cell.after}-bundle"
        given.setdefault("loss", {})["teacher"] = str(teacher)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return file


def _training_data(cell: Cell, options: Options) -> Path:
    """Return the folder to train on; several sets are brought together by links to their movies."""
    if cell.data == (REAL,):
        return options.real
    folders = {
        name: make_set(name, options.runs / "data", SCALES[options.scale].data) / "train"
        for name in cell.data
    }
    if len(folders) == 1:
        return next(iter(folders.values()))
    together = options.runs / "data" / "-".join(cell.data)
    together.mkdir(parents=True, exist_ok=True)
    for name, folder in folders.items():
        for movie in sorted(path for path in folder.glob("movie-*") if path.is_dir()):
            # The same seeds are in several sets; here names must differ. The first set's movie is watched.
            seed = movie.name.removeprefix("movie-")
            if str(VALIDATION) in seed and name != cell.data[0]:
                continue
            link = together / f"movie-{seed if str(VALIDATION) in seed else f'{name}-{seed}'}"
            if not link.exists():
                shutil.copytree(movie, link)
    return together


def _affordable_steps(cell: Cell, variant: Path, data: Path, options: Options) -> int:
    budget = SCALES[options.scale]
    seconds = budget.real_seconds if cell.study == "real" else budget.seconds
    known = options.runs / "steps.json"
    key = cost_key(variant)
    with FileLock(f"{known}.lock"):
        costs = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
        if key not in costs:
            costs[key] = _seconds_a_step(variant, data, options)
            known.write_text(json.dumps(costs, indent=1), encoding="utf-8")
    from livestain.training.recipe import Recipe

    most = Recipe.from_yaml(variant).steps
    return min(most, max(10, round(seconds / costs[key])))


def cost_key(variant: Path) -> str:
    """Return what recipes have in common whose steps cost the same."""
    from livestain.training.recipe import Recipe

    recipe = Recipe.from_yaml(variant)
    told = {
        "network": recipe.network_spec().model_dump(mode="json"),
        "batch_size": recipe.batch_size,
        "crop": [recipe.crop, recipe.crop_depth if recipe.dims == 3 else 0],
        "ms_ssim": recipe.loss.ms_ssim > 0,
        "adversarial": recipe.adversarial and recipe.adversarial.model_dump(mode="json"),
        "cycle": recipe.cycle and recipe.cycle.model_dump(mode="json"),
    }
    name = f"{recipe.network.name}, {recipe.batch_size} x {recipe.crop}"
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return f"{name}, {digest}"


def _seconds_a_step(variant: Path, data: Path, options: Options) -> float:
    """Return what a step costs: of the processor on a CPU, of the wall clock on a GPU."""
    import training
    from livestain.training.preparing import prepare
    from livestain.training.recipe import Recipe
    from livestain.training.sampling import Crops

    torch.set_num_threads(options.threads)
    skipped, made = _CALIBRATION
    training.SKIPPED = skipped
    recipe = Recipe.from_yaml(variant)
    with (
        tempfile.TemporaryDirectory() as scratch,
        prepare(recipe, data, monitor=None, progress=False) as prepared,
    ):
        clock = training.Clock(torch.device(options.device), made)
        training.livestain_loop(
            prepared.recipe, Crops(prepared.train, prepared.recipe), Path(scratch), clock
        )
    kind = "processor" if options.device == "cpu" else "wall"
    return clock.seconds[kind] / (made - skipped)


def _train(cell: Cell, variant: Path, data: Path, run: Path, steps: int, options: Options) -> None:
    words = ["train", str(variant), "--data", str(data), "--out", str(run), "--steps", str(steps)]
    words += ["--threads", str(options.threads), "--device", options.device]
    if cell.sets is not None:
        for name in movie_names(data)[: cell.sets]:
            words += ["--movies", name]
    if cell.watched is not None and cell.counts_invented is False:
        words += ["--monitor", cell.watched, "--set", f"selection.every_steps={-(-steps // LOOKS)}"]
    elif cell.watched is not None:
        words += ["--leave-out", cell.watched]
    if (run / "checkpoints").is_dir():
        words.append("--resume")
    livestain(*words)


def _scored(
    cell: Cell, look: Look, run: Path, bundle: Path, options: Options
) -> tuple[dict[str, Any], dict[str, float] | None]:
    words = ["evaluate", str(bundle), "--device", options.device, "--json"]
    if look.output is not None:
        words += ["--output", look.output]
    if "8 views" in look.label:
        words += ["--views", "8"]
    if look.data == REAL:
        words += ["--data", str(options.real), "--movies", str(cell.fold), "--metrics", METRICS]
    elif look.data == f"{REAL}/test split":
        words += ["--data", str(options.real), "--split", "test", "--run", str(run)]
        words += ["--metrics", METRICS]
    else:
        name, part = look.data.split("/")
        folder = make_set(name, options.runs / "data", SCALES[options.scale].data) / part
        words += ["--data", str(folder), "--metrics", METRICS]
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "images.csv"
        found = json.loads(livestain(*words, "--csv", str(table)))
        with table.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
    scores = {}
    for name, metric in found["by_metric"].items():
        told = metric["overall"]["prediction"]
        if told is None:
            continue
        over_movies = _interval_over_movies(rows, name)
        scores[name] = {
            **{k: told[k] for k in ("mean", "n", "quantiles")},
            # Of one movie, over its frames; of several, each a dish of its own, over the movies.
            "interval": over_movies or told["interval"],
            "control": (metric["overall"]["control"] or {}).get("mean"),
        }
    by_time = _by_time(rows) if look.data.startswith("zt/test") else None
    return scores, by_time


def _interval_over_movies(rows: list[dict[str, str]], metric: str) -> list[float] | None:
    """Return the 95 % bootstrap interval of the mean over movies; none of a single movie."""
    movies: dict[str, list[float]] = {}
    for row in rows:
        if row.get(metric):
            movies.setdefault(row["movie"], []).append(float(row[metric]))
    if len(movies) < 2:
        return None
    means = np.array([np.nanmean(values) for values in movies.values()])
    drawn = np.random.default_rng(0).choice(means, (10_000, len(means))).mean(axis=1)
    return [float(v) for v in np.percentile(drawn, [2.5, 97.5])]


def _by_time(rows: list[dict[str, str]]) -> dict[str, float]:
    """Return the normalised squared error at each time point: of stores, an image is named after its own."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["nmse"]:
            found.setdefault(str(int(row["frame"][1:])), []).append(float(row["nmse"]))
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}


def _told(cell: Cell, run: Path, bundle: Path, options: Options) -> dict[str, Any]:
    from training import hardware

    finished = json.loads((run / "finished.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    looks = _looks(run)
    batch = recipe["batch_size"]
    module = find_bundle(bundle).load_module()
    assert module.network is not None
    budget = SCALES[options.scale]
    ms, of = _inference(cell, bundle, options)
    return {
        "cell": cell.name,
        "study": cell.study,
        "scale": options.scale,
        "recipe": cell.recipe,
        "about": cell.about,
        "fold": cell.fold,
        "data": "+".join(cell.data),
        "training_sets": None
        if REAL in cell.data
        else len(movie_names(_training_data(cell, options))[: cell.sets]),
        "steps": finished["steps"],
        "batch_size": batch,
        "samples": finished["steps"] * batch,
        "budget_seconds": None
        if cell.steps
        else (budget.real_seconds if cell.study == "real" else budget.seconds),
        "wall_seconds": finished["seconds"],
        "looks": looks,
        "plateau": plateau(looks, finished["steps"]),
        "parameters": sum(p.numel() for p in module.network.parameters()),
        "inference_ms": ms,
        "inference_of": of,
        "changes": cell.changes,
        "reduced": cell.reduced,
        "hardware": hardware(torch.device(options.device)),
        "versions": {name: version(name) for name in ("livestain", "torch", "numpy")},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": finished["commit"],
        "command": options.command,
    }


def _looks(run: Path) -> list[tuple[int, float]]:
    with (run / "logs" / "metrics.csv").open(encoding="utf-8", newline="") as opened:
        return [
            (int(row["step"]), float(row["monitor_pearson"]))
            for row in csv.DictReader(opened)
            if row.get("monitor_pearson")
        ]


def _inference(cell: Cell, bundle: Path, options: Options) -> tuple[float, str]:
    """Return milliseconds a plane of 512 x 512, or a stack of the simulated ones' size.

    On a CPU: of the processor, on one thread, since others use the machine too.
    """
    scale = SCALES[options.scale].data
    shape = (1, 512, 512)
    with Stainer(bundle, device=options.device, threads=1) as stainer:
        whole = stainer.bundle.description.input.window.z == "all"
        if whole:
            shape = (scale.depth, scale.side, scale.side)
        counts = np.random.default_rng(0).integers(100, 4096, shape, dtype=np.uint16)
        stainer.stain_counts(counts)
        times = []
        for _ in range(3):
            began = time.process_time() if options.device == "cpu" else time.perf_counter()
            stainer.stain_counts(counts)
            ended = time.process_time() if options.device == "cpu" else time.perf_counter()
            times.append((ended - began) * 1e3)
    return float(np.median(times)), " x ".join(map(str, shape[-2:] if not whole else shape))

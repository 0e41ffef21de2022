"""Samples per second of `livestain train`'s loop against a plain PyTorch loop.

    python benchmarks/training.py
    python benchmarks/training.py --network care2d --crop 128 --batch-size 16 --steps 60 --repeats 7

The same network, patch, batch, data set, augmentation, loss and optimiser in one process, interleaved,
another one first each time; a ratio is always of two runs of the same repeat. The first steps of a run are
not counted. livestain's loop also keeps the running average of the weights and logs every tenth step; the
plain loop does neither. Results go to results/training.json.

On a machine that others use, trust the ratio by processor time, which waiting for others does not lengthen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader

from livestain.training.fitting import fit
from livestain.training.logs import RunLog
from livestain.training.losses.total import RecipeLoss
from livestain.training.modes import training_of
from livestain.training.module import build_from_recipe
from livestain.training.order import Order
from livestain.training.preparing import prepare
from livestain.training.ranks import Ranks
from livestain.training.recipe import Recipe
from livestain.training.sampling import Crops
from livestain.training.schedule import autocast_dtype
from livestain.training.selection import Chosen
from livestain.training.watching import Watch

Loop = Callable[[Recipe, Crops, Path, "Clock"], None]

RESULTS = Path(__file__).parent / "results"
SKIPPED = 5
"""Steps at the beginning of a run that are not counted."""

RUN = 2000
"""Steps that the recipe has, of which the first are made: all is logged as often as in such a run."""


def main() -> None:
    arguments = parser().parse_args()
    device = begin(arguments)
    with tempfile.TemporaryDirectory(prefix="livestain-bench-") as scratch:
        data = Path(scratch) / "data"
        make_data(data, arguments.side)
        recipe = a_recipe(arguments)
        ways: dict[str, Loop] = {"livestain": livestain_loop, "plain": plain_loop}
        runs = measure(recipe, ways, data, device, arguments)
    result = {
        **about(device),
        "recipe": told(recipe),
        "threads": torch.get_num_threads(),
        "steps": arguments.steps,
        "skipped_steps": SKIPPED,
        "livestain / plain": ratios(runs, "plain"),
        "runs": runs,
    }
    write(result, arguments.out)
    print(json.dumps(result["livestain / plain"], indent=2))


def begin(arguments: argparse.Namespace) -> torch.device:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return torch.device(arguments.device)


def measure(
    recipe: Recipe,
    ways: dict[str, Loop],
    data: Path,
    device: torch.device,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Run every way as often as asked, interleaved; return samples per second of each run."""
    runs: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="livestain-bench-") as scratch,
        prepare(recipe, data, monitor=None, progress=False) as prepared,
    ):
        for repeat in range(arguments.repeats):
            names = list(ways)
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                crops = Crops(prepared.train, prepared.recipe)
                clock = Clock(device, arguments.steps)
                ways[name](prepared.recipe, crops, Path(scratch) / f"{name}{repeat}", clock)
                samples = (arguments.steps - SKIPPED) * recipe.batch_size
                run = {"way": name, "repeat": repeat}
                run |= {f"samples_per_{k}_second": samples / v for k, v in clock.seconds.items()}
                print(json.dumps(run), file=sys.stderr, flush=True)
                runs.append(run)
    return runs


def about(device: torch.device) -> dict[str, Any]:
    """Return when, how and on what was measured."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "hardware": hardware(device),
        "load_of_the_machine": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": {p: version(p) for p in ("livestain", "torch", "lightning", "kornia")},
    }


def told(recipe: Recipe) -> dict[str, Any]:
    keys = {"network", "crop", "batch_size", "steps", "precision", "loss", "augmentation"}
    return recipe.model_dump(mode="json", include=keys)


def write(result: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument("--network", default="unet2d")
    result.add_argument("--crop", type=int, default=128)
    result.add_argument("--batch-size", type=int, default=8)
    result.add_argument("--steps", type=int, default=45)
    result.add_argument("--repeats", type=int, default=5)
    result.add_argument("--precision", default="fp32")
    result.add_argument("--no-augmentation", action="store_true")
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--threads", type=int)
    result.add_argument("--side", type=int, default=256, help="of the images, in pixels")
    result.add_argument("--out", type=Path, default=RESULTS / "training.json")
    return result


def a_recipe(arguments: argparse.Namespace) -> Recipe:
    output = {"name": "mitochondria", "unit": "sd", "display": [-1, 4]}
    augmentation = {"flip": True, "gain": [0.8, 1.25], "noise": 0.03}
    return Recipe.parse(
        {
            "name": "benchmark",
            "network": {"name": arguments.network},
            "targets": [{"channel": "mitochondria", "output": output}],
            "pixel_size_um": 0.1,
            "pixel_size_range_um": [0.08, 0.12],
            "crop": arguments.crop,
            "batch_size": arguments.batch_size,
            "steps": RUN,
            "loss": {"mse": 1.0},
            "augmentation": {"flip": False} if arguments.no_augmentation else augmentation,
            "precision": arguments.precision,
            "checks": {"registration": "off"},
        },
        where="benchmark",
    )


def make_data(folder: Path, side: int) -> None:
    """Write two movies of 8 pairs."""
    rng = np.random.default_rng(0)
    for movie in ("a", "b"):
        for i in range(8):
            bumps = gaussian_filter(rng.standard_normal((side, side)), 3.0)
            for channel, sign in (("brightfield", -1), ("mitochondria", 1)):
                place = folder / f"movie-{movie}" / channel
                place.mkdir(parents=True, exist_ok=True)
                counts = (1000 + sign * 300 * bumps / bumps.std()).clip(0, 65535)
                Image.fromarray(counts.astype(np.uint16)).save(place / f"t{i:03d}.png")


class Clock(Callback):
    """Take the time between the first counted step and the last; of the loader processes too."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device = device
        self.steps = steps
        self.seconds: dict[str, float] = {}

    def begin(self) -> None:
        """Count from now."""
        self._begun = self._now()

    def end(self) -> None:
        """Count until now."""
        self.seconds = {kind: now - self._begun[kind] for kind, now in self._now().items()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Look whether it is time."""
        done = int(args[2]) + 1
        if done == SKIPPED:
            self.begin()
        if done == self.steps:
            self.end()
            trainer.should_stop = True

    def _now(self) -> dict[str, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        loaders = sum(_processor_seconds(p.pid) for p in multiprocessing.active_children())
        return {"wall": time.perf_counter(), "processor": time.process_time() + loaders}


def _processor_seconds(pid: int | None) -> float:
    """Return what another process has computed so far; 0 where there is no /proc to tell."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.is_file():
        return 0.0
    # The name in brackets may hold spaces; user and system time are the 12th and 13th field after it.
    fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def livestain_loop(recipe: Recipe, crops: Crops, out: Path, clock: Clock) -> None:
    training = training_of(recipe)
    with RunLog(out, 0) as log:
        watch = Watch(out, log, Chosen(), validation=None, monitored=None, loss=None)
        fit(training, crops, clock.device, [watch, clock])


def plain_loop(recipe: Recipe, crops: Crops, out: Path, clock: Clock) -> None:
    device = clock.device
    torch.manual_seed(recipe.seed)
    network: Any = build_from_recipe(recipe)
    network = network.to(device, memory_format=torch.channels_last)
    loss, augment = RecipeLoss(recipe), training_of(recipe).augment
    settings = recipe.optimiser
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    loader: DataLoader[Any] = DataLoader(
        crops,
        batch_sampler=Order(0, clock.steps, recipe.batch_size, Ranks()),
        pin_memory=device.type == "cuda",
    )
    dtype = autocast_dtype(recipe, device)
    for step, given in enumerate(loader, start=1):
        batch = {key: value.to(device, non_blocking=True) for key, value in given.items()}
        batch = augment(batch, (step - 1) * recipe.batch_size)
        x = batch["source"].contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            y = network(x)
        total, _ = loss(y.float(), batch["target"], batch["mask"])
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimiser.step()
        if step == SKIPPED:
            clock.begin()
    clock.end()


def ratios(runs: list[dict[str, Any]], other: str) -> dict[str, dict[str, float]]:
    """Return how many times as many samples livestain does as another way, by both times."""
    return {
        kind: _ratio(runs, other, f"samples_per_{kind}_second") for kind in ("wall", "processor")
    }


def _ratio(runs: list[dict[str, Any]], other: str, key: str) -> dict[str, float]:
    """Return the median, least and largest ratio of two runs of the same repeat."""
    by = {(run["way"], run["repeat"]): run[key] for run in runs}
    ratios = [
        value / by[other, repeat] for (way, repeat), value in by.items() if way == "livestain"
    ]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def hardware(device: torch.device) -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


if __name__ == "__main__":
    main()

"""What a trained cell is worth: scores with intervals, controls, and the time of a prediction."""

from __future__ import annotations

import csv
import json
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import t as student_t

from livestain.inference import Stainer
from study.cell import SCALES, Cell, Scoring
from study.options import Options, livestain

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["METRICS", "inference", "interval_over_dishes", "scored"]

METRICS = ("pearson", "ssim", "psnr", "nmse")


def scored(
    cell: Cell, scoring: Scoring, options: Options, *, bundle: Path | None = None
) -> tuple[dict[str, Any], dict[str, float] | None]:
    """Score a cell's model once, or another one of its training.

    Returns
    -------
    scores : dict
        By metric: mean, interval, control, n, quantiles. Of models of whole stacks `pearson` and `nmse` are
        of stacks, as Hsu et al. and Ounkomol et al. have them, and `pearson_plane` of planes.
    by_time : dict or None
        Normalised squared error at each time point, where asked for.
    """
    words = ["evaluate", str(bundle or options.bundle(cell)), "--device", options.device, "--json"]
    name, _, part = scoring.data.partition("/")
    words += ["--data", str(options.part(name, part)), "--metrics", ",".join(METRICS)]
    if scoring.output is not None:
        words += ["--output", scoring.output]
    if scoring.views != 1:
        words += ["--views", str(scoring.views)]
    if scoring.movie is not None:
        words += ["--movies", scoring.movie]
    if scoring.split is not None:
        words += ["--split", scoring.split, "--run", str(options.run(cell))]
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "images.csv"
        found = json.loads(livestain(*words, "--csv", str(table)))
        with table.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
    scores = {metric: _told(known) for metric, known in found["by_metric"].items()}
    stacks = {metric: _told(known) for metric, known in (found.get("stacks") or {}).items()}
    if stacks:
        scores["pearson_plane"] = scores["pearson"]
        scores |= stacks
    return {k: v for k, v in scores.items() if v}, _by_time(rows) if scoring.by_time else None


def _told(metric: dict[str, Any]) -> dict[str, Any]:
    whole = metric["overall"]["prediction"]
    if whole is None or whole["mean"] is None:
        return {}
    movies = [m["prediction"]["mean"] for m in metric["by_movie"].values() if m["prediction"]]
    means = [value for value in movies if value is not None]
    control = metric["overall"]["control"]
    return {
        **{k: whole[k] for k in ("mean", "n", "quantiles")},
        # Of one movie, over its frames; of several, each a dish of its own, over the dishes.
        "interval": whole["interval"] if len(means) == 1 else interval_over_dishes(means),
        "control": None if control is None else control["mean"],
    }


def interval_over_dishes(values: Iterable[float]) -> list[float] | None:
    """Return the 95 % interval of the mean, by Student's t; none of fewer than three values."""
    means = np.array([value for value in values if math.isfinite(value)])
    if len(means) < 3:
        return None
    half = float(student_t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means)))
    return [float(means.mean()) - half, float(means.mean()) + half]


def _by_time(rows: list[dict[str, str]]) -> dict[str, float]:
    """Return the error at each time point: of stores, an image is named after its own."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["nmse"]:
            found.setdefault(str(int(row["frame"][1:])), []).append(float(row["nmse"]))
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}


def inference(cell: Cell, options: Options) -> tuple[float, str]:
    """Return milliseconds a plane of 512 x 512, or a stack of the simulated ones' size, and which.

    On a CPU: of the processor, on one thread, since others use the machine too.
    """
    scale = SCALES[options.scale].data
    on_cpu = options.device == "cpu"
    with Stainer(options.bundle(cell), device=options.device, threads=1) as stainer:
        whole = stainer.bundle.description.input.window.z == "all"
        shape = (scale.depth, scale.side, scale.side) if whole else (1, 512, 512)
        counts = np.random.default_rng(0).integers(100, 4096, shape, dtype=np.uint16)
        stainer.stain_counts(counts)
        times = []
        for _ in range(3):
            began = time.process_time() if on_cpu else time.perf_counter()
            stainer.stain_counts(counts)
            ended = time.process_time() if on_cpu else time.perf_counter()
            times.append((ended - began) * 1e3)
    if not on_cpu:
        torch.cuda.empty_cache()
    return float(np.median(times)), " x ".join(map(str, shape if whole else shape[-2:]))

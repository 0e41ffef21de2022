"""Memory, latency and what is left behind over a time-lapse of ten thousand planes.

    python benchmarks/long.py
    python benchmarks/long.py --planes 50000 --interval 0.02 --size 512

Micro-Manager's demo camera snaps planes at an interval, livestain stains them live by a light model. Memory
of both processes, threads and open files are looked at as it goes on, by Linux' /proc; latency is taken from
the journal, the first thousand planes against the last. Results go to results/long.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from live import PIXEL_SIZE_UM, a_sequence, demo_core, hardware, light_bundle, load, versions
from livestain.live.session import Session
from livestain.store import journal_path, read_journal, store_status

RESULTS = Path(__file__).parent / "results"
WINDOW = 1000
"""Planes at both ends whose latency is compared."""


def main() -> None:
    arguments = parse()
    if not Path("/proc/self/status").is_file():
        sys.exit("This benchmark reads /proc, so it runs on Linux alone.")
    core = demo_core(arguments.size, sequenced=False)
    sequence = a_sequence(arguments.planes, arguments.exposure, virtual=True)
    plan = {"interval": arguments.interval, "loops": arguments.planes}
    sequence = sequence.replace(time_plan=plan)
    with tempfile.TemporaryDirectory(prefix="livestain-long-", dir=arguments.folder) as scratch:
        bundle = light_bundle(Path(scratch) / "light")
        out = Path(scratch) / "run.ome.zarr"
        before = left_behind()
        models = {"mitochondria": bundle}
        session = Session(
            core, sequence, out, models=models, pixel_size_um=PIXEL_SIZE_UM, device="cpu"
        )
        session.start()
        samples = watch(session, out, arguments)
        report = session.wait()
        lines = read_journal(journal_path(out))
        missing = store_status(out).missing
    core.unloadAllDevices()
    del core, session
    result = {
        "what": "benchmarks/long.py",
        "command": shlex.join(["python", "benchmarks/long.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        "load_at_end": load(),
        "planes": arguments.planes,
        "size": arguments.size,
        "interval_s": arguments.interval,
        "seconds": report.seconds,
        "stained": report.planes_stained,
        "missing": missing,
        "filled_in_later": report.planes_filled_in_later,
        "worker_deaths": report.worker_deaths,
        "latency_ms": latencies(lines),
        "memory_mb": {name: trend(samples, name) for name in ("session_mb", "worker_mb")},
        "before": before,
        "after": left_behind(),
        "samples": samples,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    told = ("stained", "missing", "latency_ms", "memory_mb", "before", "after")
    print(json.dumps({key: result[key] for key in told}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--interval", type=float, default=0.025, help="seconds between planes")
    parser.add_argument("--exposure", type=float, default=1.0, help="milliseconds")
    parser.add_argument("--folder", type=Path, help="where the store is written")
    parser.add_argument("--out", type=Path, default=RESULTS / "long.json")
    return parser.parse_args()


def watch(session: Session, out: Path, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Look at both processes about two hundred times, until the run is over."""
    pause = arguments.planes * arguments.interval / 200
    worker = next(line["pid"] for line in read_journal(journal_path(out)) if "pid" in line)
    began, samples = time.perf_counter(), []
    with tqdm(total=arguments.planes, desc="stained") as bar:
        while True:
            now = session.progress
            bar.update(now.stained - bar.n)
            samples.append(
                {
                    "s": round(time.perf_counter() - began, 2),
                    "acquired": now.acquired,
                    "owed": now.owed,
                    "session_mb": memory_mb(os.getpid()),
                    "worker_mb": memory_mb(worker),
                    "threads": threading.active_count(),
                    "open_files": count(Path("/proc/self/fd")),
                }
            )
            try:
                session.wait(pause)
            except TimeoutError:
                continue
            return samples


def memory_mb(pid: int) -> float:
    """Return the memory that a process has for itself: anonymous pages, without mapped files."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return round(int(lines.get("RssAnon", "0 kB").split()[0]) / 1024, 1)


def count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def trend(samples: list[dict[str, float]], name: str) -> dict[str, float]:
    """Return the median of the second tenth and of the last one, and the growth by plane between them."""
    kept = [s for s in samples if np.isfinite(s[name]) and s[name] > 0]
    tenth = max(1, len(kept) // 10)
    early, late = kept[tenth : 2 * tenth], kept[-tenth:]
    first, last = (statistics.median(s[name] for s in part) for part in (early, late))
    planes = statistics.median(s["acquired"] for s in late) - statistics.median(
        s["acquired"] for s in early
    )
    return {
        "second_tenth": first,
        "last_tenth": last,
        "most": max(s[name] for s in kept),
        "bytes_a_plane": round((last - first) * 2**20 / max(planes, 1), 1),
    }


def latencies(lines: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return median and tail from camera to readable prediction, of the first planes and the last."""
    stained = [line for line in lines if line["kind"] == "stained" and line["live"]]
    total = [line["latency_ms"]["total"] for line in sorted(stained, key=lambda x: x["index"][1])]
    overhead = [line["latency_ms"]["total"] - line["latency_ms"]["model"] for line in stained]
    return {
        name: dict(
            zip(("p50", "p95", "p99"), np.percentile(part, (50, 95, 99)).round(2), strict=True)
        )
        for name, part in (
            ("first", total[:WINDOW]),
            ("last", total[-WINDOW:]),
            ("all, less the model's time", overhead),
        )
        if part
    }


def left_behind() -> dict[str, Any]:
    """Return what a run could leave in this process and on the machine."""
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "open_files": count(Path("/proc/self/fd")),
        "shared_memory": count(Path("/dev/shm")),
        "children": len(
            Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
        ),
    }


if __name__ == "__main__":
    main()

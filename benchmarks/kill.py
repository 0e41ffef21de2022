"""Runs killed at random moments: no finished plane may be lost, and every run has to come to its end.

    python benchmarks/kill.py --trials 100
    python benchmarks/kill.py --trials 100      # again: goes on from where it stopped

Each trial runs a time-lapse of stacks on a simulated dish in a process of its own, stained live by a light
model, and kills the acquisition, the worker, or both with SIGKILL at a random moment. Then the store is
validated, every plane that was finished is remembered by the SHA-256 of its file, the run is resumed in
another process, and all of it is looked at again. Trials are drawn by their number, so that one that fails
can be repeated: --only 17. Results go to results/kill.json after each trial.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaozarrs
from tqdm import tqdm

from live import hardware, light_bundle, versions
from livestain.store import journal_path, open_store, read_journal, store_status

RESULTS = Path(__file__).parent / "results"
SHAPE = (288, 320)
TIMES, DEPTHS, POSITIONS = 6, 3, 2
VICTIMS = ("acquisition", "worker", "both")
LONGEST_S = 3.0
"""A run takes about so long from its first plane to its end."""

CHILD = """
import sys
import useq
from livestain.live.microscope import simulated_core
from livestain.live.session import Session

out, bundle, resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"
shape, t, z, p = map(eval, sys.argv[4:])
core = simulated_core(7, shape=shape)
models = {"mitochondria": bundle}
if resume:
    session = Session.resume(core, out, models=models, device="cpu")
else:
    sequence = useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        stage_positions=[(40 * n, 0) for n in range(p)],
        z_plan={"range": 0.5 * (z - 1), "step": 0.5},
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 20},
            {"group": "Virtual", "config": "mitochondria"},
        ],
    )
    session = Session(core, sequence, out, models=models, device="cpu")
report = session.run()
print(report.planes_missing, report.worker_deaths)
"""


def main() -> None:
    arguments = parse()
    if os.name != "posix":
        sys.exit("This benchmark sends SIGKILL, so it does not run on Windows.")
    result: dict[str, Any] = {"trials": []}
    if arguments.out.is_file() and arguments.only is None:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    begun = len(result["trials"])
    numbers = range(begun, arguments.trials) if arguments.only is None else [arguments.only]
    with tempfile.TemporaryDirectory(prefix="livestain-kill-", dir=arguments.folder) as scratch:
        bundle = light_bundle(Path(scratch) / "light")
        for number in tqdm(numbers, desc="killed", initial=begun, total=arguments.trials):
            told = trial(number, bundle, Path(scratch) / f"{number}.ome.zarr")
            if arguments.only is not None:
                print(json.dumps(told, indent=1))
                return
            result["trials"].append(told)
            result |= {
                "what": "benchmarks/kill.py",
                "command": shlex.join(["python", "benchmarks/kill.py", *sys.argv[1:]]),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "hardware": hardware(),
                "versions": versions(),
                "summary": summary(result["trials"]),
            }
            arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary(result["trials"]), indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--only", type=int, help="repeat one trial and print it")
    parser.add_argument("--folder", type=Path, help="where the stores are written")
    parser.add_argument("--out", type=Path, default=RESULTS / "kill.json")
    return parser.parse_args()


def trial(number: int, bundle: str, out: Path) -> dict[str, Any]:
    """Run, kill, look, resume, look; return what was seen."""
    rng = np.random.default_rng(number)
    victim = VICTIMS[int(rng.integers(len(VICTIMS)))]
    after_s = float(rng.uniform(0.0, LONGEST_S))
    child = run(out, bundle, "run")
    worker = wait_for_worker(child, out)
    time.sleep(after_s)  # a random moment is what is asked for
    over = child.poll() is not None
    if victim != "acquisition" and worker is not None:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    if victim != "worker":
        child.kill()
    child.communicate(timeout=300)
    told: dict[str, Any] = {"trial": number, "victim": victim, "after_s": round(after_s, 3)}
    told["was_over"] = over
    if victim != "worker" and worker is not None:
        wait_gone(worker)
    finished = look(out, told, "before")
    if victim != "worker":
        child = run(out, bundle, "resume")
        _, why = child.communicate(timeout=300)
        told["resume_rc"] = child.returncode
        if child.returncode:
            told["why"] = why.strip().splitlines()[-1:]
        again = look(out, told, "after")
    else:
        again = finished
        told["resume_rc"] = child.returncode
    told["lost"] = sum(again.get(name) != digest for name, digest in finished.items())
    status = store_status(out)
    told |= {"planned": status.planned, "present": status.present}
    with open_store(out) as store:
        told["levels_missing"] = sum(
            len(store.levels_missing(c)) for c in range(len(store.plan.channels))
        )
    return told


def run(out: Path, bundle: str, how: str) -> subprocess.Popen[str]:
    sizes = [repr(SHAPE), str(TIMES), str(DEPTHS), str(POSITIONS)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), bundle, how, *sizes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_worker(child: subprocess.Popen[str], out: Path) -> int | None:
    """Wait for the journal's first line of a plane, and return the worker's number."""
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        lines = read_journal(journal_path(out)) if journal_path(out).exists() else []
        worker = next((line["pid"] for line in lines if line["kind"] == "worker"), None)
        if worker is not None or any(line["kind"] == "plane" for line in lines):
            return worker or child_of(child.pid)
        time.sleep(0.02)
    return None


def child_of(pid: int) -> int | None:
    import psutil

    with suppress(psutil.Error):
        return next((c.pid for c in psutil.Process(pid).children()), None)
    return None


def wait_gone(pid: int) -> None:
    """Wait until a worker whose parent was killed has left; it finishes the plane in hand."""
    import psutil

    with suppress(psutil.Error):
        psutil.Process(pid).wait(timeout=60)


def look(out: Path, told: dict[str, Any], when: str) -> dict[str, str]:
    """Validate a store; return the SHA-256 of each finished plane's file, by name."""
    try:
        yaozarrs.validate_zarr_store(str(out))
        told[f"valid_{when}"] = True
    except Exception as error:
        told[f"valid_{when}"] = False
        told[f"invalid_{when}"] = str(error)[:300]
    found = {}
    with open_store(out) as store:
        for c in range(len(store.plan.channels)):
            for index in store.plan.planned_indices(c):
                if store.is_present(index):
                    store.read(index)  # its checksum, and that it can be decoded
                    name = f"{index.p}/0/c.{index.t}.{index.c}.{index.z}.0.0"
                    found[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    told[f"present_{when}"] = len(found)
    return found


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "trials": len(trials),
        "by_victim": dict(Counter(t["victim"] for t in trials)),
        "run_was_over": sum(t["was_over"] for t in trials),
        "finished_planes_seen": sum(t["present_before"] for t in trials),
        "finished_planes_lost": sum(t["lost"] for t in trials),
        "invalid_stores": sum(
            not t[key] for t in trials for key in ("valid_before", "valid_after") if key in t
        ),
        "not_complete": sum(t["present"] < t["planned"] for t in trials),
        "pyramids_not_whole": sum(t["levels_missing"] for t in trials),
        "failed": sum(bool(t["resume_rc"]) for t in trials),
    }


if __name__ == "__main__":
    main()

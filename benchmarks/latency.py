"""How long after a frame its prediction is there for others, and how soon a run can answer it.

    python benchmarks/latency.py
    python benchmarks/latency.py --size 1024 --planes 100 --interval 0.5

Micro-Manager's demo camera snaps frames, slowly enough that the model keeps up. First, a process of its own
waits for each virtual plane and reads it; its clock is the machine's, so the time from `frameReady` is known.
Then a run decides each event from the prediction before it (`Session(..., events=)`), and the time from a
frame to the decision on the next event is what the run itself measured. From both, plane by plane, the
model's own time is subtracted. Results go to results/latency.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import useq

from live import PIXEL_SIZE_UM, a_sequence, demo_core, hardware, light_bundle, load, versions
from livestain.errors import MissingPlaneError
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import journal_path, open_store, read_journal

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results"
PREDICTED = 1
_GLANCE_S = 0.0002
"""How often the other process looks; it adds half of it, on average, to what it sees."""


def main() -> None:
    arguments = parse()
    if arguments.observe is not None:
        observe(arguments.observe, arguments.planes)
        return
    if not sys.platform.startswith("linux"):
        sys.exit("This benchmark compares the clocks of two processes, which only Linux shares.")
    core = demo_core(arguments.size, sequenced=False)
    with tempfile.TemporaryDirectory(prefix="livestain-latency-", dir=arguments.folder) as scratch:
        bundle = light_bundle(Path(scratch) / "light")
        result = {
            "what": "benchmarks/latency.py",
            "command": shlex.join(["python", "benchmarks/latency.py", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": arguments.note,
            "hardware": hardware(),
            "versions": versions(),
            "load_at_start": load(),
            "size": arguments.size,
            "planes": arguments.planes,
            "interval_s": arguments.interval,
            "readable_by_another_process_ms": readable(core, bundle, Path(scratch), arguments),
            "answered_ms": answered(core, bundle, Path(scratch), arguments),
            "load_at_end": load(),
        }
    core.unloadAllDevices()
    del core
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    told = ("readable_by_another_process_ms", "answered_ms")
    print(json.dumps({key: result[key] for key in told}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between planes")
    parser.add_argument("--folder", type=Path, help="where the store is written")
    parser.add_argument("--out", type=Path, default=RESULTS / "latency.json")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--observe", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def readable(core: Any, bundle: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Let another process wait for each prediction of a time-lapse."""
    out = folder / "seen.ome.zarr"
    sequence = a_sequence(arguments.planes, 1.0, virtual=True).replace(
        time_plan={"interval": arguments.interval, "loops": arguments.planes}
    )
    ready: dict[int, int] = {}

    def on_frame(image: Any, event: useq.MDAEvent, meta: Any) -> None:
        del image, meta
        ready[event.index["t"]] = time.perf_counter_ns()

    core.mda.events.frameReady.connect(on_frame)  # before the session's own, so never later
    models = {"mitochondria": bundle}
    session = Session(core, sequence, out, models=models, pixel_size_um=PIXEL_SIZE_UM, device="cpu")
    session.start()
    command = [sys.executable, __file__, "--observe", str(out), "--planes", str(arguments.planes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as observer:
        report = session.wait()
        told, _ = observer.communicate(timeout=60)
    core.mda.events.frameReady.disconnect(on_frame)
    if observer.returncode or report.planes_missing:
        sys.exit("The other process did not see every plane.")
    seen = {int(t): int(ns) for t, ns in json.loads(told).items()}
    models_ms = {
        line["index"][1]: line["latency_ms"]["model"]
        for line in read_journal(journal_path(out))
        if line["kind"] == "stained"
    }
    # It starts after the first planes: those that it found there say nothing.
    timed = [t for t in seen if t >= arguments.planes // 10]
    total = [(seen[t] - ready[t]) / 1e6 for t in timed]
    return {
        "planes": len(timed),
        "filled_in_later": report.planes_filled_in_later,
        "total": spread(total),
        "model": spread([models_ms[t] for t in timed]),
        "total, less the model's time": spread(
            [ms - models_ms[t] for ms, t in zip(total, timed, strict=True)]
        ),
    }


def observe(path: Path, planes: int) -> None:
    """Wait for the planes of a run one after the other, read each, and tell when."""
    seen = {}
    with open_store(path) as store:
        for t in range(planes):
            index = PlaneIndex(0, t, PREDICTED, 0)
            while True:
                if store.is_present(index):
                    try:
                        store.read(index)
                    except MissingPlaneError:
                        continue
                    break
                time.sleep(_GLANCE_S)
            seen[t] = time.perf_counter_ns()
    print(json.dumps(seen))


def answered(core: Any, bundle: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Decide each event from the prediction before it."""
    out = folder / "answered.ome.zarr"
    frame = a_sequence(1, 1.0, virtual=True).replace(time_plan=None)

    def events(session: Session) -> Iterator[useq.MDAEvent]:
        for t in range(arguments.planes):
            yield useq.MDAEvent(index={"t": t}, channel="DAPI")
            session.wait_for(PlaneIndex(0, t, PREDICTED, 0), timeout=60)

    models = {"mitochondria": bundle}
    Session(
        core, frame, out, events=events, models=models, pixel_size_um=PIXEL_SIZE_UM, device="cpu"
    ).run()
    lines = read_journal(journal_path(out))
    models_ms = {
        line["index"][1]: line["latency_ms"]["model"] for line in lines if line["kind"] == "stained"
    }
    answers = {line["index"][1]: line["answer_ms"] for line in lines if "answer_ms" in line}
    return {
        "answers": len(answers),
        "total": spread(list(answers.values())),
        "total, less the model's time": spread(
            [ms - models_ms[t - 1] for t, ms in answers.items()]
        ),
    }


def spread(milliseconds: list[float]) -> dict[str, float]:
    found = np.percentile(milliseconds, (50, 95, 99)).round(2).tolist()
    return dict(zip(("p50", "p95", "p99"), found, strict=True))


if __name__ == "__main__":
    main()

"""How many frames a second the simulated microscope shows.

    python benchmarks/simulator.py
    python benchmarks/simulator.py --side 1024 --profile h9c2-60x

Through the real MMCore, noise and all: snaps (snapImage, getImage) and a triggered burst (a sequence
acquisition, popNextImageAndMD), after a first frame. Three ways of changing the scene, from what the dish
has kept to what it has to compute: the same moment again (live view of a dish whose time stands still);
the planes of a stack at each new time point; a new time point with every frame. Medians of frames.
Results go to results/simulator.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from useq import MDAEvent

from livestain.live.microscope import simulated_core

RESULTS = Path(__file__).parent / "results" / "simulator.json"
PLANES = 5


def scenes(way: str, count: int) -> list[MDAEvent]:
    """Return the events that are shown one after the other."""
    if way == "same moment":
        return [MDAEvent(index={"t": 0}, z_pos=0.0) for _ in range(count)]
    if way == "stacks in time":
        return [
            MDAEvent(index={"t": n // PLANES, "z": n % PLANES}, z_pos=0.5 * (n % PLANES - 2))
            for n in range(count)
        ]
    return [MDAEvent(index={"t": n}, z_pos=0.0) for n in range(count)]


def snapped(core: Any, events: list[MDAEvent]) -> float:
    """Return frames a second by snaps, the focus moved where it changes."""
    took = []
    for event in events:
        begun = time.perf_counter()
        if core.getPosition() != event.z_pos:
            core.setPosition(event.z_pos)
            core.waitForDevice(core.getFocusDevice())
        core.camera.expect([event])
        core.snapImage()
        core.getImage()
        took.append(time.perf_counter() - begun)
    return 1 / statistics.median(took[PLANES:])


def triggered(core: Any, events: list[MDAEvent]) -> float:
    """Return frames a second of one burst."""
    core.camera.expect(events)
    stage = core.getFocusDevice()
    core.loadStageSequence(stage, [event.z_pos for event in events])
    core.startStageSequence(stage)
    came: list[float] = []
    core.startSequenceAcquisition(len(events), 0, True)
    while len(came) < len(events):
        if core.getRemainingImageCount():
            core.popNextImageAndMD()
            came.append(time.perf_counter())
        else:
            time.sleep(0.0005)
    core.stopStageSequence(stage)
    return 1 / float(np.median(np.diff(came[PLANES:])))


def main() -> None:
    """Read the command line, measure, and write."""
    parser = argparse.ArgumentParser(description="Frames a second of the simulated microscope.")
    parser.add_argument("--profile", default="hela-60x")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--no-results", action="store_true", help="print only")
    arguments = parser.parse_args()
    rows = []
    for channel in ("Brightfield", "Mitochondria"):
        for way in ("same moment", "stacks in time", "new time each"):
            core = simulated_core(
                3, profile=arguments.profile, shape=(arguments.side, arguments.side)
            )
            core.setConfig(core.getChannelGroup(), channel)
            events = scenes(way, arguments.frames)
            row = {
                "channel": channel,
                "scenes": way,
                "snaps_per_s": round(snapped(core, events), 1),
                "burst_per_s": round(triggered(core, events), 1),
            }
            rows.append(row)
            print(row, flush=True)
            core.unloadAllDevices()
    if not arguments.no_results:
        result = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "benchmarks/simulator.py", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {psutil.cpu_count()} logical cores",
            "load_average": psutil.getloadavg(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("numpy", "scipy", "pymmcore-plus")},
            "profile": arguments.profile,
            "side": arguments.side,
            "rows": rows,
        }
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Frames per second of one sequence: the runner alone, its own OME-Zarr, livestain, livestain staining.

    python benchmarks/live.py
    python benchmarks/live.py --sizes 512 --exposures 1 --repeats 9 --unsequenced

Micro-Manager's demo camera (FastImage: it repeats its last picture, so that drawing pictures is not what
is measured) runs the same `useq.MDASequence` four ways, interleaved, in one process; see README.md here
for what each number means. Results go to benchmarks/results as JSON, and as a table in live.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import useq
from pymmcore_plus import CMMCorePlus
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from livestain.live.buffer import burst_buffer
from livestain.live.leaving import leave_quietly
from livestain.live.session import Session
from livestain.store import store_status

RESULTS = Path(__file__).parent / "results"
PIXEL_SIZE_UM = 0.1
DEFAULT_BYTES = 2**29
"""Without --planes a sequence has about this many bytes of planes, and 100 to 500 of them."""

WAYS = {
    "runner": "the runner alone",
    "ome-zarr": "the runner with its own OME-Zarr output",
    "raw": "livestain, no virtual channel",
    "virtual": "livestain with a virtual channel",
}


def main() -> None:
    arguments = parse()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(
        prefix="livestain-bench-", dir=arguments.folder, ignore_cleanup_errors=True
    ) as scratch:
        bundle = ""
        if "virtual" in arguments.ways:
            bundle = arguments.bundle or light_bundle(Path(scratch) / "light")
        result = {
            "what": "benchmarks/live.py",
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": arguments.note,
            "sequenced": not arguments.unsequenced,
            "bundle": describe_bundle(bundle, given=arguments.bundle is not None),
            "hardware": hardware(),
            "versions": versions(),
            "load_at_start": load(),
            "runs": measure(arguments, bundle, Path(scratch), console),
            "load_at_end": load(),
        }
    result["ome_zarr_backend"] = next(
        (run["backend"] for run in result["runs"] if "backend" in run), None
    )
    result["summary"] = summarise(result["runs"])
    out = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_name(arguments.table).write_text(markdown(result, out.name), encoding="utf-8")
    Console().print(table(result))
    console.print(f"written: {out} and {arguments.table}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[512, 2048], help="side of a plane, in pixels")
    add("--exposures", type=float, nargs="+", default=[10, 1], help="milliseconds")
    add("--planes", type=int, help="planes a run; without it about 0.5 GiB of them, 100 to 500")
    add("--repeats", type=int, default=5)
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which to run")
    add("--unsequenced", action="store_true", help="snap each plane instead of one triggered burst")
    add("--bundle", help="a 2-D bundle for 0.1 um pixels; without it a light one of random weights")
    add("--device", default="auto", help="where the model runs: auto, cpu, cuda")
    add("--folder", type=Path, help="where stores are written (the disk that is measured)")
    add("--note", default="", help="what a reader should know, such as: the machine was shared")
    today = datetime.now(UTC).date().isoformat()
    add("--out", type=Path, default=RESULTS / f"live-{today}.json", help="the JSON result")
    add("--table", default="live.md", help="name of the table beside it")
    return parser.parse_args()


# ---------------------------------------------------------------------------------- measuring


def measure(
    arguments: argparse.Namespace, bundle: str, scratch: Path, console: Console
) -> list[dict[str, Any]]:
    """Run everything, repeat by repeat; within a repeat the ways of a condition follow each other."""
    conditions = [(size, exposure) for size in arguments.sizes for exposure in arguments.exposures]
    runs: list[dict[str, Any]] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        total = arguments.repeats * len(conditions) * len(arguments.ways)
        task = progress.add_task("live", total=total)
        for repeat in range(arguments.repeats):
            for size, exposure in conditions:
                # Another way goes first each time, so that none always finds the disk tired.
                turn = repeat % len(arguments.ways)
                for way in arguments.ways[turn:] + arguments.ways[:turn]:
                    progress.update(task, description=f"{size}² {exposure:g} ms {way}")
                    run = one_run(way, size, exposure, arguments, bundle, scratch)
                    runs.append({"repeat": repeat, **run})
                    progress.advance(task)
    return runs


def one_run(
    way: str,
    size: int,
    exposure: float,
    arguments: argparse.Namespace,
    bundle: str,
    scratch: Path,
) -> dict[str, Any]:
    """Run one sequence one way on a fresh core."""
    planes = arguments.planes or min(500, max(100, DEFAULT_BYTES // (2 * size * size)))
    sequence = a_sequence(planes, exposure, virtual=way == "virtual")
    core = demo_core(size, sequenced=not arguments.unsequenced)
    frames: list[float] = []
    # Connected first, so that it tells when the frame came and not when the others were done with it.
    core.mda.events.frameReady.connect(lambda *_: frames.append(time.perf_counter()))
    flush_disk()
    gc.collect()
    out = scratch / "run.ome.zarr"
    run: dict[str, Any] = {
        "way": way,
        "size": size,
        "exposure_ms": exposure,
        "planes": planes,
        "load": load(),
    }
    began = time.perf_counter()
    try:
        if way in ("runner", "ome-zarr"):
            with burst_buffer(core, sequence) as megabytes:  # the same room as livestain takes
                run["buffer_mb"] = megabytes
                began = time.perf_counter()
                core.mda.run(sequence, output=out if way == "ome-zarr" else None)
                ended = time.perf_counter()
            stored = count_planes(out) if way == "ome-zarr" else len(frames)
            if way == "ome-zarr":
                run["backend"] = sink_backend(core)
        else:
            ended = livestain_run(core, sequence, out, bundle, arguments.device, frames, run)
            raw = store_status(out).to_dict()["raw"]
            stored = raw["present"]
        run |= {
            "fps": (len(frames) - 1) / (frames[-1] - frames[0]),
            "fps_closed": len(frames) / (ended - frames[0]),
            "first_frame_s": frames[0] - began,
            "wall_s": ended - began,
            "lost": planes - stored,
        }
    except MemoryError as error:
        # "Buffer overflowed": a result, not a failure of the benchmark.
        run |= {"overflowed": str(error), "lost": planes - len(frames)}
    finally:
        core.unloadAllDevices()
        del core
        remove_store(out)
    return run


def livestain_run(
    core: CMMCorePlus,
    sequence: useq.MDASequence,
    out: Path,
    bundle: str,
    device: str,
    frames: list[float],
    run: dict[str, Any],
) -> float:
    """Run a session; returns when everything was closed."""
    models = {"mitochondria": bundle} if run["way"] == "virtual" else None
    session = Session(
        core, sequence, out, models=models, pixel_size_um=PIXEL_SIZE_UM, device=device
    )
    stained: list[tuple[float, dict[str, float]]] = []
    session.plane_stained.connect(lambda s: stained.append((time.perf_counter(), s.latency_ms)))
    report = session.run()
    ended = time.perf_counter()
    if models:
        during = sum(1 for at, _ in stained if at <= frames[-1])
        run |= {
            "stained": report.planes_stained,
            "stained_live": report.planes_stained - report.planes_filled_in_later,
            "stained_while_acquiring": during,
            "latency_p50_ms": report.latency_ms.p50,
            "latency_p95_ms": report.latency_ms.p95,
            "model_ms": statistics.median(stages["model"] for _, stages in stained),
            "owed_s": max(0.0, stained[-1][0] - frames[-1]),
            "missing": report.planes_missing,
            "models": report.models,
        }
    return ended


def a_sequence(planes: int, exposure: float, *, virtual: bool) -> useq.MDASequence:
    """Return a time-lapse as fast as the camera goes; DAPI stands for brightfield."""
    channels = [{"group": "Channel", "config": "DAPI", "exposure": exposure}]
    metadata: dict[str, Any] = {}
    if virtual:
        channels.append({"group": "Virtual", "config": "mitochondria"})
        settings = {"source": "DAPI", "source_kind": "brightfield", "lag": "backfill"}
        metadata = {"livestain": {"channels": {"mitochondria": settings}}}
    return useq.MDASequence(
        time_plan={"interval": 0, "loops": planes}, channels=channels, metadata=metadata
    )


def demo_core(size: int, *, sequenced: bool) -> CMMCorePlus:
    core = CMMCorePlus()
    leave_quietly(core)
    core.loadSystemConfiguration()
    camera = core.getCameraDevice()
    for name, value in (
        ("PixelType", "16bit"),
        ("OnCameraCCDXSize", str(size)),
        ("OnCameraCCDYSize", str(size)),
        ("Mode", "Noise"),  # compresses to a half, as real brightfield does; the other modes to 4 %
    ):
        core.setProperty(camera, name, value)
    core.snapImage()
    # From here on that picture is repeated. Without one it would repeat zeros, and the runner's own
    # output does not write those at all.
    core.setProperty(camera, "FastImage", "1")
    core.snapImage()
    if not core.getImage().any():
        raise RuntimeError("The demo camera's picture is empty: the disk would not be measured.")
    core.mda.engine.use_hardware_sequencing = sequenced
    return core


def light_bundle(folder: Path) -> str:
    """Write a bundle of a very small 2-D U-Net; its random weights are as fast as trained ones."""
    import numpy as np
    import torch

    from livestain.bundle import (
        BundleDescription,
        InputSpec,
        NetworkSpec,
        OutputChannel,
        write_bundle,
    )
    from livestain.networks import build_network

    kwargs = {"in_channels": 1, "width": 4, "depth": 2}
    torch.manual_seed(0)
    write_bundle(
        folder,
        network=build_network("unet2d", **kwargs),
        description=BundleDescription(
            input=InputSpec(
                kind="brightfield",
                pixel_size_um=PIXEL_SIZE_UM,
                pixel_size_range_um=(PIXEL_SIZE_UM, PIXEL_SIZE_UM),
            ),
            outputs=(
                OutputChannel(
                    name="mitochondria", unit="sd", scale=0.001, offset=-20.0, display=(-1.0, 3.0)
                ),
            ),
            network=NetworkSpec(name="unet2d", kwargs=kwargs),
        ),
        name="light",
        title="A light network for benchmarks",
        licence="BSD-3-Clause",
        card="# Light\n\nRandom weights, for benchmarks of speed.\n",
        test_input=np.random.default_rng(0).integers(0, 4000, (1, 64, 64), np.uint16),
        onnx=False,
    )
    return str(folder)


def sink_backend(core: CMMCorePlus) -> str:
    """Return what `auto` chose; pymmcore-plus has no public word for it."""
    with suppress(AttributeError):
        backend = type(core.mda._sink._stream._backend)  # type: ignore[union-attr]  # noqa: SLF001
        return f"{backend.__name__} ({backend.__module__})"
    return "default"


def count_planes(store: Path) -> int:
    """Return the number of chunk files of level 0; ome-writers' chunk is a plane."""
    return sum(1 for path in (store / "0" / "c").rglob("*") if path.is_file())


def remove_store(out: Path) -> None:
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    for journal in out.parent.glob(f"{out.name}.*"):
        journal.unlink()


def flush_disk() -> None:
    """Wait until what earlier runs wrote is on the disk, so that no run pays for another."""
    if hasattr(os, "sync"):
        os.sync()


# ---------------------------------------------------------------------------------- telling


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return median, min and max by condition, and ratios of runs of the same repeat."""
    summary = []
    for size, exposure in dict.fromkeys((r["size"], r["exposure_ms"]) for r in runs):
        here = [r for r in runs if (r["size"], r["exposure_ms"]) == (size, exposure)]
        by_way = {way: [r for r in here if r["way"] == way] for way in WAYS}
        row: dict[str, Any] = {
            "size": size,
            "exposure_ms": exposure,
            "planes": here[0]["planes"],
            "lost": {way: sum(r["lost"] for r in rs) for way, rs in by_way.items() if rs},
            "overflowed": {
                way: sum("overflowed" in r for r in rs) for way, rs in by_way.items() if rs
            },
        }
        for key in ("fps", "fps_closed", "first_frame_s", "wall_s"):
            row[key] = {way: spread(rs, key) for way, rs in by_way.items() if rs}
        for key in (
            "stained_live",
            "stained_while_acquiring",
            "latency_p50_ms",
            "latency_p95_ms",
            "model_ms",
            "owed_s",
            "missing",
        ):
            row[key] = spread(by_way["virtual"], key)
        for key in ("fps", "fps_closed"):
            row[f"{key}_ratios"] = {
                name: ratio(by_way[above], by_way[below], key)
                for name, above, below in (
                    ("ome-zarr / runner", "ome-zarr", "runner"),
                    ("raw / runner", "raw", "runner"),
                    ("raw / ome-zarr", "raw", "ome-zarr"),
                    ("virtual / raw", "virtual", "raw"),
                    ("virtual / runner", "virtual", "runner"),
                )
            }
        summary.append(row)
    return summary


def spread(runs: list[dict[str, Any]], key: str) -> dict[str, float] | None:
    values = [r[key] for r in runs if r.get(key) is not None]
    return _spread(values)


def ratio(
    above: list[dict[str, Any]], below: list[dict[str, Any]], key: str
) -> dict[str, float] | None:
    """Return the spread of ratios, each of two runs of one repeat, which saw the same machine."""
    of = {r["repeat"]: r[key] for r in below if key in r}
    return _spread([r[key] / of[r["repeat"]] for r in above if key in r and r["repeat"] in of])


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def told(numbers: dict[str, float] | None, digits: int = 0) -> str:
    if numbers is None:
        return "-"
    median, low, high = (f"{numbers[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} [{low}-{high}]"


def rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the table's head and rows: a column a condition."""
    summary = result["summary"]
    head = ["", *(f"{s['size']}², {s['exposure_ms']:g} ms" for s in summary)]
    body = [["planes a run", *(str(s["planes"]) for s in summary)]]

    def add(name: str, key: str, way: str | None = None, digits: int = 0) -> None:
        cells = [(s[key] or {}).get(way) if way else s[key] for s in summary]
        if any(cells):
            body.append([name, *(told(cell, digits) for cell in cells)])

    for way, words in WAYS.items():
        add(f"frames/s: {words}", "fps", way)
    for pair in ("raw / runner", "virtual / raw", "raw / ome-zarr"):
        add(f"ratio {pair}", "fps_ratios", pair, 2)
    for way, words in list(WAYS.items())[1:]:
        add(f"frames/s to closed: {words}", "fps_closed", way)
    add("ratio to closed, raw / ome-zarr", "fps_closed_ratios", "raw / ome-zarr", 2)
    for key, name in (("lost", "planes lost"), ("overflowed", "runs ended by a full buffer")):
        text = [", ".join(f"{way} {n}" for way, n in s[key].items() if n) or "0" for s in summary]
        body.append([f"{name}, all repeats", *text])
    add("stained while acquiring", "stained_while_acquiring")
    add("stained live", "stained_live")
    add("latency p50, ms", "latency_p50_ms")
    add("latency p95, ms", "latency_p95_ms")
    add("model, ms a plane", "model_ms", digits=1)
    add("s until nothing was owed", "owed_s", digits=1)
    add("planes missing at the end", "missing")
    return head, body


def table(result: dict[str, Any]) -> Table:
    head, body = rows(result)
    shown = Table(title="median [min-max]")
    for name in head:
        shown.add_column(name)
    for row in body:
        shown.add_row(*row)
    return shown


def markdown(result: dict[str, Any], source: str) -> str:
    head, body = rows(result)
    hardware = result["hardware"]
    kind = "one triggered burst" if result["sequenced"] else "snaps, not triggered"
    lines = [
        "# Frames per second, live",
        "",
        (
            f"From `{source}` ({result['date'][:10]}), made by `{result['command']}`; what each line "
            "means: ../README.md."
        ),
        "",
        (
            f"- Machine: {hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']:.0f} GB; "
            f"{hardware['system']}. Load average {result['load_at_start']} to {result['load_at_end']}."
        ),
        (
            f"- Demo camera with FastImage, {kind}; the runner's own OME-Zarr by "
            f"{result['ome_zarr_backend']}, uncompressed, without a pyramid; livestain's by "
            "blosc-lz4 with a pyramid."
        ),
        f"- Model: {result['bundle']}.",
        (
            f"- pymmcore-plus {result['versions']['pymmcore-plus']}, ome-writers "
            f"{result['versions']['ome-writers']}, tensorstore {result['versions']['tensorstore']}, "
            f"torch {result['versions']['torch']}."
        ),
    ]
    if result["note"]:
        lines.append(f"- {result['note']}")
    lines += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in body]
    return "\n".join([*lines, ""])


def describe_bundle(folder: str, *, given: bool) -> str:
    from livestain.bundle import read_bundle

    if not folder:
        return "none"

    bundle = read_bundle(folder)
    spec = bundle.description.network
    weights = "" if given else ", random weights (speed is all that is asked of it)"
    return f"{bundle.name}: {spec.name} {spec.kwargs}{weights}"


def hardware() -> dict[str, Any]:
    from livestain.live.buffer import free_memory

    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    memory = None
    with suppress(AttributeError, ValueError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory or free_memory() / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    names = ("livestain", "pymmcore-plus", "pymmcore", "ome-writers", "tensorstore", "zarr")
    return {name: version(name) for name in (*names, "mm-test-adapters", "torch", "useq-schema")}


def load() -> float | None:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


if __name__ == "__main__":
    main()

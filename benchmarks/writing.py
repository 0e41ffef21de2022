"""Write throughput to close: livestain, bare tensorstore, and ome-writers' backends, side by side.

    python benchmarks/writing.py
    python benchmarks/writing.py --sizes 512 --codecs blosc-lz4 --repeats 9
    python benchmarks/writing.py --memory

Each way opens a store for N planes, writes them as fast as it takes them, and closes it; the time ends
when every file has been handed to the operating system. The ways follow each other within a repeat,
another one first each time, and the disk is flushed between them, outside the time; a ratio is always of
two runs of the same repeat. What was stored is counted and read back after each run, so that a writer that
skips is seen. See README.md here for what each number means. Results go to results/writing.json, and as a
table to writing.md beside it; --memory adds the peak memory of fresh processes to both.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import queue
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorstore as ts
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from live import (
    PIXEL_SIZE_UM,
    RESULTS,
    flush_disk,
    hardware,
    load,
    ratio,
    remove_store,
    spread,
    told,
    versions,
)
from livestain.live.buffer import write_room
from livestain.live.recorder import Recorder
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    Journal,
    PlannedBlock,
    Store,
    StorePlan,
    create_store,
    journal_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from livestain.store.plan import Codec

DEFAULT_BYTES = 2**30
"""Without --planes a run has about this many bytes of planes, as the camera gives them."""
RING_BYTES = 2**26
"""Planes are drawn before, about this many bytes of different ones, and given again and again."""
MEMORY_PLANES = (1_000, 10_000)
MEMORY_SIZE = 512
MEMORY_IN_FLIGHT_MB = 64
MEMORY_LOOK = 50

WAYS = {
    "livestain": "livestain: recorder, journal and store, as in a run",
    "livestain-store": "livestain's store alone",
    "livestain-pyramid": "livestain as in a run, with the pyramid, which nobody else writes",
    "tensorstore": "bare tensorstore, with crc32c",
    "tensorstore-plain": "bare tensorstore, without crc32c",
    "tensorstore-fsync": "bare tensorstore, with crc32c, waiting for the disk (its default)",
    "ome-writers-tensorstore": "ome-writers, tensorstore",
    "ome-writers-zarr-python": "ome-writers, zarr-python",
    "ome-writers-acquire-zarr": "ome-writers, acquire-zarr",
}
BARE = "tensorstore"
RATIOS = [
    *(("livestain", way) for way in WAYS if not way.startswith("livestain")),
    ("livestain-store", BARE),
    ("livestain-pyramid", BARE),
]

BLOSC = {
    # As livestain's own (store/arrays.py) and as yaozarrs, which ome-writers writes by, has them.
    "none": [],
    "blosc-lz4": [{"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2}],
    "blosc-zstd": [{"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": 2}],
}


def main() -> None:
    arguments = parse()
    console = Console(stderr=True)
    if arguments.peak_of is not None:
        print(json.dumps(peak_memory(arguments.peak_of, arguments.pace, arguments.folder)))
        return
    result: dict[str, Any] = {}
    if arguments.out.is_file() and arguments.memory:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    result |= {"what": "benchmarks/writing.py"}
    about = {
        "command": shlex.join(["python", "benchmarks/writing.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": arguments.note,
        "hardware": hardware(),
        "versions": all_versions(),
        "load_at_start": load(),
    }
    if arguments.memory:
        result["memory"] = about | {"runs": measure_memory(arguments, console)}
        result["memory"]["summary"] = summarise_memory(result["memory"]["runs"])
    else:
        with tempfile.TemporaryDirectory(
            prefix="livestain-bench-", dir=arguments.folder, ignore_cleanup_errors=True
        ) as scratch:
            in_flight = (
                int(arguments.in_flight_mb * 2**20) if arguments.in_flight_mb else write_room()
            )
            runs = measure(arguments, in_flight, Path(scratch), console)
        result |= about | {
            "in_flight_mb": round(in_flight / 2**20),
            "runs": runs,
            "summary": summarise(runs),
            "load_at_end": load(),
        }
    out = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(markdown(result, out.name), encoding="utf-8")
    show(result)
    console.print(f"written: {out} and {out.with_suffix('.md')}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[512, 2048], help="side of a plane, in pixels")
    add("--codecs", nargs="+", choices=BLOSC, default=["blosc-lz4", "none"])
    add("--planes", type=int, help="planes a run; without it about 1 GiB of them")
    add("--repeats", type=int, default=7)
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which to run")
    add(
        "--in-flight-mb",
        type=float,
        help="MB of planes on their way to the disk, of livestain and bare tensorstore (ome-writers has no "
        "bound); without it what a run of livestain takes",
    )
    add(
        "--memory",
        action="store_true",
        help="measure peak memory instead, and add it to the result",
    )
    add("--pace", type=float, default=150.0, help="planes a second for --memory; 0 = no pause")
    add("--folder", type=Path, help="where stores are written (the disk that is measured)")
    add("--note", default="", help="what a reader should know, such as: the machine was shared")
    add("--out", type=Path, default=RESULTS / "writing.json", help="the JSON result")
    add("--peak-of", type=int, help=argparse.SUPPRESS)  # this process is one that --memory looks at
    return parser.parse_args()


# ---------------------------------------------------------------------------------- measuring


def measure(
    arguments: argparse.Namespace, in_flight: int, scratch: Path, console: Console
) -> list[dict[str, Any]]:
    """Run everything, repeat by repeat; within a repeat the ways of a condition follow each other."""
    conditions = [(size, codec) for size in arguments.sizes for codec in arguments.codecs]
    rings = {size: camera_planes(size) for size in arguments.sizes}
    runs: list[dict[str, Any]] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    for way in arguments.ways:
        # Once without looking at the clock: imports, threads, and the first allocations.
        one_run(way, rings[arguments.sizes[0]], 8, arguments.codecs[0], in_flight, scratch)
    with Progress(*columns, console=console) as progress:
        total = arguments.repeats * len(conditions) * len(arguments.ways)
        task = progress.add_task("writing", total=total)
        for repeat in range(arguments.repeats):
            for size, codec in conditions:
                planes = arguments.planes or DEFAULT_BYTES // (2 * size * size)
                # Another way goes first each time, so that none always finds the disk tired.
                turn = repeat % len(arguments.ways)
                for way in arguments.ways[turn:] + arguments.ways[:turn]:
                    progress.update(task, description=f"{size}² {codec} {way}")
                    run = one_run(way, rings[size], planes, codec, in_flight, scratch)
                    runs.append({"repeat": repeat, **run})
                    progress.advance(task)
    return runs


def camera_planes(size: int) -> list[NDArray[np.uint16]]:
    """Return different planes of an uneven field with a camera's noise; lz4 with shuffle halves them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    field = 1500 + 300 * np.sin(9 * x) * np.cos(7 * y)
    planes = []
    for _ in range(max(8, RING_BYTES // (2 * size * size))):
        plane = (field + rng.normal(0, 6, field.shape)).astype(np.uint16)
        plane.flags.writeable = False  # a writer may keep a reference, and none may change it
        planes.append(plane)
    return planes


def one_run(
    way: str,
    ring: list[NDArray[np.uint16]],
    planes: int,
    codec: Codec,
    in_flight: int,
    scratch: Path,
) -> dict[str, Any]:
    """Write one store one way, look at what is in it, and remove it."""
    out = scratch / "run.ome.zarr"
    given = (ring[n % len(ring)] for n in range(planes))
    flush_disk()
    gc.collect()
    before = load()
    try:
        began, used = time.perf_counter(), time.process_time()
        WRITERS[way](out, given, planes, ring[0].shape, codec, in_flight)
        seconds, busy = time.perf_counter() - began, time.process_time() - used
        found = look(out / "0", ring, planes)
        levels = [stored(folder) for folder in sorted(out.glob("[1-9]"))]
    finally:
        remove_store(out)
    nbytes = planes * ring[0].nbytes
    return {
        "way": way,
        "size": ring[0].shape[0],
        "codec": codec,
        "planes": planes,
        "load": before,
        "seconds": seconds,
        "cpu_seconds": busy,
        "mb_s": nbytes / 1e6 / seconds,
        "planes_s": planes / seconds,
        **found,
        "lost": planes - found["files"],
        "compression": nbytes / found["bytes"],
        "level_files": sum(files for files, _ in levels),
        "level_bytes": sum(size for _, size in levels),
    }


def look(array: Path, ring: list[NDArray[np.uint16]], planes: int) -> dict[str, Any]:
    """Count the chunk files of level 0 and their bytes, and compare some planes with what was given."""
    files, nbytes = stored(array)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{array.as_posix()}/"}}
    opened = ts.open(spec, read=True).result()
    at = sorted({0, planes // 3, planes // 2, planes - 1})
    wrong = [
        t for t in at if not np.array_equal(opened[t, 0, 0].read().result(), ring[t % len(ring)])
    ]
    if wrong:
        raise RuntimeError(
            f"planes {wrong} of {array} are not what was written: nothing is measured"
        )
    return {"files": files, "bytes": nbytes, "codecs": codecs_of(array)}


def stored(array: Path) -> tuple[int, int]:
    """Return the number of chunk files of an array, and their bytes; a file is a plane, of every way."""
    sizes = [
        path.stat().st_size
        for path in array.rglob("*")
        if path.is_file() and path.name != "zarr.json" and not path.name.endswith(".__lock")
    ]
    return len(sizes), sum(sizes)


def codecs_of(array: Path) -> str:
    """Return the codecs of an array as it says itself, in a line."""
    metadata = json.loads((array / "zarr.json").read_text(encoding="utf-8"))
    chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    if math.prod(chunk[:-2]) != 1 or chunk[-2:] != metadata["shape"][-2:]:
        raise RuntimeError(f"{array} has other files than one a plane: nothing is measured")

    def words(codec: dict[str, Any]) -> str:
        how = codec.get("configuration", {})
        if codec["name"] == "blosc":
            return f"blosc({how['cname']} {how['clevel']}, {how['shuffle']})"
        if codec["name"] == "sharding_indexed":
            inner = " > ".join(words(each) for each in how["codecs"])
            return f"shard of {math.prod(chunk) // math.prod(how['chunk_shape'])}({inner})"
        return str(codec["name"])

    return " > ".join(words(codec) for codec in metadata["codecs"])


# ---------------------------------------------------------------------------------- writers


def by_livestain(
    out: Path,
    given: Iterator[NDArray[np.uint16]],
    planes: int,
    shape: tuple[int, int],
    codec: Codec,
    in_flight: int,
    on_committed: Callable[[PlaneIndex, int, int], None] = lambda *_: None,
    before_close: Callable[[Store], None] = lambda _: None,
    on_store: Callable[[Store], None] = lambda _: None,
) -> None:
    """Write as a run does: the frame's facts in the journal after each plane's commit."""
    errors: list[BaseException] = []
    with (
        create_store(out, a_plan(planes, shape, codec)) as store,
        Journal(journal_path(out)) as journal,
    ):
        on_store(store)
        recorder = Recorder(
            store,
            journal,
            max_bytes=in_flight,
            on_committed=on_committed,
            on_error=errors.append,
        )
        with contextlib.closing(recorder):
            for t, image in enumerate(given):
                meta = {
                    "runner_time_ms": 10.0 * t,
                    "exposure_ms": 10.0,
                    "position": {"x": 12.5, "y": -3.25, "z": 101.0},
                    "camera_metadata": {"ImageNumber": str(t)},
                }
                recorder.record(PlaneIndex(0, t, 0, 0), image, meta, time.perf_counter_ns())
        before_close(store)
    if errors:
        raise errors[0]


def by_livestain_pyramid(
    out: Path,
    given: Iterator[NDArray[np.uint16]],
    planes: int,
    shape: tuple[int, int],
    codec: Codec,
    in_flight: int,
) -> None:
    """Write as a run does, and levels as its worker does: each plane is read again once it is committed."""
    committed: queue.SimpleQueue[PlaneIndex | None] = queue.SimpleQueue()
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []

    def write_levels(store: Store) -> None:
        try:
            while (index := committed.get()) is not None:
                store.write_levels(index, store.read(index))
        except BaseException as error:
            errors.append(error)

    def start(store: Store) -> None:
        threads.append(threading.Thread(target=write_levels, args=(store,)))
        threads[0].start()

    def finish(_: Store) -> None:
        committed.put(None)
        threads[0].join()

    by_livestain(
        out,
        given,
        planes,
        shape,
        codec,
        in_flight,
        on_committed=lambda index, *_: committed.put(index),
        before_close=finish,
        on_store=start,
    )
    if errors:
        raise errors[0]


def by_livestain_store(
    out: Path,
    given: Iterator[NDArray[np.uint16]],
    planes: int,
    shape: tuple[int, int],
    codec: Codec,
    in_flight: int,
) -> None:
    """Write by `Store.write` alone, with a bound on the bytes on their way and no journal."""
    with create_store(out, a_plan(planes, shape, codec)) as store:
        writes = (store.write(PlaneIndex(0, t, 0, 0), image) for t, image in enumerate(given))
        bounded(writes, in_flight // (2 * shape[0] * shape[1]))


def a_plan(planes: int, shape: tuple[int, int], codec: Codec) -> StorePlan:
    return StorePlan(
        n_t=planes,
        n_z=1,
        height=shape[0],
        width=shape[1],
        pixel_size_um=PIXEL_SIZE_UM,
        channels=(
            ChannelPlan(
                name="Brightfield", kind="raw", planned=(PlannedBlock(t=range(planes), z=(0,)),)
            ),
        ),
        codec=codec,
    )


def bounded(writes: Iterator[Any], most: int) -> None:
    """Start writes, at most so many at a time, and wait for all of them."""
    pending: deque[Any] = deque()
    for write in writes:
        pending.append(write)
        while len(pending) > max(most, 1) or (pending and pending[0].done()):
            pending.popleft().result()
    for write in pending:
        write.result()


def by_tensorstore(*, crc32c: bool, fsync: bool) -> Callable[..., None]:
    """Return a writer by tensorstore and nothing else: the same files as livestain's, by index."""

    def write(
        out: Path,
        given: Iterator[NDArray[np.uint16]],
        planes: int,
        shape: tuple[int, int],
        codec: Codec,
        in_flight: int,
    ) -> None:
        codecs: list[dict[str, Any]] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            *({"name": "blosc", "configuration": blosc} for blosc in BLOSC[codec]),
        ]
        if crc32c:
            codecs.append({"name": "crc32c"})
        grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1, *shape]}}
        key = {"name": "default", "configuration": {"separator": "."}}
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{(out / '0').as_posix()}/"},
            "context": {"cache_pool": {"total_bytes_limit": 0}, "file_io_sync": fsync},
            "store_data_equal_to_fill_value": True,
            "metadata": {
                "shape": [planes, 1, 1, *shape],
                "data_type": "uint16",
                "fill_value": 0,
                "chunk_grid": grid,
                "chunk_key_encoding": key,
                "codecs": codecs,
            },
        }
        array = ts.open(spec, create=True, delete_existing=True).result()
        bounded(
            (
                array[t, 0, 0].write(image, can_reference_source_data_indefinitely=True).commit
                for t, image in enumerate(given)
            ),
            in_flight // (2 * shape[0] * shape[1]),
        )

    return write


def by_ome_writers(backend: str) -> Callable[..., None]:
    """Return a writer by one of ome-writers' backends, which has no bound on what is on its way."""

    def write(
        out: Path,
        given: Iterator[NDArray[np.uint16]],
        planes: int,
        shape: tuple[int, int],
        codec: Codec,
        _: int,
    ) -> None:
        from ome_writers import (
            AcquisitionSettings,
            OmeZarrFormat,
            create_stream,
            dims_from_standard_axes,
        )

        settings = AcquisitionSettings(
            root_path=str(out),
            dimensions=dims_from_standard_axes(
                {"t": planes, "c": 1, "z": 1, "y": shape[0], "x": shape[1]}
            ),
            dtype="uint16",
            compression=codec,
            format=OmeZarrFormat(backend=backend),
        )
        with create_stream(settings) as stream:
            for image in given:
                stream.append(image)

    return write


WRITERS: dict[str, Callable[..., None]] = {
    "livestain": by_livestain,
    "livestain-store": by_livestain_store,
    "livestain-pyramid": by_livestain_pyramid,
    "tensorstore": by_tensorstore(crc32c=True, fsync=False),
    "tensorstore-plain": by_tensorstore(crc32c=False, fsync=False),
    "tensorstore-fsync": by_tensorstore(crc32c=True, fsync=True),
    "ome-writers-tensorstore": by_ome_writers("tensorstore"),
    "ome-writers-zarr-python": by_ome_writers("zarr-python"),
    "ome-writers-acquire-zarr": by_ome_writers("acquire-zarr"),
}


# ---------------------------------------------------------------------------------- memory


def measure_memory(arguments: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Write few and many planes, each time in a fresh process, and let it tell its peak."""
    if not Path("/proc/self/status").is_file():
        sys.exit("--memory reads /proc, so it runs on Linux alone.")
    runs = []
    for repeat in range(arguments.repeats):
        for planes in MEMORY_PLANES:
            flush_disk()
            command = [
                sys.executable,
                __file__,
                "--peak-of",
                str(planes),
                "--pace",
                str(arguments.pace),
            ]
            if arguments.folder:
                command += ["--folder", str(arguments.folder)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs.append({"repeat": repeat, **json.loads(told)})
            console.print(runs[-1])
    return runs


def peak_memory(planes: int, pace: float, folder: Path | None) -> dict[str, Any]:
    """Write planes as a run does, each in memory of its own as a camera's; return what was needed."""
    ring = camera_planes(MEMORY_SIZE)[:16]
    samples: list[float] = []
    began = time.perf_counter()

    def camera() -> Iterator[NDArray[np.uint16]]:
        for n in range(planes):
            if pace:
                time.sleep(max(0.0, began + n / pace - time.perf_counter()))
            if n % MEMORY_LOOK == 0:
                samples.append(memory_mb("VmRSS"))
            yield ring[n % len(ring)].copy()

    with tempfile.TemporaryDirectory(prefix="livestain-bench-", dir=folder) as scratch:
        out = Path(scratch) / "run.ome.zarr"
        before = memory_mb("VmRSS")
        began = time.perf_counter()
        by_livestain(
            out,
            camera(),
            planes,
            (MEMORY_SIZE, MEMORY_SIZE),
            "blosc-lz4",
            MEMORY_IN_FLIGHT_MB * 2**20,
        )
        seconds = time.perf_counter() - began
        peak, after = memory_mb("VmHWM"), memory_mb("VmRSS")
        files, _ = stored(out / "0")
    return {
        "planes": planes,
        "size": MEMORY_SIZE,
        "in_flight_mb": MEMORY_IN_FLIGHT_MB,
        "pace": pace,
        "given_mb": round(planes * ring[0].nbytes / 2**20),
        "lost": planes - files,
        "before_mb": before,
        "while_writing_mb": statistics.median(samples),
        "peak_mb": peak,
        "after_mb": after,
        "mb_s": planes * ring[0].nbytes / 1e6 / seconds,
    }


def memory_mb(name: str) -> float:
    # Of this program alone; getrusage's peak is also that of the process that started it.
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return round(int(lines[name].split()[0]) / 1024, 1)


def summarise_memory(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    summary = []
    for planes in MEMORY_PLANES:
        here = [run for run in runs if run["planes"] == planes]
        keys = ("before_mb", "while_writing_mb", "peak_mb", "after_mb", "mb_s")
        summary.append(
            {
                "planes": planes,
                "given_mb": here[0]["given_mb"],
                "lost": sum(run["lost"] for run in here),
                **{key: spread(here, key) for key in keys},
            }
        )
    return summary


# ---------------------------------------------------------------------------------- telling


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return median, min and max by condition, and ratios of runs of the same repeat."""
    summary = []
    for size, codec in dict.fromkeys((run["size"], run["codec"]) for run in runs):
        here = [run for run in runs if (run["size"], run["codec"]) == (size, codec)]
        ways = {way: [run for run in here if run["way"] == way] for way in WAYS}
        ways = {way: those for way, those in ways.items() if those}
        row: dict[str, Any] = {"size": size, "codec": codec, "planes": here[0]["planes"]}
        for key in ("mb_s", "planes_s", "cpu_seconds", "compression"):
            row[key] = {way: spread(those, key) for way, those in ways.items()}
        for key in ("files", "bytes", "level_files", "level_bytes", "codecs"):
            row[key] = {way: those[-1][key] for way, those in ways.items()}
        row["lost"] = {way: sum(run["lost"] for run in those) for way, those in ways.items()}
        row["ratios"] = {
            f"{above} / {below}": ratio(ways[above], ways[below], "mb_s")
            for above, below in RATIOS
            if above in ways and below in ways
        }
        summary.append(row)
    return summary


def rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the table's head and rows: a column a condition."""
    summary = result["summary"]
    head = ["", *(f"{s['size']}² {s['codec']}" for s in summary)]
    body = [["planes a run", *(str(s["planes"]) for s in summary)]]
    for way, words in WAYS.items():
        if any(way in s["mb_s"] for s in summary):
            body.append([f"MB/s: {words}", *(told(s["mb_s"].get(way)) for s in summary)])
    for above, below in RATIOS:
        name = f"{above} / {below}"
        if any(name in s["ratios"] for s in summary):
            body.append([f"ratio {name}", *(told(s["ratios"].get(name), 2) for s in summary)])
    lost = [", ".join(f"{way} {n}" for way, n in s["lost"].items() if n) or "0" for s in summary]
    return head, [*body, ["planes lost, all repeats", *lost]]


def show(result: dict[str, Any]) -> None:
    tables = []
    if "summary" in result:
        tables.append(("to close, median [min-max]", *rows(result)))
    if "memory" in result:
        tables.append(("memory, median [min-max]", *memory_rows(result["memory"])))
    for title, head, body in tables:
        shown = Table(title=title)
        for name in head:
            shown.add_column(name)
        for row in body:
            shown.add_row(*row)
        Console().print(shown)


def memory_rows(memory: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    summary = memory["summary"]
    names = {
        "before_mb": "MB of the process before the first plane",
        "while_writing_mb": f"MB while it writes, median of a look every {MEMORY_LOOK} planes",
        "peak_mb": "MB at its peak",
        "after_mb": "MB when the store was closed",
        "mb_s": "MB/s to close",
    }
    head = ["planes", *(f"{s['planes']:,}" for s in summary)]
    body = [["MB of planes given", *(f"{s['given_mb']:,}" for s in summary)]]
    body += [[name, *(told(s[key]) for s in summary)] for key, name in names.items()]
    body.append(["planes lost", *(str(s["lost"]) for s in summary)])
    return head, body


def markdown(result: dict[str, Any], source: str) -> str:
    lines = ["# Write throughput to close, and memory", ""]
    if "summary" in result:
        lines += [
            *about_run(result, source),
            (
                "- Planes of a camera's noise on an uneven field, one chunk and one file a plane. MB are of "
                "the planes as the camera gives them."
            ),
            (
                f"- On their way to the disk at most {result['in_flight_mb']} MB, of livestain and bare "
                "tensorstore; ome-writers has no such bound, and is given no metadata of frames to keep."
            ),
            "",
            *as_table(*rows(result)),
            "",
            "What each way stored of level 0, as its own metadata says it:",
            "",
            *as_table(*stored_rows(result["summary"])),
            "",
        ]
    if "memory" in result:
        memory = result["memory"]
        bound, per_second = (memory["runs"][0][key] for key in ("in_flight_mb", "pace"))
        pace = f"{per_second:g} planes a second" if per_second else "as fast as it takes planes"
        lines += [
            f"## Peak memory, {MEMORY_SIZE}²",
            "",
            *about_run(memory, source),
            (
                f"- livestain as in a run, each run in a fresh process, {pace}, each of them in memory of "
                f"its own; at most {bound} MB of them on their way to the disk."
            ),
            "",
            *as_table(*memory_rows(memory)),
            "",
        ]
    return "\n".join(lines)


def about_run(about: dict[str, Any], source: str) -> list[str]:
    machine = about["hardware"]
    packages = (
        "livestain",
        "tensorstore",
        "zarr",
        "ome-writers",
        "acquire-zarr",
        "yaozarrs",
        "numpy",
    )
    found = [f"{name} {about['versions'][name]}" for name in packages if name in about["versions"]]
    until = f" to {about['load_at_end']}" if "load_at_end" in about else ""
    lines = [
        (
            f"From `{source}` ({about['date'][:10]}), made by `{about['command']}`; median [min-max]; what "
            "each line means: ../README.md."
        ),
        "",
        (
            f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB; "
            f"{machine['system']}. Load average {about['load_at_start']}{until}."
        ),
        f"- {', '.join(found)}.",
    ]
    return [*lines, *([f"- {about['note']}"] if about["note"] else [])]


def stored_rows(summary: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    head = ["codec", "way", "codecs", *(f"MB at {size}²" for size in sizes_of(summary))]
    body = []
    for codec in dict.fromkeys(s["codec"] for s in summary):
        those = [s for s in summary if s["codec"] == codec]
        for way in those[0]["codecs"]:
            sizes = [f"{s['bytes'][way] / 1e6:.0f} in {s['files'][way]} files" for s in those]
            body.append([codec, way, those[0]["codecs"][way], *sizes])
    return head, body


def sizes_of(summary: list[dict[str, Any]]) -> list[int]:
    return list(dict.fromkeys(s["size"] for s in summary))


def as_table(head: list[str], body: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in body]


def all_versions() -> dict[str, str]:
    found = versions()
    for name in ("acquire-zarr", "yaozarrs", "numpy", "numcodecs"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    main()

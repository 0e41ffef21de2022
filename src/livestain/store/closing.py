"""At a run's end, what the journal knows goes into the store too, since people copy stores."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import StoreError
from livestain.store.arrays import Layout, open_array
from livestain.store.asked import planes_asked_for
from livestain.store.journal import journal_lines, journal_path, read_journal
from livestain.store.statistics import channel_statistics
from livestain.store.status import last_words
from livestain.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from livestain.store.store import Store

__all__ = ["finalise", "settle"]

_GROUP = "livestain"

_NOTE = (
    "Per plane, from the journal of the run: position, then axes t, c, z of array 0; NaN where nothing is "
    "known. time_s: seconds since 1970 (UTC) at which the line was written; camera_time_ms, exposure_ms, "
    "latency_ms*: milliseconds; x_um, y_um, z_um: position of the stages in micrometres."
)


def settle(store: Store) -> None:
    """Give a store of an open end its end, once nothing more will come: what was asked for is its plan.

    Parameters
    ----------
    store : Store
        Open for writing, its journal beside it.

    Raises
    ------
    StoreError
        If its end is not open, or it cannot be written.
    """
    told = last_words(journal_lines(store.path)).missing
    there = store.present_grid()
    store.settle(planes_asked_for(store.plan, there, told))


def finalise(path: Path | str) -> None:
    """Write times, stage positions, latencies and quality into the store, and how bright its channels are.

    In the group `livestain`, each number that the journal has for planes becomes an array of float64
    (p, t, c, z), NaN where there is none; nested names are joined by "_" (latency_ms_total). In the
    attributes, `statistics` of each channel, from which viewers' windows of raw channels are set. Doing it
    again replaces all of it.

    Parameters
    ----------
    path : Path
        The store; its journal lies beside it.

    Raises
    ------
    StoreError
        If there is no store or no journal, or the store cannot be written.
    """
    with open_store(path, mode="r+") as store:
        root, plan = store.path, store.plan
    shape = (plan.n_p, plan.n_t, len(plan.channels) - plan.first_c, plan.n_z)
    group = root / _GROUP
    # A store that was copied without its journal has them here alone; the journal wins where it speaks.
    columns = _known(group, shape)
    for line in read_journal(journal_path(root)):
        place = line.get("index")
        if line.get("kind") not in ("plane", "stained") or not isinstance(place, list):
            continue
        p, t, c, z = place
        at = p, t, c - plan.first_c, z
        if any(not 0 <= a < n for a, n in zip(at, shape, strict=True)):
            continue  # of a time point that the end of the run has cut off
        for name, value in _numbers(line):
            if name not in columns:
                columns[name] = np.full(shape, np.nan)
            columns[name][at] = value

    try:
        group.mkdir(exist_ok=True)
        for name, column in columns.items():
            layout = Layout(
                shape=shape,
                chunk_shape=shape,
                dtype="float64",
                fill_value="NaN",
                dimension_names=("p", "t", "c", "z"),
                codec="blosc-zstd",
            )
            array = open_array(group / name, mode="r+", create=layout)
            array.write(column).result()
        attributes = {"description": _NOTE, "arrays": sorted(columns)}
        text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
        (group / "zarr.json").write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StoreError(
            f"Cannot write the group '{_GROUP}' of {root}: {error}. Expected a folder that can be "
            "written to, on a disk with space; the journal beside the store has it all."
        ) from error
    with open_store(path, mode="r+") as store:
        _write_statistics(store)


def _known(
    group: Path, shape: tuple[int, int, int, int]
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the arrays that are there, in a shape that may have grown or shrunk since."""
    columns = {}
    for folder in sorted(group.iterdir()) if group.is_dir() else ():
        if not (folder / "zarr.json").is_file():
            continue
        column = np.full(shape, np.nan)
        with suppress(StoreError, ValueError, OSError):  # damaged: the journal has them, or nobody
            told = np.asarray(open_array(folder).read().result(), dtype=np.float64)
            if told.ndim == len(shape):
                common = tuple(slice(min(a, b)) for a, b in zip(told.shape, shape, strict=True))
                column[common] = told[common]
        columns[folder.name] = column
    return columns


def _write_statistics(store: Store) -> None:
    told = {}
    for c in range(store.plan.first_c, len(store.plan.channels)):
        channel = store.plan.channels[c]
        # A damaged plane is told when it is read, and costs no run its end; so does a viewer that holds
        # the file of the window open, on Windows.
        with suppress(StoreError):
            found = channel_statistics(store, c)
            if found is None:
                continue
            told[channel.name] = found.to_dict()
            if channel.kind == "raw":
                start, end = found.window
                store.set_display(c, float(start), float(max(end, start + 1)))
    store.update_attributes({"statistics": told})


def _numbers(line: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        name = prefix + re.sub(r"[^A-Za-z0-9_.-]", "_", key)
        if name in ("kind", "index"):
            continue
        if name == "time":
            yield "time_s", datetime.fromisoformat(value).timestamp()
        elif isinstance(value, dict):
            yield from _numbers(value, f"{name}_")
        elif isinstance(value, (int, float)):
            yield name, float(value)

"""Planes of a finished run merged into larger files, since 10,000 small ones are slow to copy."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from livestain.errors import StoreError
from livestain.store.arrays import open_array, plane_layout, together
from livestain.store.chunks import ArrayFiles
from livestain.store.group import read_group, write_group
from livestain.store.journal import Journal, journal_path
from livestain.store.levels import dataset_paths
from livestain.store.lock import StoreLock
from livestain.store.pyramid import level_shapes
from livestain.store.status import STOPPED, store_status
from livestain.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from livestain.store.plan import StorePlan
    from livestain.store.store import Store

__all__ = ["Compacted", "compact_store"]

_FILE_MB = 64.0
"""Pixels of a file before compression, by default. A later prediction into a compacted store writes such a
file anew with each of its planes, so that more would slow that down."""

_PLANES_MOST = 1024

_NAME = re.compile(r"^(\d+)(?:\.(\d+))?$")


@dataclass(frozen=True)
class Compacted:
    """What a compaction did.

    Attributes
    ----------
    store : str
        Path of the store.
    planes : int
        Planes of level 0 that were merged now; each was compared with what it had been.
    files_before, files_after : int
        Files of planes in all levels.
    bytes_before, bytes_after : int
        Their sizes.
    """

    store: str
    planes: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


class _Merge(NamedTuple):
    """One array to be merged: from which files, into which folder."""

    old: ArrayFiles
    new: Path


def compact_store(
    store: Path | str,
    *,
    file_mb: float = _FILE_MB,
    unfinished: bool = False,
    break_lock: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Compacted:
    """Merge the planes of a store into larger files, each of one channel of one position.

    Of each image the new arrays are written beside the old ones and every plane is compared; then the
    image's group names the new ones, in one step for all its levels; only then the old ones are removed. A
    crash at any moment leaves a whole store; what it left behind is cleared away by the next compaction.
    Planes that are not there stay missing, and can still be predicted.

    Parameters
    ----------
    store : Path
        RUN.ome.zarr, of a run that is over.
    file_mb : float
        Megabytes of pixels in one file, before compression; so much is held in memory.
    unfinished : bool
        Whether to compact a run too that `livestain resume` could still go on with; it cannot afterwards,
        since a run needs a file for each plane.
    break_lock : bool
        See `StoreLock`.
    progress : callable, optional
        Called as ``(done, of)`` in planes of all levels, written or compared.

    Returns
    -------
    Compacted

    Raises
    ------
    StoreError
        If there is no store, another process writes to it, its run could be resumed, a plane is damaged, or
        the disk has no room for a second copy of a position. The store is then as it was.
    """
    path = Path(store).resolve()
    if not file_mb > 0:
        raise StoreError(f"A file holds {file_mb:g} MB of pixels; give more than 0.")
    with open_store(path) as opened:
        if opened.plan.open_end:
            raise StoreError(
                f"The run of {path.name} has not come to its end. After a crash `livestain restain` gives it "
                "one."
            )
    with StoreLock(path, "compact", break_lock=break_lock):
        if not unfinished:
            _refuse_unfinished(path)
        with open_store(path, mode="r+") as opened:
            opened.remove_stale_writes()
            for c in range(opened.plan.first_c, len(opened.plan.channels)):
                for index in opened.levels_missing(c):
                    opened.write_levels(index, opened.read(index))
            return _compact(opened, file_mb, progress)


def _compact(
    store: Store, file_mb: float, progress: Callable[[int, int], None] | None
) -> Compacted:
    plan = store.plan
    images = [store.path / position.path for position in plan.positions]
    levels = level_shapes(plan.height, plan.width)
    there = store.present_grid()[:, :, plan.first_c :]
    planes = int(there.sum())
    done, total = 0, 2 * planes * len(levels)
    merged = 0
    before = after = (0, 0)
    span = _span(plan, file_mb)
    for p, image in enumerate(images):
        paths = dataset_paths(read_group(image), image)
        _clear(image, keep=paths)
        merges = [_Merge(ArrayFiles.read(image / name), image / _next(name)) for name in paths]
        sizes = [_size(merge.old.folder) for merge in merges]
        before = _sum(before, *sizes)
        if all((merge.old.times, merge.old.depths) == span for merge in merges):
            # Compacted before, perhaps by a compaction that was then cut short.
            after = _sum(after, *sizes)
            total -= 2 * int(there[p].sum()) * len(levels)
            continue
        _check_room(image, merges)
        try:
            for merge in merges:
                for step in (_write, _compare):
                    for n in step(merge, there[p], plan, span):
                        done += n
                        if progress is not None:
                            progress(done, total)
            group = read_group(image)
            datasets = group["attributes"]["ome"]["multiscales"][0]["datasets"]
            for dataset, merge in zip(datasets, merges, strict=True):
                dataset["path"] = merge.new.name
            # Before the old files go: what a power cut would take back must not be all there is.
            _to_disk(file for merge in merges for file in merge.new.iterdir())
            write_group(image, group)
        except BaseException as error:
            if dataset_paths(read_group(image), image) == paths:
                for merge in merges:
                    _remove(merge.new)
            if isinstance(error, (OSError, ValueError)) and not isinstance(error, StoreError):
                raise StoreError(
                    f"Cannot compact {store.path}: {error}. It is as it was; expected planes that can be "
                    "read, and a disk with room for a second copy of a position."
                ) from error
            raise
        _to_disk([image / "zarr.json"])
        merged += int(there[p].sum())
        after = _sum(after, *(_size(merge.new) for merge in merges))
        for merge in merges:
            _remove(merge.old.folder)
    facts = Compacted(str(store.path), merged, before[0], after[0], before[1], after[1])
    if merged and (journal := journal_path(store.path)).exists():
        with Journal(journal) as lines:
            lines.append("compacted", planes=merged, files=facts.files_after)
    return facts


def _refuse_unfinished(path: Path) -> None:
    """Refuse a run that `livestain resume` could go on with.

    Raises
    ------
    StoreError
    """
    status = store_status(path)
    # Of a run that was stopped, what was not taken is told as missing, and may still be taken.
    left = status.raw.owed + status.raw.reasons.get(STOPPED, 0)
    if left:
        raise StoreError(
            f"{left} planes of {path.name} were never taken, and `livestain resume` could still take them, "
            "but not after compacting. Resume it first, or compact it --unfinished."
        )


def _span(plan: StorePlan, file_mb: float) -> tuple[int, int]:
    """Return how many time points and z-planes lie in a file: whole stacks, as far as they fit."""
    fit = int(file_mb * 1e6 / (2 * plan.height * plan.width))
    most = min(max(fit, 1), _PLANES_MOST)
    depths = min(plan.n_z, most)
    return min(max(most // depths, 1), plan.n_t), depths


def _next(name: str) -> str:
    """Return the folder of a level's next array: "0", "0.1", "0.2"."""
    match = _NAME.match(name)
    if match is None:
        raise StoreError(
            f"The level '{name}' has a name that livestain does not give; expected '0' or '0.1'."
        )
    return f"{match[1]}.{int(match[2] or 0) + 1}"


def _clear(image: Path, keep: list[str]) -> None:
    """Remove arrays that the image does not name, which an interrupted compaction left."""
    for folder in image.iterdir():
        if folder.is_dir() and _NAME.match(folder.name) and folder.name not in keep:
            # Nothing but an array, or what is left of one.
            names = [entry.name for entry in folder.iterdir()]
            if all(name == "zarr.json" or name.startswith("c.") for name in names):
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove an array; what is held open, as viewers do on Windows, stays for the next compaction."""
    shutil.rmtree(folder, ignore_errors=True)


def _to_disk(files: Iterable[Path]) -> None:
    for file in files:
        with file.open("r+b") as opened:
            os.fsync(opened.fileno())


def _check_room(image: Path, merges: list[_Merge]) -> None:
    needed = sum(_size(merge.old.folder)[1] for merge in merges)
    free = shutil.disk_usage(image).free
    if needed > free:
        raise StoreError(
            f"Compacting {image} needs {needed / 1e6:,.1f} MB beside it until the old files are removed, and "
            f"the disk has {free / 1e6:,.1f} MB free. Make room."
        )


def _blocks(
    there: NDArray[np.bool_], span: tuple[int, int]
) -> Iterator[tuple[int, int, int, list[tuple[int, int, int]]]]:
    """Yield what lies in one file: its first t, c and z, and the planes (t, c, z) of it that are there."""
    n_t, n_c, n_z = there.shape
    times, depths = span
    for c in range(n_c):
        for t in range(0, n_t, times):
            for z in range(0, n_z, depths):
                found = np.argwhere(there[t : t + times, c, z : z + depths])
                if len(found):
                    yield t, c, z, [(t + int(a), c, z + int(b)) for a, b in found]


def _write(
    merge: _Merge, there: NDArray[np.bool_], plan: StorePlan, span: tuple[int, int]
) -> Iterator[int]:
    old = open_array(merge.old.folder)
    layout = plane_layout(old.shape, plan.codec, times=span[0], depths=span[1])
    new = open_array(merge.new, mode="r+", create=layout)
    for *_, planes in _blocks(there, span):
        with together(new) as writing:
            for at in planes:
                writing[at].write(_read(old, at, merge)).result()
        yield len(planes)


def _compare(
    merge: _Merge, there: NDArray[np.bool_], plan: StorePlan, span: tuple[int, int]
) -> Iterator[int]:
    """Read every plane of both arrays anew, from the disk."""
    del plan
    files = ArrayFiles.read(merge.new)
    if not np.array_equal(files.present(there.shape), there):
        raise StoreError(
            f"The merged files in {merge.new} do not hold the planes they should. The store is as it was; "
            "is the disk in order?"
        )
    old, new = open_array(merge.old.folder), open_array(merge.new)
    for *_, planes in _blocks(there, span):
        for at in planes:
            if not np.array_equal(_read(old, at, merge), new[at].read().result()):
                raise StoreError(
                    f"The plane t={at[0]} c={at[1]} z={at[2]} was written to {merge.new} and read back "
                    "differently. The store is as it was; is the disk in order?"
                )
        yield len(planes)


def _read(array: Any, at: tuple[int, int, int], merge: _Merge) -> NDArray[np.uint16]:
    try:
        plane: NDArray[np.uint16] = array[at].read().result()
    except (ValueError, OSError) as error:
        raise StoreError(
            f"The plane t={at[0]} c={at[1]} z={at[2]} in {merge.old.folder} is damaged or cannot be read: "
            f"{error}. Nothing was changed. Restore {merge.old.file_of(*at).name} from a copy, or remove it, "
            "and the plane counts as missing."
        ) from error
    return plane


def _size(folder: Path) -> tuple[int, int]:
    """Return number and bytes of the files of planes in a folder."""
    sizes = [file.stat().st_size for file in folder.glob("c.*")]
    return len(sizes), sum(sizes)


def _sum(*pairs: tuple[int, int]) -> tuple[int, int]:
    return sum(n for n, _ in pairs), sum(size for _, size in pairs)

"""Runs as OME-TIFF, for programs that do not read OME-Zarr."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from livestain.errors import StoreError
from livestain.files import replacing
from livestain.store.layout import position_name, run_name
from livestain.store.ome_xml import tiff_xml
from livestain.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livestain.planes import PlaneIndex
    from livestain.store.store import Store

__all__ = ["Exported", "export_tiff"]

_CLASSIC = 2**32 - 2**26
"""Bytes of planes from which a file needs the large format; the rest of 4 GiB is for the pages."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    files : tuple of Path
        One a position.
    planes : int
        Planes in them.
    missing : int
        Planes of the plan that are not there.
    holes : int
        Places without a plane, planned or not: they have no page, and other programs show them black.
    """

    files: tuple[Path, ...]
    planes: int
    missing: int
    holes: int


def export_tiff(
    store: Path | str,
    out: Path | str | None = None,
    *,
    overwrite: bool = False,
    compress: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a run's planes as OME-TIFF, one file a position; the store is only read.

    Counts are as stored, in uint16; a predicted channel says so in its name, and an annotation of the file
    says what its counts mean. Another one says of simulated cells that they are.

    Parameters
    ----------
    store : Path
        RUN.ome.zarr, also while the run goes on.
    out : Path, optional
        The file, RUN.ome.tif; with several positions their names are put before the ending. By default beside
        the store.
    overwrite : bool
        Whether files that are there may be replaced.
    compress : bool
        Without loss (deflate); smaller and slower.
    progress : callable, optional
        Called as ``(written, of)``.

    Returns
    -------
    Exported

    Raises
    ------
    StoreError
        If there is no store, nothing in it, a plane is damaged, or a file is there or cannot be written.
    """
    path = Path(store).resolve()
    name = run_name(path)
    target = Path(out).absolute() if out is not None else path.with_name(f"{name}.ome.tif")
    if not target.name.lower().endswith((".tif", ".tiff")):
        raise StoreError(f"The output {target} is no TIFF file; give for example {target}.ome.tif.")
    with open_store(path) as opened:
        planes = _present(opened)
        here = range(opened.plan.first_c, len(opened.plan.channels))
        wanted = sum(len(opened.plan.planned_indices(c)) for c in here)
        written = sum(map(len, planes.values()))
        room = len(planes) * opened.plan.n_t * len(here) * opened.plan.n_z
        if not written:
            raise StoreError(f"{path} holds no plane yet, so there is nothing to export.")
        files = {p: _file_of(opened, target, p) for p in planes}
        if not overwrite and (there := [file for file in files.values() if file.exists()]):
            raise StoreError(
                f"{there[0]} exists already. Give another name, or --overwrite to replace it."
            )
        done = 0
        try:
            for p, file in files.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as part:
                    for _ in _write(opened, part, name, p, planes[p], compress=compress):
                        done += 1
                        if progress is not None:
                            progress(done, written)
        except OSError as error:
            raise StoreError(
                f"Cannot write {file}: {error.strerror or error}. Expected a folder that can be written to, "
                "on a disk with space."
            ) from error
    return Exported(tuple(files.values()), written, max(0, wanted - written), room - written)


def _present(store: Store) -> dict[int, list[PlaneIndex]]:
    """Return the planes that are there by position, in the order of their pages."""
    planes: dict[int, list[PlaneIndex]] = {}
    for index in sorted(store.present_indices()):
        planes.setdefault(index.p, []).append(index)
    return planes


def _file_of(store: Store, target: Path, p: int) -> Path:
    if store.plan.n_p == 1:
        return target
    stem, dot, ending = target.name.partition(".ome.tif")
    if not dot:
        stem, ending = target.stem, ""
        dot = target.suffix
    safe = "".join(ch if ch.isalnum() or ch in "-_" else "_" for ch in position_name(store.plan, p))
    # Two positions may have one name.
    return target.with_name(f"{stem}_{p:03d}-{safe}{dot}{ending}")


def _write(
    store: Store, part: Path, name: str, p: int, planes: list[PlaneIndex], *, compress: bool
) -> Iterator[PlaneIndex]:
    import tifffile

    pixels = store.plan.height * store.plan.width * 2
    simulated = store.attributes.get("simulated") is True
    with tifffile.TiffWriter(part, bigtiff=len(planes) * pixels > _CLASSIC) as tiff:
        for n, index in enumerate(planes):
            tiff.write(
                store.read(index),
                # As bytes, since it has a micro sign, and the library takes text for ASCII.
                description=tiff_xml(store.plan, name, p, planes, simulated=simulated).encode()
                if n == 0
                else None,
                contiguous=False,
                photometric="minisblack",
                compression="adobe_deflate" if compress else None,
                metadata=None,
            )
            yield index

"""The one place that opens arrays, and the only one that knows tensorstore.

Every array is opened with the same flags, since a store is only as true as its least careful
opener: zeros are stored (an opener without that flag DELETES a plane when it writes zeros), what is
missing is an error on reading and never zeros, and nothing is kept in memory between two calls, so
that what another process has written is seen.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorstore as ts

from livestain.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.store.plan import Codec

__all__ = ["Layout", "Mode", "chunk_file", "open_array", "present_chunks", "resize_array"]

Mode = Literal["r", "r+"]

# "c.T.C.Z.0.0": all planes of a level lie in one folder, so that a plane is one file and no folders
# of its own (docs/decisions/0005-store-files.md).
_SEPARATOR = "."

_CODECS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "blosc-lz4": [{"cname": "lz4", "clevel": 5, "shuffle": "shuffle"}],
    "blosc-zstd": [{"cname": "zstd", "clevel": 3, "shuffle": "shuffle"}],
}


class Layout:
    """What a new array is like.

    Parameters
    ----------
    shape, chunk_shape : sequence of int
    dtype : str
        A Zarr data type: "uint16", "float64".
    fill_value : int or str
        What a missing chunk reads as for other programs: 0, or "NaN".
    dimension_names : sequence of str
    codec : {"blosc-lz4", "blosc-zstd", "none"}
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        chunk_shape: Sequence[int],
        dtype: str,
        fill_value: int | str,
        dimension_names: Sequence[str],
        codec: Codec,
    ) -> None:
        itemsize = np.dtype(dtype).itemsize
        self.metadata: dict[str, Any] = {
            "shape": list(shape),
            "data_type": dtype,
            "fill_value": fill_value,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": _SEPARATOR},
            },
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                *(
                    {"name": "blosc", "configuration": {**blosc, "typesize": itemsize}}
                    for blosc in _CODECS[codec]
                ),
                # Last, so that a damaged file is an error and never pixels.
                {"name": "crc32c"},
            ],
            "dimension_names": list(dimension_names),
        }


@functools.cache
def _context() -> Any:
    """Return what all arrays of this process share."""
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": 0},
            # A killed process loses nothing that was written; a power cut may cost the last seconds,
            # and then the checksum says so (docs/decisions/0005-store-files.md).
            "file_io_sync": False,
        }
    )


def open_array(path: Path, *, mode: Mode = "r", create: Layout | None = None) -> Any:
    """Open an array of a store, or create it; nothing else in livestain does either.

    Parameters
    ----------
    path : Path
        The array's folder, absolute.
    mode : {"r", "r+"}
        To read, or also to write.
    create : Layout, optional
        Create it like this; an array that is already there is replaced.

    Returns
    -------
    tensorstore.TensorStore

    Raises
    ------
    StoreError
        If it cannot be opened or created.
    """
    spec: dict[str, Any] = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": path.as_posix() + "/"},
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
        "recheck_cached_data": True,
    }
    if create is not None:
        spec["metadata"] = create.metadata
        options: dict[str, Any] = {"create": True, "delete_existing": True}
    else:
        options = {"open": True, "read": True, "write": mode == "r+"}
    try:
        return ts.open(spec, context=_context(), **options).result()
    except (ValueError, OSError) as error:
        raise StoreError(
            f"Cannot {'create' if create else 'open'} the array {path}: {error}. Expected an array "
            "written by livestain, on a disk that can be read."
        ) from error


def resize_array(path: Path, n_t: int) -> None:
    """Give an array of planes another number of time points; planes beyond them stay on the disk.

    Raises
    ------
    StoreError
        If it cannot be opened or written.
    """
    array = open_array(path, mode="r+")
    try:
        array.resize(
            exclusive_max=[n_t, None, None, None, None], resize_metadata_only=True
        ).result()
    except (ValueError, OSError) as error:
        raise StoreError(
            f"Cannot give the array {path} room for {n_t} time points: {error}. "
            "Expected a folder that can be written to, on a disk with space."
        ) from error


def chunk_file(array_path: Path, t: int, c: int, z: int) -> Path:
    """Return the file that holds one plane; the plane is there exactly if the file is."""
    return array_path / _SEPARATOR.join(("c", str(t), str(c), str(z), "0", "0"))


def present_chunks(array_path: Path, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which planes have their file: bool, `shape` = (t, c, z).

    One listing of the folder, so 10,000 planes take some ten milliseconds.

    Raises
    ------
    StoreError
        If the folder cannot be listed.
    """
    there = np.zeros(shape, dtype=bool)
    n_t, n_c, n_z = shape
    try:
        with os.scandir(array_path) as entries:
            for entry in entries:
                parts = entry.name.split(_SEPARATOR)
                # Else zarr.json, or the lock of a write on its way (or of a killed process).
                if len(parts) != 6 or parts[0] != "c" or parts[4:] != ["0", "0"]:
                    continue
                t, c, z = int(parts[1]), int(parts[2]), int(parts[3])
                if t < n_t and c < n_c and z < n_z:
                    there[t, c, z] = True
    except OSError as error:
        raise StoreError(
            f"Cannot list {array_path}: {error.strerror or error}. "
            "Expected the folder of an array in a livestain store."
        ) from error
    return there

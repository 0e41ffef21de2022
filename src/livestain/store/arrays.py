"""The one place that opens arrays, and the only one that knows tensorstore.

Every array is opened with the same flags, since a store is only as true as its least careful
opener: zeros are stored (an opener without that flag DELETES a plane when it writes zeros), what is
missing is an error on reading and never zeros, and nothing is kept in memory between two calls, so
that what another process has written is seen.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorstore as ts

from livestain.errors import StoreError
from livestain.store.chunks import SEPARATOR, tile_shape
from livestain.store.layout import AXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from livestain.store.plan import Codec

__all__ = ["Layout", "Mode", "open_array", "plane_layout", "resize_array", "together"]

Mode = Literal["r", "r+"]

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
        Of the array, and of what lies in one file.
    dtype : str
        A Zarr data type: "uint16", "float64".
    fill_value : int or str
        What a missing chunk reads as for other programs: 0, or "NaN".
    dimension_names : sequence of str
    codec : {"blosc-lz4", "blosc-zstd", "none"}
    inner_shape : sequence of int, optional
        Of the chunks within a file, which then has an index of them; by default a file is one chunk.
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
        inner_shape: Sequence[int] | None = None,
    ) -> None:
        itemsize = np.dtype(dtype).itemsize
        number = {"name": "bytes", "configuration": {"endian": "little"}}
        # Last, so that a damaged file is an error and never pixels.
        checksum = {"name": "crc32c"}
        codecs: list[dict[str, Any]] = [
            number,
            *(
                {"name": "blosc", "configuration": {**blosc, "typesize": itemsize}}
                for blosc in _CODECS[codec]
            ),
            checksum,
        ]
        if inner_shape is not None and list(inner_shape) != list(chunk_shape):
            codecs = [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": list(inner_shape),
                        "codecs": codecs,
                        "index_codecs": [number, checksum],
                        "index_location": "end",
                    },
                }
            ]
        self.metadata: dict[str, Any] = {
            "shape": list(shape),
            "data_type": dtype,
            "fill_value": fill_value,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": SEPARATOR},
            },
            "codecs": codecs,
            "dimension_names": list(dimension_names),
        }


def plane_layout(shape: Sequence[int], codec: Codec, *, times: int = 1, depths: int = 1) -> Layout:
    """Return the layout of an array of planes.

    Parameters
    ----------
    shape : sequence of int
        (t, c, z, y, x)
    codec : {"blosc-lz4", "blosc-zstd", "none"}
    times, depths : int
        Time points and z-planes in one file. 1 and 1 while a run goes on: a file that planes share is
        written anew with each of them.
    """
    height, width = shape[3:]
    return Layout(
        shape=shape,
        chunk_shape=(times, 1, depths, height, width),
        inner_shape=(1, 1, 1, *tile_shape(height, width)),
        dtype="uint16",
        fill_value=0,
        dimension_names=AXES,
        codec=codec,
    )


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


def resize_array(path: Path, *, n_t: int | None = None, n_c: int | None = None) -> None:
    """Give an array of planes another number of time points or channels; planes beyond them stay on the disk.

    Raises
    ------
    StoreError
        If it cannot be opened or written.
    """
    array = open_array(path, mode="r+")
    try:
        array.resize(exclusive_max=[n_t, n_c, None, None, None], resize_metadata_only=True).result()
    except (ValueError, OSError) as error:
        room = f"{n_t} time points" if n_t is not None else f"{n_c} channels"
        raise StoreError(
            f"Cannot give the array {path} room for {room}: {error}. "
            "Expected a folder that can be written to, on a disk with space."
        ) from error


@contextmanager
def together(array: Any) -> Iterator[Any]:
    """Write chunks of one file in one go.

    What is written to the array that this gives lies on the disk when the block is left, each file written
    once; where the block raises, nothing does.

    Raises
    ------
    ValueError, OSError
        As the array's own writes.
    """
    with ts.Transaction() as transaction:
        yield array.with_transaction(transaction)

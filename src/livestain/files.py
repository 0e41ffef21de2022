"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, *, sync: bool = False, unless_open: bool = False) -> Iterator[Path]:
    """Write a file so that whoever looks at `path` sees the old one or the new one, never half of one.

    Parameters
    ----------
    path : Path
        The file; its folder must be there.
    sync : bool
        Bring what was written to the disk before it takes the place of the old file, so that a power cut
        leaves one of the two as well.
    unless_open : bool
        Keep the old file, and say nothing, where another program holds it open and the system then lets
        nobody replace it, as Windows does: for pictures that are drawn again soon.

    Yields
    ------
    Path
        Where to write, in the same folder. It takes the place of `path` at the end, and is removed if the
        block raises.

    Raises
    ------
    OSError
        If it cannot be written or put in place; the old file is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        if sync:
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        try:
            part.replace(path)
        except PermissionError:
            if not unless_open:
                raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)

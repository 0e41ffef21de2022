"""The store's group file, zarr.json, with the attributes `ome` and `livestain`."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from livestain.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMAT", "RESERVED", "read_group", "refuse_reserved", "write_group"]

_TRIES, _TRY_S = 50, 0.02
"""How often, and how many seconds apart, a file is put in place that a reader holds open, on Windows."""

FORMAT = 1
"""Version of what `livestain` attributes mean."""

RESERVED = frozenset({"format", "version", "created", "plan", "encoding", "assumed"})
"""Attributes under `livestain` that the store itself writes, and nobody else."""


def read_group(path: Path) -> dict[str, Any]:
    """Return the whole zarr.json of a livestain store.

    Raises
    ------
    StoreError
        If there is none, or it is not of a livestain store of a format known here.
    """
    expected = "Expected a store that livestain has written, such as RUN.ome.zarr."
    file = path / "zarr.json"
    if path.is_file():
        raise StoreError(f"{path} is a file, and no store. {expected}")
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        what = "is not a Zarr group (no zarr.json)" if path.exists() else "does not exist"
        raise StoreError(f"{path} {what}. {expected}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"Cannot read {file}: {error}. {expected}") from error
    try:
        group = json.loads(text)
        own = group["attributes"]["livestain"]
        number = own["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a livestain store: its zarr.json has no attributes 'livestain'. "
            f"{expected}"
        ) from error
    if number != FORMAT:
        raise StoreError(
            f"{path} has store format {number}; this livestain reads format {FORMAT}. "
            "Install the livestain that wrote it, or a newer one."
        )
    return dict(group)


def refuse_reserved(attributes: dict[str, Any], path: Path) -> None:
    """Refuse attributes whose names are the store's own.

    Raises
    ------
    StoreError
        If there is one.
    """
    taken = sorted(RESERVED & attributes.keys())
    if taken:
        raise StoreError(
            f"The attributes {', '.join(taken)} of {path} are written by the store itself; give "
            f"yours other names than {', '.join(sorted(RESERVED))}."
        )


def write_group(path: Path, group: dict[str, Any]) -> None:
    """Replace zarr.json as one step, so that no reader ever sees half of it.

    Raises
    ------
    StoreError
        If it cannot be written, or holds what JSON has not.
    """
    # Beside the store: a foreign file inside makes zarr-python warn, and a crash may leave it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.zarr.json")
    try:
        text = json.dumps(group, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"The attributes for {path} cannot be written as JSON: {error}. Expected dicts, lists, "
            "strings, finite numbers, booleans and None."
        ) from error
    try:
        temporary.write_text(text, encoding="utf-8")
        _replace(temporary, path / "zarr.json")
    except OSError as error:
        raise StoreError(
            f"Cannot write the attributes of {path}: {error.strerror or error}. "
            "Expected a folder that can be written to, on a disk with space."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _replace(new: Path, old: Path) -> None:
    """Put a file in the place of another; Windows refuses as long as a reader has the old one open."""
    for _ in range(_TRIES if sys.platform == "win32" else 0):
        try:
            new.replace(old)
        except PermissionError:
            time.sleep(_TRY_S)
        else:
            return
    new.replace(old)

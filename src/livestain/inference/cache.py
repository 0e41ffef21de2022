"""What inference keeps between runs: choices of backends and compiled networks, in the user's cache folder.

Everything here can be deleted at any time; it is then measured or compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "forget", "key_of", "recall", "remember"]

_MOST = 300
"""Choices that are kept; of more, those that were made longest ago are forgotten."""

_PART_S = 24 * 3600.0
"""A file that is half written after so long is of a process that was killed."""


def cache_folder() -> Path:
    """Return the folder, which need not be there: LIVESTAIN_CACHE, or the user's cache."""
    from platformdirs import user_cache_path

    given = os.environ.get("LIVESTAIN_CACHE")
    return Path(given) if given else user_cache_path("livestain", appauthor=False)


def key_of(facts: dict[str, Any]) -> str:
    """Return a name that is the same for the same facts."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def recall(facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was remembered for these facts; None where nothing was, or it cannot be read."""
    try:
        found = json.loads(_file(facts).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    # The facts are in the file, for whoever looks at it, and against a key that two share.
    same = isinstance(found, dict) and key_of(found.get("facts") or {}) == key_of(facts)
    value = found.get("value") if same else None
    return value if isinstance(value, dict) else None


def remember(facts: dict[str, Any], value: dict[str, Any]) -> None:
    """Keep a value for these facts, in a file of its own; where that cannot be written, nothing happens."""
    path = _file(facts)
    with contextlib.suppress(OSError):  # a full disk, a read-only home, another process on Windows
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"facts": facts, "value": value}, file, indent=1, default=str)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
        _forget_old(path.parent)


def forget(bundle: str) -> None:
    """Forget all choices made for a bundle.

    Parameters
    ----------
    bundle : str
        Its SHA-256.
    """
    for path in (cache_folder() / "choices").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_text("utf-8"))["facts"].get("bundle") == bundle:
                path.unlink(missing_ok=True)


def _file(facts: dict[str, Any]) -> Path:
    return cache_folder() / "choices" / f"{key_of(facts)}.json"


def _forget_old(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        if time.time() - part.stat().st_mtime > _PART_S:
            part.unlink(missing_ok=True)
    files = list(folder.glob("*.json"))
    if len(files) > _MOST:
        files.sort(key=lambda path: path.stat().st_mtime)
        for path in files[: len(files) - _MOST]:
            path.unlink(missing_ok=True)

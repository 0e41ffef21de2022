"""The folder with the result, which a user can send."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from livestain.benching.chart import chart
from livestain.benching.table import markdown
from livestain.errors import SettingsError
from livestain.files import replacing

if TYPE_CHECKING:
    from livestain.benching.results import BenchResult

__all__ = ["folder_for", "write_result"]

_JSON = "bench.json"


def folder_for(out: Path | None, *, overwrite: bool = False) -> Path:
    """Return the folder to write into, which is made later; by default a new one, bench-DATE.

    Raises
    ------
    SettingsError
        If the folder that was named is a file, or has a result already.
    """
    if out is None:
        name = f"bench-{datetime.now().astimezone().date().isoformat()}"
        out, number = Path(name), 1
        while out.exists():
            number += 1
            out = Path(f"{name}-{number}")
        return out
    if out.exists() and not out.is_dir():
        raise SettingsError(
            f"--out {out} is a file; give a folder, which is made if it is missing."
        )
    if (out / _JSON).exists() and not overwrite:
        raise SettingsError(
            f"{out / _JSON} is there already. Name another folder with --out, or give --overwrite."
        )
    return out


def write_result(result: BenchResult, folder: Path) -> list[Path]:
    """Write bench.json, bench.md and bench.svg; return their paths.

    Without a single measurement there is nothing to draw, and no bench.svg.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        _JSON: json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n",
        "bench.md": markdown(result),
        "bench.svg": chart(result),
    }
    written = []
    for name, text in texts.items():
        if text:
            path = folder / name
            with replacing(path) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
            written.append(path)
    return written

"""Checkpoints: a file is either as it was or as it should be, whatever happens while it is written."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import torch

from livestain.errors import DataError
from livestain.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(content: Any, path: Path) -> None:
    """Write what `torch.save` takes under a temporary name, and then put it in the place of `path`.

    Raises
    ------
    OSError
        If it cannot be written; the file that was there is as it was.
    """
    # Into memory first: torch's own writer tells of a full disk by errors of many kinds.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=True) as part:
        part.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, running no code that it names.

    Raises
    ------
    DataError
        If it is none.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{path} is no checkpoint that can be read: {' '.join(str(error).split())[:200]}. Start the "
            "training anew in another folder."
        ) from error
    return content

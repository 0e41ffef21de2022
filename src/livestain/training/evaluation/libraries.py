"""scikit-image, which metrics and segmentation come from where it has them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from livestain.training.extra import needs_train_extra

__all__ = ["skimage"]


def skimage(module: str) -> Any:
    """Return a module of scikit-image, which calls itself typed and is not.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    with needs_train_extra():
        return import_module(f"skimage.{module}")

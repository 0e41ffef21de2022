"""What training needs beyond the core, and what to say where it is not installed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from livestain.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["needs_train_extra"]


@contextmanager
def needs_train_extra() -> Iterator[None]:
    """Turn a missing package of the extra `train` into an error that says how to install it.

    Raises
    ------
    MissingExtraError
        If an import inside fails for want of a package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Training needs the package {error.name}, which is not installed. "
            "Install it with: pip install 'livestain[train]'"
        ) from error

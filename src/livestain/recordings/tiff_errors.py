"""What the TIFF library raises or only logs, told in a sentence."""

from __future__ import annotations

import logging
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from livestain.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["tiff_errors"]


@contextmanager
def tiff_errors(path: Path) -> Iterator[None]:
    """Tell in a sentence why a file cannot be read.

    The library's word that missing planes are zeros is kept back, since here they are never read. What it
    logs of a file that was cut short is an error here: the planes that are left look like a smaller
    recording, or like a mere picture, and nobody would miss the rest.
    """
    logger = logging.getLogger("tifffile")
    level, propagate = logger.level, logger.propagate
    heard = _Heard()
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(heard)
    try:
        yield
    except (OSError, ValueError, RuntimeError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read: {reason}. Expected a TIFF file; replace or remove it."
        ) from error
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagate
        logger.setLevel(level)
    if heard.cut_short:
        raise DataError(
            f"{path} is cut short: it names planes that lie behind its end. Copy or export it again, or "
            "remove it."
        )


class _Heard(logging.Handler):
    """Hears whether the library finds places beyond the end of a file."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.cut_short = False

    def emit(self, record: logging.LogRecord) -> None:
        self.cut_short |= "invalid page offset" in record.getMessage()

"""A disk that is full, however it is told: by the system, or by the storage library in words."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from typing import TYPE_CHECKING

from livestain.errors import FullDiskError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["disk_of", "no_space"]

# ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL; elsewhere also a user's quota.
_CODES = {39, 112} if sys.platform == "win32" else {errno.ENOSPC, errno.EDQUOT}


def no_space(error: BaseException | None) -> bool:
    """Return whether an error, or what it came from, says that a disk is full."""
    while error is not None:
        if isinstance(error, FullDiskError):
            return True
        code = getattr(error, "winerror", None) or getattr(error, "errno", None)
        # tensorstore's errors are ValueErrors that quote the system's number.
        quoted = re.search(r"os_error_code='(\d+)'", str(error))
        if code in _CODES or (quoted is not None and int(quoted[1]) in _CODES):
            return True
        error = error.__cause__
    return False


def disk_of(out: Path) -> tuple[Path, int]:
    """Return the folder that `out` will lie in, as far as it is there, and the bytes free on its disk."""
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free

"""Environment variables that must be set before torch is loaded, which reads them once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AS_THE_WORKER", "with_environment"]

AS_THE_WORKER = {
    "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(1024 * 2**20),
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""The allocator's, and how threads wait, as the staining worker sets them."""


def with_environment(wanted: Mapping[str, str]) -> None:
    """Return where the variables are set; else run the same command with them, and exit as it does."""
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    done = subprocess.run([sys.executable, *sys.argv], env={**os.environ, **wanted})
    sys.exit(done.returncode)

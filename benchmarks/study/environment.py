"""Environment variables that must be set before torch is loaded, which reads them once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["with_environment"]


def with_environment(wanted: Mapping[str, str]) -> None:
    """Return where the variables are set; else run the same command with them, and exit as it does."""
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    done = subprocess.run([sys.executable, *sys.argv], env={**os.environ, **wanted})
    sys.exit(done.returncode)

"""The exit codes of all commands."""

from __future__ import annotations

__all__ = ["EXIT_BAD_INPUT", "EXIT_DONE", "EXIT_INTERRUPTED", "EXIT_MISSING"]

EXIT_DONE = 0
"""All done; what a lag policy skipped is done."""

EXIT_MISSING = 1
"""It ran, but planes are missing; or a training had to stop before its end, and can be resumed."""

EXIT_BAD_INPUT = 2
"""The input cannot work; nothing was touched."""

EXIT_INTERRUPTED = 130
"""The user stopped it."""

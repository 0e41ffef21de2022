"""The command line: one file a verb; what is heavy is imported inside the verbs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command ``livestain`` and exit with its code."""
    from livestain.cli.app import run

    raise SystemExit(run())

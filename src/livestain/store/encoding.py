"""How a store keeps predictions in uint16: the rule of `livestain.encoding`, which predictions follow too."""

from __future__ import annotations

from livestain.encoding import decode, encode

__all__ = ["decode", "encode"]

"""livestain: live digital staining for Micro-Manager."""

from livestain._version import __version__

__all__ = ["__version__"]

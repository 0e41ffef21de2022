"""livestain: live digital staining for Micro-Manager.

Public names are imported when they are first used, so that ``import livestain`` loads neither torch
nor Micro-Manager.
"""

from __future__ import annotations

import lazy_loader

from livestain._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

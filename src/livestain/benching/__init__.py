"""How fast models are on this machine: every backend, its stages, its share of what the device could do.

Nothing here imports torch, except in the child processes that measure.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The same backlog without a microscope: what a store is owed, other models, other programs' data.

Public names are imported when they are first used, so that importing this room loads no torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

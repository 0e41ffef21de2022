"""Training offline: pairs, augmentation, losses, evaluation, export.

Public names are imported when they are first used, so that importing this room loads neither torch
nor lightning.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

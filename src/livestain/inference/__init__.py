"""Planes in, planes out: a deployed model on a device.

Public names are imported when they are first used, so that commands that do not compute do not load
torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

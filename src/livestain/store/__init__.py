"""The store: one OME-Zarr image a position, where a plane's chunk exists only if the plane is done.

Public names are imported when they are first used, so that importing this room loads neither
tensorstore nor zarr.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""A deployed model: description, normalisation, reading, writing and verifying.

Public names are imported when they are first used: reading a description must not cost the two
seconds of torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

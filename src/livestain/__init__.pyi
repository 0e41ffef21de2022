from ._version import __version__
from .bundle import Bundle, find_bundle, read_bundle
from .errors import LivestainError
from .inference import Stainer
from .live.install import install, uninstall
from .live.microscope import replay_core, simulated_core
from .live.report import RunReport
from .live.session import Session
from .live.virtual import load_sequence
from .planes import PlaneIndex, Window
from .store import Store, open_store, store_status

__all__ = [
    "Bundle",
    "LivestainError",
    "PlaneIndex",
    "RunReport",
    "Session",
    "Stainer",
    "Store",
    "Window",
    "__version__",
    "find_bundle",
    "install",
    "load_sequence",
    "open_store",
    "read_bundle",
    "replay_core",
    "simulated_core",
    "store_status",
    "uninstall",
]

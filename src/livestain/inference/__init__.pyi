from .backends import Backend, backend_names, register_backend
from .device import resolve_device
from .placement import Shortage
from .stainer import Stainer

__all__ = ["Backend", "Shortage", "Stainer", "backend_names", "register_backend", "resolve_device"]

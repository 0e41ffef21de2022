from .backends import Backend, backend_names, register_backend
from .device import resolve_device
from .stainer import Stainer

__all__ = ["Backend", "Stainer", "backend_names", "register_backend", "resolve_device"]

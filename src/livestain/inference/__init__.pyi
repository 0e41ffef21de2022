from .backends import Backend, backend_names, register_backend
from .device import resolve_device
from .encoding import Counts
from .pipeline import Pipeline
from .placement import Shortage
from .stainer import Stainer
from .views import stain_views

__all__ = [
    "Backend",
    "Counts",
    "Pipeline",
    "Shortage",
    "Stainer",
    "backend_names",
    "register_backend",
    "resolve_device",
    "stain_views",
]

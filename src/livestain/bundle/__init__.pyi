from .description import (
    BundleDescription,
    ChannelKind,
    ForeignSpec,
    InputSpec,
    Latency,
    NetworkSpec,
    NormalisationSettings,
    OutputChannel,
    ReferenceStatistics,
    WindowSpec,
)
from .find import bundles_for, find_bundle, search_path
from .fit import check_fit
from .module import StainModule
from .normalisation import Normalise
from .read import Bundle, read_bundle, verify_bundle
from .write import write_bundle

__all__ = [
    "Bundle",
    "BundleDescription",
    "ChannelKind",
    "ForeignSpec",
    "InputSpec",
    "Latency",
    "NetworkSpec",
    "NormalisationSettings",
    "Normalise",
    "OutputChannel",
    "ReferenceStatistics",
    "StainModule",
    "WindowSpec",
    "bundles_for",
    "check_fit",
    "find_bundle",
    "read_bundle",
    "search_path",
    "verify_bundle",
    "write_bundle",
]

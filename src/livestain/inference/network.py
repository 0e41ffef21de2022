"""A bundle's network in the forms in which backends take it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from livestain.bundle.onnx_network import INPUT, network_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle

__all__ = ["Network", "network_of"]


@dataclass(frozen=True)
class Network:
    """A bundle's network in the forms in which backends take it.

    In all of them: normalised float32 in, float32 out, on the network's grid.
    """

    module: nn.Module | None
    """For torch: in eval mode, float32, on the CPU, never changed; None for bundles of ONNX alone."""

    onnx: Callable[[], bytes] | None
    """Returns the ONNX of the network alone, without normalisation: one input, one output, free n, y, x."""

    int8: Callable[[], bytes] | None
    """The same with quantised nodes, calibrated when the bundle was exported."""

    dims: int
    """Axes in space: 2 or 3."""

    identity: str
    """The bundle's SHA-256, for caches."""

    lacks_onnx: str | None = None
    """Why there is no `onnx`."""


def network_of(bundle: Bundle, module: StainModule | ForeignModule) -> Network:
    """Return the network of a bundle.

    Parameters
    ----------
    bundle : Bundle
        The model.
    module : StainModule or ForeignModule
        What it loaded, in eval mode, on the CPU.
    """
    onnx: Callable[[], bytes] | None = getattr(module, "onnx", None)  # of foreign modules
    lacks: str | None = None
    if onnx is None:
        lacks = _lacks_onnx(bundle)
        onnx = partial(network_onnx, bundle) if lacks is None else None
    stated = bundle.description.int8
    return Network(
        module=module.network,
        onnx=onnx,
        int8=partial(bundle.read_file, stated.file) if stated is not None else None,
        dims=module.dims,
        identity=bundle.sha256,
        lacks_onnx=lacks,
    )


def _lacks_onnx(bundle: Bundle) -> str | None:
    """Return why a bundle's own ONNX does not give the network alone; None where it does."""
    entry = bundle.rdf.get("weights", {}).get("onnx")
    if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
        return "the bundle has no ONNX"
    path = bundle.path / entry["source"]
    # Its hash was checked when the bundle was read; parsing a large file only to ask would take long.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        marked = data.find(INPUT.encode()) >= 0
    return None if marked else "the bundle's ONNX does not mark its network: export the model again"

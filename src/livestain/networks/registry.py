"""Networks by name: the only way by which a bundle or a recipe reaches an architecture."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["build_network", "discriminator_names", "network_dims", "network_names"]


class _Entry(NamedTuple):
    """Where a network lives: said here, not found by importing, so that a list costs nothing."""

    place: str
    """``module:class`` below livestain.networks."""
    dims: int
    """2 or 3."""


_NETWORKS = {
    "care2d": _Entry("care:Care2d", 2),
    "care3d": _Entry("care:Care3d", 3),
    "fnet2d": _Entry("fnet:FNet2d", 2),
    "fnet3d": _Entry("fnet:FNet3d", 3),
    "gvtnet2d": _Entry("gvtnet:GVTNet2d", 2),
    "gvtnet3d": _Entry("gvtnet:GVTNet3d", 3),
    "hsu_unet": _Entry("hsu_unet:HsuUNet", 3),
    "pix2pix_unet256": _Entry("pix2pix:Pix2PixUNet", 2),
    "resnet9": _Entry("resnet9:ResNet9", 2),
    "slim2d": _Entry("slim2d:Slim2d", 2),
    "unet2d": _Entry("unet2d:UNet2d", 2),
    "unet3d": _Entry("unet3d:UNet3d", 3),
    "unext2": _Entry("unext2:UNeXt2", 2),
}
_DISCRIMINATORS = {"patchgan70": _Entry("patchgan:PatchGAN70", 2)}


def network_names() -> tuple[str, ...]:
    """Return the names of the networks that predict a stain, sorted; `build_network` knows them."""
    return tuple(sorted(_NETWORKS))


def discriminator_names() -> tuple[str, ...]:
    """Return the names of the networks that judge images in training; `build_network` knows them."""
    return tuple(sorted(_DISCRIMINATORS))


def network_dims(name: str) -> int:
    """Return the spatial dimensions of a network, 2 (y, x) or 3 (z, y, x), without building it.

    Raises
    ------
    KeyError
        If no network has that name.
    """
    return _entry(name).dims


def build_network(name: str, **kwargs: Any) -> nn.Module:
    """Build a network with random weights.

    The contract of every network (a discriminator keeps `dims` and `in_channels` alone of it):

    - `dims` is 2 or 3. With 2 it maps float (n, in_channels, y, x) to (n, out_channels, y, x), where
      in_channels counts sources times the window's planes (2.5-D). With 3 it maps
      (n, in_channels, z, y, x) to (n, out_channels, z, y, x), where in_channels counts sources,
      and z may be time instead.
    - The keyword arguments `in_channels` and `out_channels` (int, default 1) always exist; the
      others are the architecture's own, each with a default.
    - `divisor` (int): y and x must be multiples of it. `halo` (int or None): a pixel's value does
      not depend on the input more than that many pixels away in y or in x, wherever it lies on the
      pooling grid; None where it depends on the whole frame (attention, instance norm), so that
      such a network cannot be tiled exactly.
    - A 3-D network has `divisor_z` and `halo_z` too: the same, in planes.

    Parameters
    ----------
    name : str
        One of `network_names()` or `discriminator_names()`.
    **kwargs : Any
        The network's keyword arguments.

    Raises
    ------
    KeyError
        If no network has that name.
    TypeError
        If the network does not take one of the keyword arguments.
    ValueError
        If the network cannot be built with these values.
    """
    module, _, class_name = _entry(name).place.partition(":")
    network: Callable[..., nn.Module] = getattr(
        importlib.import_module(f"livestain.networks.{module}"), class_name
    )
    known = tuple(inspect.signature(network).parameters)
    for argument in kwargs:
        if argument not in known:
            raise TypeError(
                f"The network {name} has no argument {argument!r}{_nearest(argument, known)}; it has: "
                f"{', '.join(known)}."
            )
    return network(**kwargs)


def _entry(name: str) -> _Entry:
    entry = _NETWORKS.get(name) or _DISCRIMINATORS.get(name)
    if entry is None:
        known = (*network_names(), *discriminator_names())
        raise KeyError(
            f"No network is called {name!r}{_nearest(name, known)}; there are: {', '.join(known)}."
        )
    return entry


def _nearest(given: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""

"""Networks by name: the only way by which a bundle or a recipe reaches an architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.networks.unet2d import UNet2d

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["build_network", "network_names"]

_NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet2d": UNet2d}


def network_names() -> tuple[str, ...]:
    """Return the names that `build_network` knows, sorted."""
    return tuple(sorted(_NETWORKS))


def build_network(name: str, **kwargs: Any) -> nn.Module:
    """Build a network with random weights.

    Every network takes a float tensor (n, in_channels, y, x) and returns (n, out_channels, y, x),
    and has the attributes `divisor` (int: y and x must be multiples of it) and `halo` (int: pixels
    of context beyond which a pixel's value does not depend on the input).

    Raises
    ------
    KeyError
        If no network has that name.
    TypeError
        If the network does not take one of the keyword arguments.
    """
    try:
        network = _NETWORKS[name]
    except KeyError:
        raise KeyError(
            f"No network is called {name!r}; there are: {', '.join(network_names())}."
        ) from None
    return network(**kwargs)

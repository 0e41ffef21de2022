"""The networks, one architecture a file, found by name; nothing here but torch."""

from livestain.networks.registry import (
    build_network,
    discriminator_names,
    network_dims,
    network_names,
)

__all__ = ["build_network", "discriminator_names", "network_dims", "network_names"]

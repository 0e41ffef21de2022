"""The networks, one architecture a file, found by name; nothing here but torch."""

from livestain.networks.registry import build_network, network_names

__all__ = ["build_network", "network_names"]

"""The one module that training's validation, the export and the live path run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from livestain.bundle.normalisation import NormalisationSettings, Normalise

if TYPE_CHECKING:
    import torch

__all__ = ["StainModule"]


class StainModule(nn.Module):
    """Normalise raw counts and predict: (n, planes, y, x) in, (n, outputs, y, x) float32 out.

    Parameters
    ----------
    network : nn.Module
        One of `livestain.networks`; its output is already in the output's unit.
    normalisation : NormalisationSettings
        Without parameters of its own, so the state dict is the network's alone (under `network.`).
    """

    def __init__(
        self, network: nn.Module, normalisation: NormalisationSettings | None = None
    ) -> None:
        super().__init__()
        self.normalise = Normalise(normalisation or NormalisationSettings())
        self.network = network

    @property
    def divisor(self) -> int:
        """Both sides, in pixels, must be multiples of this."""
        return int(getattr(self.network, "divisor", 1))

    @property
    def halo(self) -> int:
        """Reach of the network in pixels, in y or x."""
        return int(getattr(self.network, "halo", 0))

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Map raw counts of any real dtype to float32 in the output's unit."""
        predicted: torch.Tensor = self.network(self.normalise(counts))
        return predicted.float()

"""The one implementation of normalisation: training, export and the live path all run this module."""

from __future__ import annotations

import torch
from torch import nn

from livestain.bundle.description import NormalisationSettings

__all__ = ["NormalisationSettings", "Normalise"]


class Normalise(nn.Module):
    """Normalise (n, planes, y, x) raw counts of any real dtype to float32.

    Statistics are of the whole plane that is given, so whoever trains on crops, or pads, normalises
    first.
    """

    def __init__(self, settings: NormalisationSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the normalised planes, same shape, float32."""
        s = self.settings
        x = counts.to(torch.float32)
        if s.kind == "frozen":
            assert s.mean is not None  # noqa: S101 - the settings' validator promised it
            assert s.std is not None  # noqa: S101
            x = (x - s.mean) / max(s.std, s.floor)
        else:
            axes = (2, 3) if s.scope == "plane" else (1, 2, 3)
            mean = x.mean(dim=axes, keepdim=True)
            centred = x - mean
            std = centred.square().mean(dim=axes, keepdim=True).sqrt()
            x = centred / std.clamp_min(s.floor)
        return x.clamp(-s.clip, s.clip)

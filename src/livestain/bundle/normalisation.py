"""The one implementation of normalisation: training, export and the live path all run this module."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from livestain.settings import Settings

__all__ = ["Normalise", "NormalisationSettings"]


class NormalisationSettings(Settings):
    """How raw counts become what the network sees: ``clamp((counts - mean) / std, -clip, clip)``."""

    kind: Literal["frame", "frozen"] = "frame"
    """`frame`: mean and std of the planes at hand; `frozen`: of the training data, given below."""

    scope: Literal["plane", "window"] = "plane"
    """For `frame`: each plane of the window by itself, or all planes of the window together."""

    floor: float = Field(default=0.5, gt=0)
    """Smallest std in counts, so that an empty or saturated plane gives zeros and not noise."""

    clip: float = Field(default=10.0, gt=0)
    """Largest magnitude after normalisation, in standard deviations, against hot pixels."""

    mean: float | None = None
    """For `frozen`: mean of the training data, in counts."""

    std: float | None = Field(default=None, gt=0)
    """For `frozen`: standard deviation of the training data, in counts."""

    @model_validator(mode="after")
    def _frozen_needs_statistics(self) -> NormalisationSettings:
        given = self.mean is not None and self.std is not None
        if (self.kind == "frozen") != given:
            raise ValueError("mean and std are given for 'frozen', and only for it")
        return self


class Normalise(nn.Module):
    """Normalise (n, planes, y, x) raw counts of any real dtype to float32.

    Statistics are of the whole plane that is given, so whoever trains on crops normalises first and
    crops afterwards.
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

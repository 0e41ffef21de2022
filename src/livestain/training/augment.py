"""Random changes of a batch of crops, on the batch's device.

Geometry is kornia's and moves source and target together; intensity changes the source alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from livestain.training.extra import needs_train_extra

with needs_train_extra():
    import kornia.augmentation as ka

if TYPE_CHECKING:
    from livestain.training.parts import Augmentation

__all__ = ["Augment"]


class Augment(nn.Module):
    """Change a batch at random, by torch's global generator.

    Parameters
    ----------
    settings : Augmentation
        From the recipe.
    """

    def __init__(self, settings: Augmentation) -> None:
        super().__init__()
        self.settings = settings
        moves: list[nn.Module] = []
        if settings.flip:
            moves += [
                ka.RandomHorizontalFlip(p=0.5),
                ka.RandomVerticalFlip(p=0.5),
                ka.RandomRotation90(times=(0, 3), p=1.0),
            ]
        if settings.affine > 0:
            moves.append(
                ka.RandomAffine(
                    degrees=180.0,
                    scale=settings.scale,
                    # What lies beyond the crop is mirrored: black corners would be learnt.
                    padding_mode="reflection",
                    p=settings.affine,
                )
            )
        self.moves = nn.ModuleList(moves)
        self.blur = (
            ka.RandomGaussianBlur((7, 7), settings.blur_sigma_px, p=settings.blur)
            if settings.blur > 0
            else None
        )

    @torch.no_grad()
    def forward(
        self, source: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both changed; (n, planes, y, x) and (n, targets, y, x), square, float32."""
        planes = source.shape[1]
        # As channels of one image, so that both move alike and are interpolated alike.
        both = torch.cat((source, target), dim=1)
        for move in self.moves:
            both = move(both)
        source, target = both[:, :planes], both[:, planes:]
        return self._intensity(source), target

    def _intensity(self, x: torch.Tensor) -> torch.Tensor:
        s = self.settings
        if self.blur is not None:
            x = self.blur(x)
        if s.gamma != (1.0, 1.0):
            low = x.amin(dim=(1, 2, 3), keepdim=True)
            span = (x.amax(dim=(1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
            x = low + span * ((x - low) / span).pow(_log_uniform(x, s.gamma))
        if s.gain != (1.0, 1.0):
            x = x * _log_uniform(x, s.gain)
        if s.brightness > 0:
            x = x + s.brightness * (2 * _uniform(x) - 1)
        if s.noise > 0:
            x = x + s.noise * _uniform(x) * torch.randn_like(x)
        return x


def _uniform(like: torch.Tensor) -> torch.Tensor:
    """Return one number between 0 and 1 an image, (n, 1, 1, 1)."""
    return torch.rand((like.shape[0], 1, 1, 1), device=like.device)


def _log_uniform(like: torch.Tensor, limits: tuple[float, float]) -> torch.Tensor:
    """Return one factor an image, so that doubling is as likely as halving."""
    low, high = torch.tensor(limits, device=like.device).log()
    factor: torch.Tensor = (low + (high - low) * _uniform(like)).exp()
    return factor

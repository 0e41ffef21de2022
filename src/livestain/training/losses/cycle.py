"""The two losses of unpaired training beside the adversarial one (CycleGAN, Zhu 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.training.losses.pointwise import l1

if TYPE_CHECKING:
    import torch

__all__ = ["cycle_loss", "identity_loss"]


def cycle_loss(
    returned: torch.Tensor, original: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean absolute error after a way there and back, a scalar, unweighted.

    Parameters
    ----------
    returned : tensor, (n, channels, [depth], y, x)
        ``back(there(original))``; each of the two domains has its own.
    original : tensor of the same shape
    mask : tensor, (n, channels, [depth]), optional
        1 where a plane of the original is there.
    """
    return l1(returned, original, mask)


def identity_loss(
    same: torch.Tensor, original: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean absolute change that a generator makes to an image of its own output domain.

    Parameters
    ----------
    same : tensor, (n, channels, [depth], y, x)
        ``there(original)``, where the original already is what `there` makes.
    original, mask
        As of `cycle_loss`.
    """
    return l1(same, original, mask)

"""How a discriminator's verdict is scored (the table of Somani et al. 2021, and plain cross-entropy).

All take logits and serve both sides: the discriminator minimises ``loss(D(real), True) + loss(D(fake),
False)``, the generator ``loss(D(fake), True)``.

Somani et al. name Dice + BCE, Jaccard and focal loss without saying how they are formed. Dice and Jaccard
compare a label map with a probability map and heed one class alone, here "real". For a fake, nothing is
real: the overlap is 0 whatever the discriminator says, the loss is constant, and it learns nothing
from fakes. So both are taken here of the class that is true: for a fake, the probability of
"fake" is compared with ones. Real and fake are then mirror images of each other, as in the other losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from livestain.training.losses.masked import promote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AdversarialKind", "AdversarialLoss", "bce", "dice", "focal", "jaccard", "least_squares"]

AdversarialKind = Literal["mse", "bce", "dice_bce", "jaccard", "focal"]

_GAMMA, _ALPHA = 2.0, 0.25
"""Of the focal loss, as its authors found best."""


def least_squares(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Return the mean of ``(logit - 1)^2`` for real, ``logit^2`` for fake (LSGAN, Mao 2017).

    On the bare output, without a sigmoid, and without the paper's factor of 1/2.
    """
    return (logits - float(real)).square().mean()


def bce(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Return the mean binary cross-entropy (Goodfellow 2014, Isola 2017)."""
    return functional.softplus(_right(logits, real).neg()).mean()


def dice(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Return 1 - soft Dice coefficient with squares below (V-Net, Milletari 2016) of the true class.

    With the probability p of what is true, ``1 - 2 sum(p) / (sum(p^2) + N)`` over the N verdicts of a sample;
    the mean over samples.
    """
    p = torch.sigmoid(_right(logits, real)).flatten(1)
    return (1 - 2 * p.sum(dim=1) / (p.square().sum(dim=1) + p.shape[1])).mean()


def jaccard(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Return 1 - soft intersection over union (Rahman and Wang 2016) of the true class.

    ``1 - sum(p g) / sum(p + g - p g)`` with g = 1 everywhere is 1 - mean(p): the mean probability of
    the wrong verdict. Its gradient fades where a verdict is surely wrong, unlike that of a cross-entropy.
    """
    return torch.sigmoid(_right(logits, real).neg()).mean()


def focal(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Return the mean focal loss ``-alpha (1 - p)^gamma log p`` (Lin 2017), p being that of the truth.

    gamma 2; alpha 0.25 for real and 0.75 for fake, as of the paper's foreground and background.
    """
    right = _right(logits, real)
    alpha = _ALPHA if real else 1 - _ALPHA
    # 1 - p and log p from the logit: neither loses its digits where the verdict is sure.
    return (alpha * torch.sigmoid(-right) ** _GAMMA * functional.softplus(-right)).mean()


def _dice_bce(logits: torch.Tensor, real: bool) -> torch.Tensor:
    return dice(logits, real) + bce(logits, real)


def _right(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Return the logits of the verdict that would be right."""
    return logits if real else -logits


_KINDS: dict[str, Callable[[torch.Tensor, bool], torch.Tensor]] = {
    "mse": least_squares,
    "bce": bce,
    "dice_bce": _dice_bce,
    "jaccard": jaccard,
    "focal": focal,
}


class AdversarialLoss(nn.Module):
    """Score a discriminator's logits.

    Parameters
    ----------
    kind : "mse", "bce", "dice_bce", "jaccard" or "focal"
        `dice_bce` is the sum of both.
    """

    def __init__(self, kind: AdversarialKind) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, logits: torch.Tensor, real: bool) -> torch.Tensor:
        """Return a scalar that is small where the verdict agrees with `real`.

        Parameters
        ----------
        logits : tensor, (n, ...)
            One verdict a sample or a map of them; computed in float32 at least.
        real : bool
            What they should say.
        """
        (logits,) = promote(logits)
        return _KINDS[self.kind](logits, real)

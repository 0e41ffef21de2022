"""What a batch of crops is, from the sampler through augmentation to the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    import torch

__all__ = ["Batch"]


class Batch(TypedDict):
    """Normalised crops; ``[depth]`` stands for the one more axis that 3-D networks have.

    A sample of the data set is the same without ``n``.
    """

    source: torch.Tensor
    """float32, (n, channels, [depth], y, x); for 2-D networks the window planes of each source are channels,
    source by source."""

    target: torch.Tensor
    """float32, (n, targets, [depth], y, x); zeros where there is none."""

    mask: torch.Tensor
    """float32, (n, targets, [depth]): 1 where a plane of the target is there, else 0."""

    teacher: NotRequired[torch.Tensor]
    """float32, as `target`: the prediction of the teacher, where the loss asks for it."""

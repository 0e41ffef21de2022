"""Whole planes and stacks of any size through a module whose network takes certain sizes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from livestain.inference.geometry import pad_to_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule

__all__ = ["stain_padded"]


def stain_padded(
    module: StainModule | ForeignModule,
    counts: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Predict as the live path does: normalise, pad, predict, cut off the padding.

    Normalised before it is padded, so the statistics are those of the real planes. Frames are
    reflected at the bottom and the right (`pad_to_grid`); whole stacks are filled up by their last
    plane.

    Parameters
    ----------
    module : StainModule or ForeignModule
        In eval mode; the caller decides on gradients.
    counts : torch.Tensor, (n, sources * planes, y, x)
        Raw counts of whole planes, any real dtype, on the device of `predict`.
    predict : callable, optional
        Instead of the module's network: the same function in another form.

    Returns
    -------
    torch.Tensor
        float32, (n, outputs, y, x), or (n, outputs, planes, y, x) for whole stacks.
    """
    x = module.prepare(counts)
    depth, (height, width) = x.shape[-3], x.shape[-2:]
    x = pad_to_grid(x, module.divisor)
    if module.whole_stack and (missing := -depth % module.divisor_z):
        x = functional.pad(x, (0, 0, 0, 0, 0, missing), mode="replicate")
    network = predict or module.network
    assert network is not None  # noqa: S101 - of ONNX alone a backend's function is given
    y = network(x)[..., :height, :width]
    if module.whole_stack:
        y = y[:, :, :depth]
    return module.finish(y)

"""What every loss shares: enough digits, and means over the planes that have a target.

Shapes of this room: prediction and target are (n, targets, y, x) for 2-D networks and (n, targets, depth,
y, x) for 3-D ones; a mask is (n, targets) or (n, targets, depth), 1 where a plane of the target is there.
Where a mask is left out, all planes are there.
"""

from __future__ import annotations

import torch

__all__ = ["masked_mean", "plane_mean", "prepare", "promote", "spatial", "stacked"]


def promote(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors in one dtype: float64 if one of them is, else float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def prepare(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prediction and target in one dtype of enough digits, the target 0 where there is none.

    Raises
    ------
    ValueError
        If the shapes are not those of this room, rather than broadcasting in silence.
    """
    if prediction.shape != target.shape or prediction.ndim not in (4, 5):
        raise ValueError(
            f"Prediction {tuple(prediction.shape)} and target {tuple(target.shape)}: expected the same "
            "shape, (n, targets, y, x) or (n, targets, depth, y, x)."
        )
    prediction, target = promote(prediction, target)
    if mask is not None:
        if mask.shape != target.shape[:-2]:
            raise ValueError(
                f"Mask {tuple(mask.shape)}: expected one value a plane, {tuple(target.shape[:-2])}."
            )
        # Chosen, not multiplied: what lies in a plane without a target may be not even a number.
        target = torch.where(spatial(mask) > 0, target, 0)
    return prediction, target


def masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of the values under the mask, a scalar; 0, with a gradient of 0, under none.

    Parameters
    ----------
    values : tensor, any shape
        Must be finite everywhere.
    mask : tensor of the same shape, or None
    """
    if mask is None:
        return values.mean()
    present = mask.to(values.dtype)
    return (values * present).sum() / present.sum().clamp(min=1)


def plane_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of a map of values, shaped as the prediction, over the planes that are there."""
    return masked_mean(values.mean(dim=(-2, -1)), mask)


def spatial(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask with two more axes of length 1, so that it broadcasts over y and x."""
    return mask[..., None, None]


def stacked(values: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values with their depth, and the weight of each plane in a mean over that stack.

    Parameters
    ----------
    values : tensor, (n, targets, [depth], y, x)
    mask : tensor, (n, targets, [depth]), or None

    Returns
    -------
    values : tensor, (n, targets, depth, y, x)
        The depth is 1 for 2-D networks.
    mask : tensor of the same dtype, (n, targets, depth, 1, 1)
    """
    if mask is None:
        mask = torch.ones(values.shape[:-2], dtype=values.dtype, device=values.device)
    if values.ndim == 4:
        values, mask = values.unsqueeze(2), mask.unsqueeze(2)
    return values, spatial(mask.to(values.dtype))

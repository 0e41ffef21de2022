"""Every term of a loss, with tensors small enough to differentiate numerically."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from livestain.training.losses.settings import LossWeights
from livestain.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMS: dict[str, dict] = {
    "mse": {},
    "l1": {},
    "pearson": {},
    "tn_l1": {"tn": {"floor": 0.1}},
    "ms_ssim": {"ssim": {"scales": 1}},
    "gaussian": {},
    "laplace": {},
    "psf_l1": {"psf": {"na": 1.4, "wavelength_um": 0.6}},
    "distillation": {"teacher": "some-bundle"},
}
"""Each term by the name of its weight, with what else it takes."""

SHAPES = {2: (2, 2, 12, 11), 3: (2, 2, 3, 11, 12)}


def loss_of(term: str) -> dict:
    return {term: 1.0, **TERMS[term]}


def recipe_with(loss: Mapping, *, dims: int = 2, targets: int = 2, **changes) -> Recipe:
    names = ("mitochondria", "dna")[:targets]
    values = {
        "name": "tiny",
        "network": {"name": {2: "unet2d", 3: "unet3d"}[dims]},
        "targets": [
            {
                "channel": name,
                "output": {
                    "name": name,
                    "unit": "sd",
                    "scale": 0.001,
                    "offset": -20.0,
                    "display": [-0.5, 4.0],
                    "color": "FF00FF",
                },
            }
            for name in names
        ],
        "pixel_size_um": 0.1,
        "pixel_size_range_um": [0.08, 0.12],
        "loss": dict(loss),
    }
    if dims == 3:
        values |= {"window": {"z": "all"}, "z_step_um": 0.3}
    return Recipe.parse(values | changes, where="test")


def tensors(dims: int, *, spread: bool = False, dtype=torch.float64, seed: int = 0):
    """Return a prediction, a target that it resembles, and a mask with one plane missing."""
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[dims]
    target = torch.randn(shape, dtype=dtype, generator=generator)
    prediction = target + 0.7 * torch.randn(shape, dtype=dtype, generator=generator)
    if spread:
        more = 0.5 * torch.randn(shape, dtype=dtype, generator=generator)
        prediction = torch.cat([prediction, more], dim=1)
    mask = torch.ones(shape[:-2])
    mask.view(-1)[1] = 0
    return prediction, target, mask


def predicts_spread(term: str) -> bool:
    return LossWeights(**loss_of(term)).predicts_spread

"""Looking at whole images that are not trained on: loss, Pearson, and pictures, by what will run live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from livestain.inference.padded import stain_padded
from livestain.training.losses.pointwise import pearson_by_plane

if TYPE_CHECKING:
    from livestain.training.losses.total import RecipeLoss
    from livestain.training.modes import StainTraining
    from livestain.training.sampling import WholePairs

__all__ = ["Look", "first_plane", "look_at"]

_SHOWN = 3
"""Images in a panel."""


@dataclass
class Look:
    """What was seen.

    Attributes
    ----------
    pearson : float
        Mean over movies of the mean over their images (of several targets, over those that are there);
        NaN where no image has a target.
    loss : float
        Mean over images; NaN where none was taken.
    rows : list
        Source, prediction and target planes of a few images, for `draw_rows`.
    """

    pearson: float
    loss: float
    rows: list[tuple[torch.Tensor, ...]] = field(default_factory=list)


@torch.inference_mode()
def look_at(training: StainTraining, whole: WholePairs, loss: RecipeLoss | None) -> Look:
    """Look at every image once; each process at its share.

    Parameters
    ----------
    training : StainTraining
        Its average predicts, exactly as the live path does.
    whole : WholePairs
        Raw counts and normalised targets.
    loss : RecipeLoss, optional
        To be taken too.
    """
    module, ranks = training.stain_module(), training.ranks
    n_targets = len(training.recipe.targets)
    found: list[tuple[str, float, float]] = []
    rows: list[tuple[torch.Tensor, ...]] = []
    for number in range(ranks.rank, len(whole), ranks.world):
        item = whole[number]
        counts, target, mask = (
            item[key].to(training.device)[None] for key in ("counts", "target", "mask")
        )
        predicted = stain_padded(module, counts)
        there = (mask > 0).flatten(2).any(dim=2) if mask.ndim == 3 else mask > 0
        if not bool(there.any()):
            continue
        score = pearson_by_plane(predicted[:, :n_targets], target, mask)[there].mean()
        value = torch.nan
        if loss is not None:
            prediction = predicted
            if module.spread:
                values, spreads = predicted.chunk(2, dim=1)
                prediction = torch.cat((values, spreads.log()), dim=1)
            # The target in the teacher's place: validation asks how true the student is.
            value = float(loss(prediction, target, mask, target)[0])
        found.append((whole.pair(number).movie, float(score), value))
        if ranks.first and len(rows) < _SHOWN:
            rows.append(tuple(first_plane(image[0]) for image in (counts, predicted, target)))
    every = [one for share in ranks.gather(found) for one in share]
    movies = sorted({movie for movie, _, _ in every})
    means = [np.mean([score for name, score, _ in every if name == movie]) for movie in movies]
    return Look(
        pearson=float(np.mean(means)) if means else torch.nan,
        loss=float(np.mean([value for _, _, value in every])) if every else torch.nan,
        rows=rows,
    )


def first_plane(image: torch.Tensor) -> torch.Tensor:
    """Return the first channel's plane, in the middle of its depth if it has any, (y, x)."""
    plane = image[0]
    return plane if plane.ndim == 2 else plane[plane.shape[0] // 2]

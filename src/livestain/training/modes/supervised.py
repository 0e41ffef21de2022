"""One network, one loss: any pairs, also of two noisy takes, and also beside a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.training.losses.total import RecipeLoss
from livestain.training.modes.base import StainTraining
from livestain.training.module import build_from_recipe

if TYPE_CHECKING:
    import torch

    from livestain.training.batch import Batch
    from livestain.training.modes.base import Networks
    from livestain.training.ranks import Ranks
    from livestain.training.recipe import Recipe

__all__ = ["SupervisedTraining"]


class SupervisedTraining(StainTraining):
    """Go down the recipe's loss."""

    def __init__(self, recipe: Recipe, ranks: Ranks) -> None:
        super().__init__(recipe, ranks)
        self.loss = RecipeLoss(recipe)

    @staticmethod
    def build(recipe: Recipe) -> Networks:
        """Build the network."""
        return {"network": build_from_recipe(recipe)}

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Predict, compare, go down."""
        prediction = self.predict(self.network, batch["source"])
        total, terms = self.compare(prediction, batch)
        self.optimise(0, total)
        return {"loss": total.detach(), **terms}

    def compare(
        self, prediction: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the recipe's loss, and its terms as they are logged; keep the images for pictures."""
        self.shown = {
            "source": batch["source"],
            "prediction": prediction.detach(),
            "target": batch["target"],
        }
        total, terms = self.loss(prediction, batch["target"], batch["mask"], batch.get("teacher"))
        fair = self.fair(batch["mask"])
        return total * fair, {
            f"loss_{name}": value.detach() * fair for name, value in terms.items()
        }

"""A generator against a discriminator that sees source and target together (pix2pix, Isola 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from livestain.training.losses.adversarial import AdversarialLoss
from livestain.training.modes.base import by_plane
from livestain.training.modes.supervised import SupervisedTraining
from livestain.training.module import build_discriminator, build_from_recipe

if TYPE_CHECKING:
    from livestain.training.batch import Batch
    from livestain.training.losses.settings import Adversarial
    from livestain.training.modes.base import Networks
    from livestain.training.ranks import Ranks
    from livestain.training.recipe import Recipe

__all__ = ["AdversarialTraining"]


class AdversarialTraining(SupervisedTraining):
    """First the discriminator learns to tell, then the generator to deceive it as it now is.

    A 3-D generator's planes are judged one by one; planes that lack a target are not judged.
    """

    several_backwards = True

    def __init__(self, recipe: Recipe, ranks: Ranks) -> None:
        super().__init__(recipe, ranks)
        self.discriminator: nn.Module
        self.verdict = AdversarialLoss(_settings(recipe).loss)

    @staticmethod
    def build(recipe: Recipe) -> Networks:
        """Build generator and discriminator."""
        planes = recipe.normalisation.seen(recipe.window).n_planes if recipe.dims == 2 else 1
        seen = len(recipe.sources) * planes + len(recipe.targets)
        return {
            "network": build_from_recipe(recipe),
            "discriminator": build_discriminator(recipe, _settings(recipe).discriminator, seen),
        }

    def optimised(self) -> list[list[nn.Module]]:
        """Return generator and discriminator."""
        return [[self.network], [self.discriminator]]

    def learning_rate(self, place: int) -> float:
        """Return the generator's, or the discriminator's own."""
        own = _settings(self.recipe).learning_rate if place == 1 else None
        return own or self.recipe.optimiser.learning_rate

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Make a step of the discriminator, and one of the generator."""
        settings = _settings(self.recipe)
        prediction = self.predict(self.network, batch["source"])
        loss, terms = self.compare(prediction, batch)
        n_targets = len(self.recipe.targets)
        source, real = by_plane(batch["source"]), by_plane(batch["target"])
        fake = by_plane(prediction[:, :n_targets])
        whole = batch["mask"].amin(dim=1).flatten() > 0
        if not bool(whole.all()):
            source, real, fake = source[whole], real[whole], fake[whole]
        if len(source) == 0:
            # Nothing to judge; a backward pass all the same, since other processes wait for it.
            every = [p.sum() for p in self.discriminator.parameters()]
            nothing = torch.stack(every).sum() * 0.0
            self.optimise(1, nothing)
            self.optimise(0, loss)
            zero = torch.zeros_like(loss.detach())
            told = {"loss_adversarial": zero, "loss_discriminator": zero}
            return {"loss": loss.detach(), **terms, **told}

        pair = torch.cat((source, real), dim=1), torch.cat((source, fake.detach()), dim=1)
        truth, lie = (self.predict(self.discriminator, images) for images in pair)
        judged = self.verdict(truth, True) + self.verdict(lie, False)
        self.optimise(1, settings.discriminator_scale * judged)

        self.discriminator.requires_grad_(False)
        lie = self.predict(self.discriminator, torch.cat((source, fake), dim=1))
        deceived = self.verdict(lie, True)
        total = loss + settings.weight * deceived
        self.optimise(0, total)
        self.discriminator.requires_grad_(True)
        return {
            "loss": total.detach(),
            **terms,
            "loss_adversarial": deceived.detach(),
            "loss_discriminator": judged.detach(),
        }


def _settings(recipe: Recipe) -> Adversarial:
    assert recipe.adversarial is not None  # noqa: S101 - this training was chosen by it
    return recipe.adversarial

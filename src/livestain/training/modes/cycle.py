"""Two generators, there and back, where no pairs exist (CycleGAN, Zhu 2017; Kölln 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from livestain.errors import SettingsError
from livestain.networks import build_network
from livestain.training.losses.adversarial import AdversarialLoss
from livestain.training.losses.cycle import cycle_loss, identity_loss
from livestain.training.modes.base import StainTraining, by_plane
from livestain.training.modes.pool import ImagePool
from livestain.training.module import build_discriminator, build_from_recipe

if TYPE_CHECKING:
    from livestain.training.batch import Batch
    from livestain.training.losses.settings import Cycle
    from livestain.training.modes.base import Networks
    from livestain.training.ranks import Ranks
    from livestain.training.recipe import Recipe

__all__ = ["CycleTraining"]

_STREAM = 3
"""Tells the random numbers of the pools from others."""


class CycleTraining(StainTraining):
    """First both generators, then both discriminators; the generator to the target is exported.

    Planes that lack a target play no part on that side.
    """

    several_backwards = True

    def __init__(self, recipe: Recipe, ranks: Ranks) -> None:
        super().__init__(recipe, ranks)
        if ranks.world > 1:
            raise SettingsError(
                f"The recipe {recipe.name} trains in cycles, with a pool of former predictions, which one "
                "process does. Start it without torchrun."
            )
        self.back: nn.Module
        self.of_target: nn.Module
        self.of_source: nn.Module
        settings = _settings(recipe)
        self.verdict = AdversarialLoss(settings.adversarial.loss)
        self.pools = [ImagePool(settings.pool), ImagePool(settings.pool)]

    @staticmethod
    def build(recipe: Recipe) -> Networks:
        """Build the generator, the one back, and a discriminator of each domain."""
        there, spec = build_from_recipe(recipe), recipe.network_spec()
        n_source, n_target = spec.kwargs["in_channels"], spec.kwargs["out_channels"]
        swapped = {**spec.kwargs, "in_channels": n_target, "out_channels": n_source}
        judge = _settings(recipe).adversarial.discriminator
        return {
            "network": there,
            "back": build_network(spec.name, **swapped),
            "of_target": build_discriminator(recipe, judge, n_target),
            "of_source": build_discriminator(recipe, judge, n_source),
        }

    def optimised(self) -> list[list[nn.Module]]:
        """Return the generators, and the discriminators."""
        return [[self.network, self.back], [self.of_target, self.of_source]]

    def learning_rate(self, place: int) -> float:
        """Return the generators', or the discriminators' own."""
        own = _settings(self.recipe).adversarial.learning_rate if place == 1 else None
        return own or self.recipe.optimiser.learning_rate

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Make a step of the generators, and one of the discriminators."""
        settings = _settings(self.recipe)
        source, target, mask = batch["source"], batch["target"], batch["mask"]
        fake_target = self.predict(self.network, source)
        fake_source = self.predict(self.back, target)
        self.shown = {"source": source, "prediction": fake_target.detach(), "target": target}

        judges = [self.of_target, self.of_source]
        for judge in judges:
            judge.requires_grad_(False)
        there = cycle_loss(self.predict(self.back, fake_target), source)
        back = cycle_loss(self.predict(self.network, fake_source), target, mask)
        terms = {
            "loss_cycle": there + back,
            "loss_adversarial": self.verdict(
                self.predict(self.of_target, by_plane(fake_target)), True
            )
            + self.verdict(self.predict(self.of_source, by_plane(fake_source)), True),
        }
        total = (
            settings.cycle * terms["loss_cycle"]
            + settings.adversarial.weight * terms["loss_adversarial"]
        )
        if settings.identity > 0:
            terms["loss_identity"] = identity_loss(
                self.predict(self.network, target), target, mask
            ) + identity_loss(self.predict(self.back, source), source)
            total = total + settings.cycle * settings.identity * terms["loss_identity"]
        self.optimise(0, total)

        for judge in judges:
            judge.requires_grad_(True)
        whole = mask.amin(dim=1).flatten() > 0
        sides = (
            (self.of_target, by_plane(target)[whole], by_plane(fake_target)),
            (self.of_source, by_plane(source), by_plane(fake_source)[whole]),
        )
        judged = torch.zeros((), device=source.device)
        for place, (judge, real, fake) in enumerate(sides):
            seed = [self.recipe.seed, _STREAM, self.done, place]
            former = self.pools[place].exchange(fake.detach(), seed)
            for images, truth in ((real, True), (former, False)):
                if len(images):
                    judged = judged + self.verdict(self.predict(judge, images), truth)
        terms["loss_discriminator"] = judged
        self.optimise(1, settings.adversarial.discriminator_scale * judged)
        return {
            "loss": total.detach(),
            **{name: term.detach() for name, term in terms.items()},
        }

    def state(self) -> dict[str, Any]:
        """Add the pools."""
        return {**super().state(), "pools": [pool.state_dict() for pool in self.pools]}

    def on_fit_start(self) -> None:
        """Put the pools onto the device."""
        waiting = self._waiting
        super().on_fit_start()
        if waiting is not None:
            for pool, state in zip(self.pools, waiting["pools"], strict=True):
                pool.load_state_dict(state, self.device)


def _settings(recipe: Recipe) -> Cycle:
    assert recipe.cycle is not None  # noqa: S101 - this training was chosen by it
    return recipe.cycle

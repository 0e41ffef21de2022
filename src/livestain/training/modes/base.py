"""What all ways of training share: networks, running average, precision, optimisers, one step."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain.errors import DataError
from livestain.training.augment import Augment
from livestain.training.ema import update_average
from livestain.training.extra import needs_train_extra
from livestain.training.module import stain_module
from livestain.training.schedule import Plateau, autocast_dtype, schedule_factor
from livestain.training.starting import weights_of_start

with needs_train_extra():
    from lightning.pytorch import LightningModule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn
    from torch.optim import Optimizer

    from livestain.bundle.module import StainModule
    from livestain.training.batch import Batch
    from livestain.training.ranks import Ranks
    from livestain.training.recipe import Recipe

__all__ = ["Networks", "StainTraining", "by_plane"]

Networks = dict[str, "nn.Module"]
"""Networks by name; `network` is the one that is exported."""

_STREAM = 2
"""Tells the random numbers of dropout from those of crops and augmentation."""


class StainTraining(LightningModule):
    """Train on batches of normalised crops. A child says what its networks are and what one step does.

    Everything random in step n is a function of the seed and n (dropout: of the process's rank too),
    and `state` is all that the steps before have left: so a run that was killed goes on as it would have.

    Parameters
    ----------
    recipe : Recipe
        Everything that decides.
    ranks : Ranks
        The processes that share each batch.

    Attributes
    ----------
    network : nn.Module
        What predicts, and is trained.
    average : nn.Module
        Its running average; what validates and what is exported.
    done : int
        Steps that are done.
    terms : dict of str to tensor
        What the last step logs: `loss` and its parts, scalars.
    shown : dict of str to tensor
        The last step's `source`, `prediction` and `target`, augmented, for pictures.
    """

    several_backwards = False
    """Whether a step goes back through one network without the others; DDP has to know."""

    def __init__(self, recipe: Recipe, ranks: Ranks) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe = recipe
        self.ranks = ranks
        torch.manual_seed(recipe.seed)
        networks = self.build(recipe)
        for name, network in networks.items():
            flat: Any = network
            if recipe.dims == 2:
                flat = flat.to(memory_format=torch.channels_last)
            self.add_module(name, flat)
        self.names = tuple(networks)
        self.network: nn.Module
        begun = weights_of_start(recipe, self.network)
        if begun is not None:
            self.network.load_state_dict(begun)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.augment = Augment(recipe.augmentation, recipe.seed)
        self.plateau = Plateau(recipe.optimiser.plateau_patience)
        self.done = 0
        self.terms: dict[str, torch.Tensor] = {}
        self.shown: dict[str, torch.Tensor] = {}
        self._scaler = torch.amp.GradScaler("cuda", enabled=recipe.precision == "fp16")
        self._autocast: torch.dtype | None = None
        self._waiting: dict[str, Any] | None = None

    @staticmethod
    @abstractmethod
    def build(recipe: Recipe) -> Networks:
        """Build the networks with random weights; the optimisers come in their order.

        Raises
        ------
        SettingsError
            If that cannot be done.
        """

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Change the networks by one augmented batch; return what is logged, `loss` among it."""

    def stain_module(self) -> StainModule:
        """Return what is exported: the average behind the recipe's normalisation, in eval mode."""
        return stain_module(self.recipe, self.average)

    def optimised(self) -> list[list[nn.Module]]:
        """Return the networks of each optimiser."""
        return [[self.network]]

    # What Lightning calls.

    def configure_optimizers(self) -> list[Optimizer]:
        """Return an optimiser for each group of networks."""
        return [self._optimiser(networks, place) for place, networks in enumerate(self.optimised())]

    def on_fit_start(self) -> None:
        """Put the state of a resumed run where it belongs, now that optimisers and device are there."""
        self._autocast = autocast_dtype(self.recipe, self.device)
        self._trained = [
            [p for network in networks for p in network.parameters()]
            for networks in self.optimised()
        ]
        if self._waiting is not None:
            for optimiser, state in zip(
                self._optimisers(), self._waiting["optimisers"], strict=True
            ):
                optimiser.load_state_dict(state)
            if self._scaler.is_enabled():
                self._scaler.load_state_dict(self._waiting["scaler"])
            self._waiting = None

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Make one step."""
        recipe, ranks = self.recipe, self.ranks
        words = np.random.SeedSequence([recipe.seed, _STREAM, self.done, ranks.rank])
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
        first = self.done * recipe.batch_size + ranks.rank * ranks.share(recipe.batch_size)
        batch = self.augment(batch, first)
        factor = self.plateau.factor * schedule_factor(self.done, recipe.steps, recipe.optimiser)
        for optimiser in self._optimisers():
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
        self.terms = self.step(batch)
        if self._scaler.is_enabled():
            self._scaler.update()
        self.done += 1
        update_average(self.average, self.network, decay=recipe.ema_decay, updates=self.done)

    # What the children use.

    def predict(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Run a network in the recipe's precision; float32 in and out.

        Autocast goes around networks alone: coordinates of the augmentation and sums of the loss
        need all their digits.
        """
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None):
            y: torch.Tensor = network(x)
        return y.float()

    def fair(self, mask: torch.Tensor) -> torch.Tensor | float:
        """Return the factor that makes the mean of the processes' losses the loss of the whole batch.

        A loss is a mean over the planes that have a target; processes may have unequally many.
        """
        if self.ranks.world == 1:
            return 1.0
        here = mask.sum()
        everywhere = self.ranks.sum(here)
        return here * self.ranks.world / everywhere.clamp_min(1)

    def optimise(self, place: int, loss: torch.Tensor) -> None:
        """Go one step down a loss with the optimiser of that place."""
        optimiser = self._optimisers()[place]
        parameters = self._trained[place]
        optimiser.zero_grad(set_to_none=True)
        self.manual_backward(self._scaler.scale(loss))
        clip = self.recipe.optimiser.clip_norm
        if clip is not None:
            if self._scaler.is_enabled():
                self._scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        if self._scaler.is_enabled():
            self._scaler.step(optimiser)
        else:
            optimiser.step()

    # What a run writes and reads.

    def logged(self) -> dict[str, float]:
        """Return the last step's terms as they are for the whole batch, and the learning rate.

        Raises
        ------
        DataError
            If the loss is not finite.
        """
        names = list(self.terms)
        values = self.ranks.sum(torch.stack([self.terms[name].detach() for name in names]))
        result = dict(zip(names, (values / self.ranks.world).tolist(), strict=True))
        if not np.isfinite(result["loss"]):
            raise DataError(
                f"The loss is {result['loss']} at step {self.done}, so the training diverged. The checkpoint "
                "before stays. Start anew with a smaller optimiser.learning_rate, or with precision: "
                "fp32."
            )
        result["learning_rate"] = self._optimisers()[0].param_groups[0]["lr"]
        return result

    def state(self) -> dict[str, Any]:
        """Return all that the next steps depend on, besides recipe and data."""
        return {
            "step": self.done,
            "networks": {name: getattr(self, name).state_dict() for name in self.names},
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers()],
            "plateau": self.plateau.state_dict(),
            "scaler": self._scaler.state_dict() if self._scaler.is_enabled() else {},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state, before Lightning begins."""
        self.done = int(state["step"])
        for name in self.names:
            getattr(self, name).load_state_dict(state["networks"][name])
        self.average.load_state_dict(state["average"])
        self.plateau.load_state_dict(state["plateau"])
        self._waiting = state

    def _optimisers(self) -> list[Any]:
        found = self.optimizers(use_pl_optimizer=False)
        return found if isinstance(found, list) else [found]

    def _optimiser(self, networks: Iterable[nn.Module], place: int) -> Optimizer:
        settings = self.recipe.optimiser
        rate = self.learning_rate(place)
        parameters = [p for network in networks for p in network.parameters()]
        how: dict[str, Any] = {
            "lr": rate,
            "betas": (settings.beta1, 0.999),
            # One pass over all tensors, on CPU and CUDA alike.
            "fused": self.device.type in ("cpu", "cuda"),
        }
        if settings.kind == "adam":
            optimiser: Optimizer = torch.optim.Adam(parameters, **how)
        else:
            groups: list[dict[str, Any]] = [
                {"params": [p for p in parameters if p.ndim > 1]},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, **how)
        for group in optimiser.param_groups:
            group["initial_lr"] = rate
        return optimiser

    def learning_rate(self, place: int) -> float:
        """Return the highest learning rate of the optimiser of that place."""
        return self.recipe.optimiser.learning_rate


def by_plane(images: torch.Tensor) -> torch.Tensor:
    """Return (n, channels, y, x), or so the planes of (n, channels, depth, y, x), for 2-D discriminators."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)

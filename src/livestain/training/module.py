"""The training as a Lightning module: network, its running average, loss, optimiser, schedule."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch

from livestain.bundle.module import StainModule
from livestain.errors import SettingsError
from livestain.networks import build_network
from livestain.training.augment import Augment
from livestain.training.extra import needs_train_extra
from livestain.training.losses.pointwise import loss_terms, pearson_by_plane

with needs_train_extra():
    from lightning.pytorch import LightningModule

if TYPE_CHECKING:
    from torch import nn

    from livestain.training.parts import Optimiser
    from livestain.training.recipe import Recipe

__all__ = ["StainTraining", "build_from_recipe", "computes_in_bf16", "schedule_factor"]


def build_from_recipe(recipe: Recipe) -> nn.Module:
    """Build the recipe's network with random weights.

    Raises
    ------
    SettingsError
        If there is no such network, it does not take these arguments, or the crop does not fit it.
    """
    spec = recipe.network_spec()
    try:
        network = build_network(spec.name, **spec.kwargs)
    except (KeyError, TypeError, ValueError) as error:
        told = str(error.args[0]) if error.args else str(error)
        raise SettingsError(f"The recipe {recipe.name} names a network in vain: {told}") from error
    divisor = int(getattr(network, "divisor", 1))
    if recipe.crop % divisor:
        raise SettingsError(
            f"The recipe {recipe.name} has a crop of {recipe.crop} pixels; its network takes multiples "
            f"of {divisor}. Choose {max(recipe.crop // divisor, 1) * divisor}."
        )
    return network


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a device has bf16 arithmetic, rather than imitating it slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def schedule_factor(step: int, steps: int, settings: Optimiser) -> float:
    """Return the learning rate of a step, counted from 0, relative to the highest."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    way = (step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(way, 1.0)))


class StainTraining(LightningModule):
    """Train a network on normalised crops.

    Parameters
    ----------
    recipe : Recipe
        Everything that decides.

    Attributes
    ----------
    network : nn.Module
        What the optimiser changes.
    average : nn.Module
        Its running average, kept by `AverageWeights`; what validates and what is exported.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        network: Any = build_from_recipe(recipe)
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.augment = Augment(recipe.augmentation)

    def stain_module(self) -> StainModule:
        """Return what is exported: the average behind the recipe's normalisation, in eval mode."""
        return StainModule(self.average, self.recipe.normalisation).eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed augmentation and dropout by the step, so that a resumed run goes on as it would have."""
        torch.manual_seed((self.recipe.seed << 32) + self.global_step + 1)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> Any:
        """Return the loss of one batch."""
        source, target = self.augment(*batch)
        source = source.contiguous(memory_format=torch.channels_last)
        wanted = self.recipe.precision
        bf16 = wanted == "bf16" or (wanted == "auto" and computes_in_bf16(self.device))
        # Around the network alone: coordinates of the augmentation and sums of the loss need all
        # their digits.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            prediction = self.network(source)
        loss, terms = loss_terms(prediction, target, self.recipe.loss)
        self.log("loss", loss.detach(), prog_bar=True)
        for name, value in terms.items():
            self.log(f"loss_{name}", value.detach())
        self.log("learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        """Log the average's Pearson on a monitored movie: raw whole planes in, as live."""
        counts, target = batch
        module = self.stain_module()
        height, width = (side - side % module.divisor for side in counts.shape[2:])
        score = pearson_by_plane(
            module(counts[..., :height, :width]), target[..., :height, :width]
        ).mean()
        self.log("monitor_pearson", score, prog_bar=True, batch_size=counts.shape[0])

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule, stepped every batch."""
        settings = self.recipe.optimiser
        parameters = list(self.network.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: schedule_factor(step, self.recipe.steps, settings)
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

"""The learning rate of each step, and the arithmetic of the network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from livestain.errors import SettingsError

if TYPE_CHECKING:
    from livestain.training.parts import Optimiser
    from livestain.training.recipe import Recipe

__all__ = ["Plateau", "autocast_dtype", "computes_in_bf16", "schedule_factor"]


def schedule_factor(step: int, steps: int, settings: Optimiser) -> float:
    """Return the learning rate of a step, counted from 0, relative to the highest.

    What a `plateau` takes away comes on top; see `Plateau`.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule in ("constant", "plateau"):
        return 1.0
    if settings.schedule == "linear":
        return min(1.0, 2 * (1 - step / steps))
    way = (step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(way, 1.0)))


@dataclass
class Plateau:
    """Halve the learning rate when the validation loss no longer falls, as CARE (Weigert 2018) does.

    Attributes
    ----------
    patience : int
        Looks in a row without a lower loss that are borne.
    factor : float
        Of the learning rate, now.
    best : float
        Lowest validation loss so far.
    waited : int
        Looks since then, or since the last halving.
    """

    patience: int
    factor: float = 1.0
    best: float = math.inf
    waited: int = 0

    def look(self, loss: float) -> None:
        """Take in one more validation loss."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = self.factor / 2, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        vars(self).update(state)


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a device has bf16 arithmetic, rather than imitating it slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type that the network computes in while it is trained; None: as its weights, fp32.

    Raises
    ------
    SettingsError
        If the recipe asks for fp16 on a device other than CUDA.
    """
    if recipe.precision == "fp16":
        if device.type != "cuda":
            raise SettingsError(
                f"The recipe {recipe.name} asks for the precision fp16, which is trained in on CUDA devices "
                f"alone; this is {device}. Choose auto, fp32 or bf16."
            )
        return torch.float16
    if recipe.precision == "bf16" or (recipe.precision == "auto" and computes_in_bf16(device)):
        return torch.bfloat16
    return None

"""Random changes of a batch of crops, on the batch's device.

What happens to a sample is a function of the recipe's seed and the sample's number alone, so that it is the
same in a resumed run, and however many processes share a batch. Interpolation and filters are kornia's.
Geometry moves source, target and teacher together; intensity changes the source alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from livestain.training.extra import needs_train_extra

with needs_train_extra():
    from kornia.filters import filter2d, gaussian_blur2d
    from kornia.geometry.transform import get_rotation_matrix2d, warp_affine

if TYPE_CHECKING:
    from livestain.training.batch import Batch
    from livestain.training.parts import Augmentation

__all__ = ["Augment"]

_STREAM = 1
"""Tells these random numbers from those that choose a sample's crop."""

_NAMES = (
    "mirror_y", "mirror_x", "transpose", "mirror_z", "affine", "angle", "scale", "blur", "sigma",
    "defocus", "radius", "gamma", "gain", "brightness", "noise",
)  # fmt: skip
_PLACE = {name: place for place, name in enumerate(_NAMES)}


class Augment(nn.Module):
    """Change a batch at random.

    Parameters
    ----------
    settings : Augmentation
        From the recipe.
    seed : int
        From the recipe.
    """

    def __init__(self, settings: Augmentation, seed: int = 0) -> None:
        super().__init__()
        self.settings = settings
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    @torch.no_grad()
    def forward(self, batch: Batch, first: int) -> Batch:
        """Return the batch changed; its samples have the numbers `first`, `first` + 1, and so on.

        Crops are square, float32; see `Batch` for their axes. The given tensors stay as they are.
        """
        x = batch["source"]
        drawn = [
            np.random.default_rng([self.seed, _STREAM, first + i]).random(len(_NAMES), np.float32)
            for i in range(x.shape[0])
        ]
        numbers = torch.from_numpy(np.stack(drawn))
        changed = self._moved(batch, numbers)
        changed["source"] = self._intensity(changed["source"], numbers, first)
        return changed

    def _moved(self, batch: Batch, numbers: torch.Tensor) -> Batch:
        """Mirror, turn and scale; every channel and plane of a sample alike."""
        s = self.settings
        names = ("source", "target", "teacher") if "teacher" in batch else ("source", "target")
        images: list[torch.Tensor] = [batch[name] for name in names]  # type: ignore[literal-required]
        mask = batch["mask"]
        if s.flip_depth and images[0].ndim == 5:
            on = _draw(numbers, "mirror_z", images[0]) < 0.5
            images = [torch.where(on, image.flip(2), image) for image in images]
            mask = torch.where(on[..., 0, 0], mask.flip(2), mask)
        shapes = [image.shape for image in images]
        # As channels of one image, so that all move and are interpolated alike.
        x = torch.cat([image.flatten(1, -3) for image in images], dim=1)
        if s.flip:
            # The eight ways to lay a square down are these three, each done or not.
            x = torch.where(_draw(numbers, "mirror_y", x) < 0.5, x.flip(2), x)
            x = torch.where(_draw(numbers, "mirror_x", x) < 0.5, x.flip(3), x)
            x = torch.where(_draw(numbers, "transpose", x) < 0.5, x.transpose(2, 3), x)
        x = _some(x, numbers, "affine", s.affine, self._turned)
        parts = x.split([math.prod(shape[1:-2]) for shape in shapes], dim=1)
        result: Batch = {
            "source": parts[0].reshape(shapes[0]),
            "target": parts[1].reshape(shapes[1]),
            "mask": mask,
        }
        if "teacher" in batch:
            result["teacher"] = parts[2].reshape(shapes[2])
        return result

    def _turned(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Turn by any angle and scale, with bilinear interpolation, about the middle."""
        low, high = self.settings.scale
        scale = low + (high - low) * numbers[:, _PLACE["scale"]]
        angle = 360.0 * numbers[:, _PLACE["angle"]]
        side = (x.shape[2], x.shape[3])
        middle = torch.tensor([(side[1] - 1) / 2, (side[0] - 1) / 2]).expand(len(numbers), 2)
        matrix = get_rotation_matrix2d(middle, angle, scale[:, None].expand(-1, 2))
        # What lies beyond the crop is mirrored: black corners would be learnt.
        turned: torch.Tensor = warp_affine(
            x, matrix.to(x.device, non_blocking=True), side, padding_mode="reflection"
        )
        return turned

    def _blurred(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        low, high = self.settings.blur_sigma_px
        sigma = low + (high - low) * numbers[:, _PLACE["sigma"], None].expand(-1, 2)
        side = _odd(3 * high, x)
        blurred: torch.Tensor = gaussian_blur2d(x, (side, side), sigma.to(x.device))
        return blurred

    def _defocused(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        low, high = self.settings.defocus_radius_px
        radius = low + (high - low) * numbers[:, _PLACE["radius"], None, None]
        side = _odd(high + 0.5, x)
        place = torch.arange(side) - side // 2
        distance = (place[:, None].square() + place.square()).sqrt()
        # A pixel on the rim counts by about the share of it that lies inside.
        disc = (radius + 0.5 - distance).clamp(0, 1)
        disc = disc / disc.sum(dim=(1, 2), keepdim=True)
        defocused: torch.Tensor = filter2d(x, disc.to(x.device))
        return defocused

    def _intensity(self, x: torch.Tensor, numbers: torch.Tensor, first: int) -> torch.Tensor:
        s = self.settings
        shape = x.shape
        x = x.flatten(1, -3)
        x = _some(x, numbers, "blur", s.blur, self._blurred)
        x = _some(x, numbers, "defocus", s.defocus, self._defocused)
        if s.gamma != (1.0, 1.0):
            low = x.amin(dim=(1, 2, 3), keepdim=True)
            span = (x.amax(dim=(1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
            exponent = _between(_draw(numbers, "gamma", x), s.gamma)
            x = low + span * ((x - low) / span).pow(exponent)
        if s.gain != (1.0, 1.0):
            x = x * _between(_draw(numbers, "gain", x), s.gain)
        if s.brightness > 0:
            x = x + s.brightness * (2 * _draw(numbers, "brightness", x) - 1)
        if s.noise > 0:
            x = x + s.noise * _draw(numbers, "noise", x) * self._white(x, first)
        return x.reshape(shape)

    def _white(self, like: torch.Tensor, first: int) -> torch.Tensor:
        """Return noise of mean 0 and standard deviation 1, each sample's by its own number."""
        generator = self._generators.setdefault(like.device, torch.Generator(like.device))
        noise = torch.empty_like(like, memory_format=torch.contiguous_format)
        for i, sample in enumerate(noise):
            words = np.random.SeedSequence([self.seed, _STREAM, first + i]).generate_state(2)
            generator.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
            sample.normal_(generator=generator)
        return noise


def _some(
    x: torch.Tensor, numbers: torch.Tensor, name: str, share: float, change: Any
) -> torch.Tensor:
    """Change some samples of a batch; which is known on the CPU, so nothing waits for the device."""
    rows = (numbers[:, _PLACE[name]] < share).nonzero()[:, 0]
    if len(rows) == 0:
        return x
    chosen = numbers[rows]
    if len(rows) == len(x):
        return change(x, chosen)  # type: ignore[no-any-return]
    rows = rows.to(x.device, non_blocking=True)
    return x.index_copy(0, rows, change(x.index_select(0, rows), chosen))


def _draw(numbers: torch.Tensor, name: str, like: torch.Tensor) -> torch.Tensor:
    """Return a number between 0 and 1 for each sample, with the axes of `like`, on its device."""
    column = numbers[:, _PLACE[name]].to(like.device, non_blocking=True)
    return column.reshape(-1, *(1,) * (like.ndim - 1))


def _between(share: torch.Tensor, limits: tuple[float, float]) -> torch.Tensor:
    """Return a factor between two, so that doubling is as likely as halving."""
    low, high = math.log(limits[0]), math.log(limits[1])
    return (low + (high - low) * share).exp()


def _odd(reach: float, x: torch.Tensor) -> int:
    """Return the side of a filter that reaches so far, as far as the image can be mirrored."""
    return 2 * min(math.ceil(reach), min(x.shape[2:]) - 1) + 1

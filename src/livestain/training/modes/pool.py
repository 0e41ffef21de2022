"""Former predictions that a discriminator sees again (Shrivastava 2017, as CycleGAN uses it)."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["ImagePool"]


class ImagePool:
    """Keep up to `size` images; once full, exchange about every second new one for a kept one.

    So a discriminator cannot forget what the generator did a while ago.

    Parameters
    ----------
    size : int
        Images that are kept; 0: none, and every image is given back as it is.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[torch.Tensor] = []

    @torch.no_grad()
    def exchange(self, images: torch.Tensor, seed: list[int]) -> torch.Tensor:
        """Return as many images, new or former ones, and keep new ones.

        Parameters
        ----------
        images : tensor, (n, ...)
            New ones.
        seed : list of int
            Decides which are exchanged; another for every call.
        """
        if self.size == 0:
            return images
        rng = np.random.default_rng(seed)
        given = []
        for image in images:
            if len(self.images) < self.size:
                self.images.append(image.clone())
                given.append(image)
            elif rng.random() < 0.5:
                place = int(rng.integers(self.size))
                given.append(self.images[place])
                self.images[place] = image.clone()
            else:
                given.append(image)
        return torch.stack(given)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the kept images, on their device."""
        return {"images": torch.stack(self.images)} if self.images else {}

    def load_state_dict(self, state: dict[str, torch.Tensor], device: torch.device) -> None:
        """Keep these images, and no others."""
        self.images = list(state["images"].to(device)) if state else []

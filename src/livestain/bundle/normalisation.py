"""The one implementation of normalisation: training, export and the live path all run this module."""

from __future__ import annotations

import torch

from livestain.bundle.description import NormalisationSettings

__all__ = ["NormalisationSettings", "Normalise"]


class Normalise:
    """Normalise (n, sources * planes, y, x) raw counts of any real dtype to float32.

    A function with settings, and no `torch.nn.Module`: it has no weights, and takes no part in state
    dicts. Statistics are of the whole planes that are given, so whoever trains on crops, or pads, takes the
    `statistics` of the whole first; `apply` then may be given any part of it.

    Parameters
    ----------
    settings : NormalisationSettings
        How.
    sources : int
        Number of source channels, whose planes follow one another: source by source. With the scope
        `window` each source has statistics of its own, over all of its planes.
    """

    def __init__(self, settings: NormalisationSettings, sources: int = 1) -> None:
        self.settings = settings
        self.sources = sources

    def statistics(self, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean and standard deviation that `apply` takes.

        Parameters
        ----------
        counts : torch.Tensor, (n, sources * planes, y, x)
            Raw counts of whole planes, any real dtype.

        Returns
        -------
        tuple of torch.Tensor
            Each float32, (n, sources * planes, 1, 1), in counts; the standard deviation is not yet
            held to the floor. For `frozen` those of the training data, whatever is given.
        """
        s = self.settings
        n, channels = counts.shape[:2]
        if s.kind == "frozen":
            assert s.mean is not None  # noqa: S101 - the settings' validator promised it
            assert s.std is not None  # noqa: S101
            whole = torch.ones((n, channels, 1, 1), dtype=torch.float32, device=counts.device)
            return whole * s.mean, whole * s.std
        x = counts.to(torch.float32)
        if s.scope == "plane":
            mean = x.mean(dim=(2, 3), keepdim=True)
            std = (x - mean).square().mean(dim=(2, 3), keepdim=True).sqrt()
            return mean, std
        planes = channels // self.sources
        x = x.reshape(n, self.sources, planes, *x.shape[2:])
        mean = x.mean(dim=(2, 3, 4), keepdim=True)
        std = (x - mean).square().mean(dim=(2, 3, 4), keepdim=True).sqrt()
        each = (n, self.sources, planes, 1, 1)
        return mean.expand(each).flatten(1, 2), std.expand(each).flatten(1, 2)

    def apply(self, counts: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """Return the normalised planes, or parts of planes: same shape as `counts`, float32.

        Parameters
        ----------
        counts : torch.Tensor, (n, channels, y, x)
            Raw counts of any real dtype; a crop will do.
        mean, std : torch.Tensor
            As `statistics` returns them, for these channels; in counts.
        """
        s = self.settings
        x = (counts.to(torch.float32) - mean) / std.clamp_min(s.floor)
        return x.clamp(-s.clip, s.clip)

    def __call__(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the normalised planes, same shape, float32."""
        return self.apply(counts, *self.statistics(counts))

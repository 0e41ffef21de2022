"""The one module that training's validation, the export and the live path run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from livestain.bundle.normalisation import NormalisationSettings, Normalise

if TYPE_CHECKING:
    from livestain.bundle.description import BundleDescription, WindowSpec

__all__ = ["LOG_SPREAD_MAX", "LOG_SPREAD_MIN", "StainModule"]

LOG_SPREAD_MIN = -6.0
"""Log-spreads below it count as it: a spread of 0.0025, far below any noise of a normalised target."""

LOG_SPREAD_MAX = 12.0
"""Log-spreads above it count as it: a spread of 160,000, above all counts of a camera."""


class StainModule(nn.Module):
    """Normalise raw counts and predict, on whole planes whose sides the network takes.

    Counts are (n, sources * planes, y, x), source by source, or with the planes on an axis of their
    own, (n, sources, planes, y, x), as bundles of whole stacks describe them. Predictions are float32,
    in the outputs' units:

    - 2-D networks: (n, outputs, y, x). The planes are channels.
    - 3-D networks with an `own_plane`: (n, outputs, y, x). The planes are the depth, filled up to
      what the network takes by repeating the last; the own plane of the prediction is given out.
    - 3-D networks without: (n, outputs, planes, y, x). Whole stacks, of any number of planes that the
      network takes.

    `forward` pads nothing else. For planes of any sides and stacks of any depth, as the microscope
    gives them, `livestain.inference.padded.stain_padded` runs the same steps with padding between.

    Parameters
    ----------
    network : nn.Module
        One of `livestain.networks`; its output is already in the output's unit.
    normalisation : NormalisationSettings
        Without parameters of its own, so the state dict is the network's alone (under `network.`).
    sources : int
        Number of source channels.
    own_plane : int, optional
        For 3-D networks: the target's place among the planes; None for whole stacks.
    spread : bool
        Whether the second half of the network's outputs are log-spreads, given out as spreads.
    window : WindowSpec, optional
        Which planes of a source are given; the normalisation `running` alone asks. It takes statistics of
        time points that the network is not given.
    """

    def __init__(
        self,
        network: nn.Module,
        normalisation: NormalisationSettings | None = None,
        *,
        sources: int = 1,
        own_plane: int | None = None,
        spread: bool = False,
        window: WindowSpec | None = None,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(normalisation or NormalisationSettings(), sources, window)
        self.network = network
        self.sources = sources
        self.own_plane = own_plane
        self.spread = spread

    @classmethod
    def described(cls, network: nn.Module, description: BundleDescription) -> StainModule:
        """Put a network into the module that a bundle describes."""
        options = description.module_options()
        if "window" in options:
            options["window"] = description.input.window
        return cls(network, description.normalisation, **options)

    @property
    def dims(self) -> int:
        """2 or 3: axes of the network in space (or time)."""
        return int(getattr(self.network, "dims", 2))

    @property
    def whole_stack(self) -> bool:
        """Whether every plane is predicted, and not one alone."""
        return self.dims == 3 and self.own_plane is None

    @property
    def divisor(self) -> int:
        """Both sides, in pixels, must be multiples of this."""
        return int(getattr(self.network, "divisor", 1))

    @property
    def divisor_z(self) -> int:
        """The depth, in planes, that a 3-D network takes is a multiple of this; 1 for 2-D networks."""
        return int(getattr(self.network, "divisor_z", 1))

    @property
    def halo(self) -> int | None:
        """Reach of the network in pixels, in y or x; None where it sees the whole frame."""
        halo = getattr(self.network, "halo", 0)
        return None if halo is None else int(halo)

    @property
    def halo_z(self) -> int | None:
        """Reach of a 3-D network in planes; None where it sees the whole stack; 0 for 2-D networks."""
        halo = getattr(self.network, "halo_z", 0)
        return None if halo is None else int(halo)

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Map raw counts of any real dtype to float32 in the output's unit."""
        return self.finish(self.network(self.prepare(counts)))

    def prepare(self, counts: torch.Tensor) -> torch.Tensor:
        """Normalise counts and lay them out as the network takes them.

        Returns
        -------
        torch.Tensor
            float32, (n, sources * planes, y, x), or (n, sources, depth, y, x) for 3-D networks.
        """
        if counts.ndim == 5:
            counts = counts.flatten(1, 2)
        return self.arrange(self.normalise(counts))

    def arrange(self, normalised: torch.Tensor) -> torch.Tensor:
        """Lay normalised planes, (n, sources * planes, y, x), out as the network takes them."""
        if self.dims == 2:
            return normalised
        n, channels, height, width = normalised.shape
        x = normalised.reshape(n, self.sources, channels // self.sources, height, width)
        if self.own_plane is not None and (missing := -x.shape[2] % self.divisor_z):
            x = functional.pad(x, (0, 0, 0, 0, 0, missing), mode="replicate")
        return x

    def finish(self, predicted: torch.Tensor) -> torch.Tensor:
        """Give out the own plane, spreads and float32 of what the network predicted."""
        predicted = predicted.to(torch.float32)
        if self.dims == 3 and self.own_plane is not None:
            predicted = predicted[:, :, self.own_plane]
        if self.spread:
            values, log_spreads = predicted.chunk(2, dim=1)
            predicted = torch.cat(
                (values, log_spreads.clamp(LOG_SPREAD_MIN, LOG_SPREAD_MAX).exp()), dim=1
            )
        return predicted

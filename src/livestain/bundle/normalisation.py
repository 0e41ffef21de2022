"""The one implementation of normalisation: training, export and the live path all run this module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from livestain.bundle.normalisation_settings import NormalisationSettings
from livestain.bundle.percentiles import percentiles

if TYPE_CHECKING:
    from livestain.bundle.description import WindowSpec

__all__ = ["NormalisationSettings", "Normalise"]

_LEAST_SIDE = 64
"""Rows, and columns, that a subsample keeps where there are as many."""

_BLOCK = 2**18
"""Pixels that the statistics look at together on a CPU: in float32 they stay in its cache."""


class Normalise:
    """Normalise (n, sources * planes, y, x) raw counts of any real dtype to float32.

    A function with settings, and no `torch.nn.Module`: it has no weights, and takes no part in state
    dicts. Statistics are of the whole planes that are given, so whoever trains on crops, or pads, takes the
    `statistics` of the whole first; `apply` then may be given any part of it. Statistics of
    `running` are a function of the window's planes alone, so neither the order in which planes are
    predicted nor a restart changes them.

    Parameters
    ----------
    settings : NormalisationSettings
        How.
    sources : int
        Number of source channels, whose planes follow one another: source by source. With the scope
        `window` each source has statistics of its own, over all of its planes.
    window : WindowSpec, optional
        Which planes of a source these are; `running` alone asks.
    """

    def __init__(
        self, settings: NormalisationSettings, sources: int = 1, window: WindowSpec | None = None
    ) -> None:
        self.settings = settings
        self.sources = sources
        if settings.kind == "running" and window is None:
            raise ValueError("normalisation 'running' needs to know the window")
        self.window = window

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
            held to the floor. With the statistic `percentile` the low percentile, and the distance
            from there to the high one. For `frozen` those of the training data, whatever is given;
            for `running` of the planes that are `seen` alone.
        """
        s = self.settings
        n, channels = counts.shape[:2]
        if s.kind == "frozen":
            return self._frozen(n, channels, counts.device)
        if s.kind == "frame" and s.scope == "window":
            planes = channels // self.sources
            # (n, sources, planes, y, x): each source's planes make one group.
            counts = counts.reshape(n, self.sources, planes, *counts.shape[2:])
            centre, spread = self.of_groups(counts.flatten(0, 1))
            each = (n, self.sources, planes)
            centre, spread = (
                one.reshape(n, self.sources, 1).expand(each).reshape(n, channels, 1, 1)
                for one in (centre, spread)
            )
            return centre, spread
        centre, spread = self.of_groups(counts.flatten(0, 1)[:, None])
        centre, spread = centre.reshape(n, channels, 1, 1), spread.reshape(n, channels, 1, 1)
        return self.averaged(centre, spread) if s.kind == "running" else (centre, spread)

    def averaged(self, mean: torch.Tensor, std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the statistics of `running` from those of each plane of the window by itself.

        Parameters
        ----------
        mean, std : torch.Tensor, (n, sources * planes, 1, 1)
            Of every plane of the window.

        Returns
        -------
        tuple of torch.Tensor
            (n, sources * planes that are `seen`, 1, 1): the average over the time points up to the
            target's own, of the same z; with the scope `window` over all z, too. Later time points
            of the window, if any, have those of the target's own.
        """
        window = self._window
        times = window.past + 1 + window.future
        past, seen = window.past, self.settings.sees_past + 1 + window.future
        found = []
        for one in (mean, std):
            grid = one.reshape(-1, self.sources, times, window.n_z)[:, :, : past + 1]
            average = grid.mean(dim=2, keepdim=True)
            if self.settings.scope == "window":
                average = average.mean(dim=3, keepdim=True)
            each = average.expand(-1, -1, seen, window.n_z)
            found.append(each.reshape(one.shape[0], -1, 1, 1))
        return found[0], found[1]

    def seen(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the planes that the network is given: all, but for `running` with its longer past.

        Parameters
        ----------
        counts : torch.Tensor, (n, sources * planes, y, x)
        """
        if self.settings.kind != "running":
            return counts
        window = self._window
        times = window.past + 1 + window.future
        sides = counts.shape[2:]
        planes = counts.reshape(-1, self.sources, times, window.n_z, *sides)
        kept = planes[:, :, window.past - self.settings.sees_past :]
        return kept.reshape(counts.shape[0], -1, *sides)

    def of_groups(
        self, counts: torch.Tensor, *, sampled: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the statistics of planes together, whatever the kind.

        Parameters
        ----------
        counts : torch.Tensor, (groups, planes, y, x)
            Raw counts of whole planes, or what `sample` left of them.
        sampled : bool
            Whether it is what `sample` left.

        Returns
        -------
        tuple of torch.Tensor
            Each float32, (groups,), over all planes of a group: mean and standard deviation, or low
            percentile and the distance to the high one.
        """
        looked_at = counts if sampled else self.sample(counts)
        if self.settings.statistic == "mean_std":
            return _mean_std(looked_at)
        low, high = percentiles(looked_at.flatten(1), (self.settings.low, self.settings.high))
        return low, high - low

    def sample(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the pixels of whole planes, (..., y, x), that statistics look at; may be a view."""
        step = self.settings.step
        if step == 1:
            return counts
        height, width = counts.shape[-2:]
        # Of sides that an exported graph knows only when it runs, too.
        down = torch.sym_max(1, torch.sym_min(step, height // _LEAST_SIDE))
        right = torch.sym_max(1, torch.sym_min(step, width // _LEAST_SIDE))
        return counts[..., ::down, ::right]

    def apply(self, counts: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """Return the normalised planes, or parts of planes: same shape as `counts`, float32.

        Parameters
        ----------
        counts : torch.Tensor, (n, channels, y, x)
            Raw counts of any real dtype; a crop will do. For `running`: those that are `seen`.
        mean, std : torch.Tensor
            As `statistics` returns them, for these channels; in counts.
        """
        s = self.settings
        # In place where it may be: fresh memory for each step costs a CPU more than the arithmetic.
        if counts.dtype == torch.float32:
            x = counts - mean
        else:
            x = counts.to(torch.float32).sub_(mean)
        return x.div_(std.clamp_min(s.floor)).clamp_(-s.clip, s.clip)

    def __call__(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the normalised planes that are `seen`, (n, sources * planes, y, x) float32."""
        return self.apply(self.seen(counts), *self.statistics(counts))

    # -- of one kind or another ------------------------------------------------------------------

    @property
    def _window(self) -> WindowSpec:
        assert self.window is not None  # noqa: S101 - asked for when it was made
        return self.window

    def _frozen(
        self, n: int, channels: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.settings
        if s.statistic == "percentile":
            assert s.low_counts is not None  # noqa: S101 - the settings' validator promised it
            assert s.high_counts is not None  # noqa: S101
            centre, spread = s.low_counts, s.high_counts - s.low_counts
        else:
            assert s.mean is not None  # noqa: S101
            assert s.std is not None  # noqa: S101
            centre, spread = s.mean, s.std
        whole = torch.ones((n, channels, 1, 1), dtype=torch.float32, device=device)
        return whole * centre, whole * spread


def _mean_std(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of (groups, planes, y, x) of any real dtype: float32 (groups,)."""
    if counts.device.type != "cpu" or torch.compiler.is_exporting():
        var, mean = torch.var_mean(counts.to(torch.float32), dim=(1, 2, 3), correction=0)
        return mean, var.sqrt()
    # `var_mean` takes five times as long on a CPU, and deviations of a whole plane at once fresh memory.
    rows = counts.flatten(1, 2)
    each = [_mean_std_of(group) for group in rows.unbind()]
    return torch.stack([mean for mean, _ in each]), torch.stack([std for _, std in each])


def _mean_std_of(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of (y, x) as two float32 numbers, block by block."""
    blocks = rows.split(max(1, _BLOCK // max(1, rows.shape[1])))
    mean = torch.cat([block.to(torch.float32).mean(dim=1) for block in blocks]).mean()
    squares = [(block.to(torch.float32) - mean).square_().mean(dim=1) for block in blocks]
    return mean, torch.cat(squares).mean().sqrt()

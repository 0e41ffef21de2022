"""The loss of a recipe: a weighted sum of what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from livestain.errors import SettingsError
from livestain.training.losses.likelihood import gaussian_nll, laplace_nll
from livestain.training.losses.pointwise import l1, mse, one_minus_pearson
from livestain.training.losses.psf import blur_radius, psf_l1, psf_sigma_um
from livestain.training.losses.structural import one_minus_ms_ssim, smallest_side
from livestain.training.losses.tn import tn_l1

if TYPE_CHECKING:
    from livestain.training.recipe import Recipe

__all__ = ["RecipeLoss", "check_loss"]


def check_loss(recipe: Recipe) -> None:
    """Refuse a recipe whose loss cannot be computed on its crops.

    Raises
    ------
    SettingsError
        If the crop is too small for the scales of MS-SSIM or for the point spread function, the latter
        has a width in z where there is no z, or `cycle.identity` finds unequal numbers of channels.
    """
    if recipe.cycle is not None:
        _check_identity(recipe)
        return
    loss = recipe.loss
    least = smallest_side(loss.ssim.scales)
    if loss.ms_ssim > 0 and recipe.crop < least:
        fitting = max((n for n in range(1, 6) if smallest_side(n) <= recipe.crop), default=1)
        raise SettingsError(
            f"The recipe {recipe.name} has a crop of {recipe.crop} pixels; MS-SSIM of {loss.ssim.scales} "
            f"scales needs {least}. Choose a larger crop, or loss.ssim.scales: {fitting}."
        )
    if loss.psf is not None:
        if loss.psf.sigma_z_um is not None and not _is_z_stack(recipe):
            raise SettingsError(
                f"The recipe {recipe.name} has loss.psf.sigma_z_um, which needs a 3-D network and "
                "depth_axis: z. Leave it out."
            )
        sigma, _ = _psf_sigma(recipe)
        if 2 * blur_radius(sigma) + 1 > recipe.crop:
            raise SettingsError(
                f"The recipe {recipe.name} has a point spread function with a standard deviation of "
                f"{sigma:.3g} pixels; its crop has {recipe.crop}. Lengths in loss.psf are in micrometres: "
                "mend them, or choose a larger crop."
            )


def _check_identity(recipe: Recipe) -> None:
    channels = recipe.network_spec().kwargs["in_channels"]
    if recipe.cycle is not None and recipe.cycle.identity > 0 and channels != len(recipe.targets):
        raise SettingsError(
            f"The recipe {recipe.name} has cycle.identity above 0, which needs as many source as target "
            f"planes; it has {channels} and {len(recipe.targets)}. Set cycle.identity: 0."
        )


def _is_z_stack(recipe: Recipe) -> bool:
    return recipe.dims == 3 and recipe.depth_axis == "z" and recipe.z_step_um is not None


def _psf_sigma(recipe: Recipe) -> tuple[float, float | None]:
    """Return the width of the point spread function in pixels and, for z-stacks, in planes."""
    if recipe.loss.psf is None:
        return 0.0, None
    sigma, sigma_z = psf_sigma_um(recipe.loss.psf)
    if sigma_z is None or recipe.z_step_um is None or not _is_z_stack(recipe):
        return sigma / recipe.pixel_size_um, None
    return sigma / recipe.pixel_size_um, sigma_z / recipe.z_step_um


class RecipeLoss(nn.Module):
    """The weighted sum of the losses that a recipe names; those of weight 0 are not computed.

    It has no parameters and no state. Under data-parallel training each process takes its means over its
    own crops: their mean is that of one process with all crops where every crop has as many targets, and
    `tn.scope` is not `batch`.

    Parameters
    ----------
    recipe : Recipe
        Its `loss`, number of targets, pixel size and z-step decide. For ``tn.scope: data`` the statistics
        must have been filled in.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.weights = recipe.loss
        self.n_targets = len(recipe.targets)
        self.n_outputs = recipe.n_outputs
        self.psf_sigma, self.psf_sigma_depth = _psf_sigma(recipe)

    @property
    def predicts_spread(self) -> bool:
        """Whether the second half of the prediction's channels are log-spreads."""
        return self.weights.predicts_spread

    def forward(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        mask: torch.Tensor | None = None,
        teacher: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to minimise, and each of its terms, unweighted.

        Parameters
        ----------
        prediction : tensor, (n, outputs, [depth], y, x)
            Of any floating dtype; computed in float32 at least, outside any autocast. Outputs are the
            targets, then their log-spreads where the loss predicts a spread.
        target : tensor, (n, targets, [depth], y, x)
        mask : tensor, (n, targets, [depth]), optional
            1 where a plane of the target is there; the others contribute nothing.
        teacher : tensor like the target, optional
            The teacher's prediction; for `distillation`, which heeds no mask.

        Returns
        -------
        total : tensor, scalar
            0, with a gradient of 0, where no target is there and nothing is distilled.
        terms : dict of scalar tensors
            By their names in `LossWeights`, those of weight above 0.

        Raises
        ------
        ValueError
            If a shape is another, or the teacher's prediction is missing.
        SettingsError
            If ``tn.scope: data`` lacks its statistics.
        """
        if prediction.shape[1] != self.n_outputs:
            raise ValueError(
                f"The prediction has {prediction.shape[1]} channels; expected {self.n_outputs}."
            )
        with torch.autocast(prediction.device.type, enabled=False):
            terms = self._terms(prediction, target, mask, teacher)
            weighted = [getattr(self.weights, name) * value for name, value in terms.items()]
            return torch.stack(weighted).sum(), terms

    def _terms(
        self,
        prediction: torch.Tensor,
        target: torch.Tensor,
        mask: torch.Tensor | None,
        teacher: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        weights, log_spread = self.weights, prediction[:, self.n_targets :]
        prediction = prediction[:, : self.n_targets]
        terms = {}
        if weights.mse > 0:
            terms["mse"] = mse(prediction, target, mask)
        if weights.l1 > 0:
            terms["l1"] = l1(prediction, target, mask)
        if weights.pearson > 0:
            terms["pearson"] = one_minus_pearson(prediction, target, mask)
        if weights.tn_l1 > 0:
            terms["tn_l1"] = tn_l1(prediction, target, mask, weights.tn)
        if weights.ms_ssim > 0:
            terms["ms_ssim"] = one_minus_ms_ssim(prediction, target, mask, weights.ssim)
        if weights.gaussian > 0:
            terms["gaussian"] = gaussian_nll(prediction, log_spread, target, mask)
        if weights.laplace > 0:
            terms["laplace"] = laplace_nll(prediction, log_spread, target, mask)
        if weights.psf_l1 > 0:
            terms["psf_l1"] = psf_l1(prediction, target, mask, self.psf_sigma, self.psf_sigma_depth)
        if weights.distillation > 0:
            if teacher is None:
                raise ValueError("The loss distils, but the batch has no teacher's prediction.")
            terms["distillation"] = mse(prediction, teacher)
        return terms

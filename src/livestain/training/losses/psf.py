"""A loss that knows the microscope: the prediction is blurred as its image would be, then compared.

So the prediction itself may be sharper than the fluorescence that it is trained on, after the idea of the
physics-guided network of Somani et al. 2022.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch.nn import functional

from livestain.training.losses.gaussian import filter_axis, gaussian_kernel
from livestain.training.losses.masked import plane_mean, prepare

if TYPE_CHECKING:
    import torch

    from livestain.training.losses.settings import PSFSettings

__all__ = ["blur", "blur_radius", "psf_l1", "psf_sigma_um"]

_TRUNCATE = 4.0
"""Standard deviations after which the Gaussian is cut, as in scipy."""


def psf_sigma_um(settings: PSFSettings) -> tuple[float, float | None]:
    """Return the width of the point spread function in the plane and along z.

    From the optics: the Gaussian with the widefield spot's own curvature at its peak (Zhang, Zerubia,
    Olivo-Marin, Appl. Opt. 46:1819, 2007, nonparaxial widefield microscope; scalar Debye integral, no
    aberrations).

    Returns
    -------
    sigma : float
        Standard deviation in y and x, in micrometres.
    sigma_z : float or None
        In z; None where the settings say neither it nor the optics.
    """
    if settings.na is None or settings.wavelength_um is None:
        # Guaranteed by PSFSettings: then sigma_um is there.
        return float(settings.sigma_um or 0.0), settings.sigma_z_um
    index = settings.refractive_index
    k = 2 * math.pi * index / settings.wavelength_um
    c = math.sqrt(1 - (settings.na / index) ** 2)
    sigma = (7 * (1 - c**1.5) / (4 - 7 * c**1.5 + 3 * c**3.5)) ** 0.5 / k
    z_root = 4 * c**5 - 25 * c**3.5 + 42 * c**2.5 - 25 * c**1.5 + 4
    sigma_z = 5 * math.sqrt(7 / 6 / z_root) * (1 - c**1.5) / k
    return sigma, sigma_z if settings.sigma_z_um is None else settings.sigma_z_um


def blur_radius(sigma: float) -> int:
    """Return how many pixels (or planes) the kernel of a standard deviation reaches to either side."""
    return int(_TRUNCATE * sigma + 0.5)


def blur(image: torch.Tensor, sigma: float, sigma_depth: float | None = None) -> torch.Tensor:
    """Blur planes, and stacks along their depth where asked; the border is continued by its own value.

    Parameters
    ----------
    image : tensor, (n, targets, [depth], y, x)
    sigma : float
        Standard deviation in y and x, in pixels.
    sigma_depth : float, optional
        In planes; for five axes alone.

    Returns
    -------
    tensor like the image
    """
    shape = image.shape
    planes = image.reshape(-1, *shape[-2:])
    radius = blur_radius(sigma)
    kernel = gaussian_kernel(sigma, radius, image)
    planes = _continued(planes, (radius, radius, radius, radius))
    planes = filter_axis(filter_axis(planes, kernel, 1), kernel, 2)
    if sigma_depth is None:
        return planes.view(shape)
    if image.ndim != 5:
        raise ValueError(f"A blur in depth takes (n, targets, depth, y, x); given {tuple(shape)}.")
    radius = blur_radius(sigma_depth)
    kernel = gaussian_kernel(sigma_depth, radius, image)
    columns = planes.reshape(-1, shape[2], shape[3] * shape[4])
    return filter_axis(_continued(columns, (0, 0, radius, radius)), kernel, 1).view(shape)


def _continued(images: torch.Tensor, pad: tuple[int, int, int, int]) -> torch.Tensor:
    return functional.pad(images[None], pad, mode="replicate")[0]


def psf_l1(
    prediction: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None,
    sigma: float,
    sigma_depth: float | None = None,
) -> torch.Tensor:
    """Return the mean absolute error of the blurred prediction, a scalar.

    Blurred in depth, a plane without a target still shines into its neighbours.

    Parameters
    ----------
    prediction, target, mask
        See `livestain.training.losses.masked`.
    sigma, sigma_depth : float
        See `blur`.
    """
    prediction, target = prepare(prediction, target, mask)
    return plane_mean((blur(prediction, sigma, sigma_depth) - target).abs(), mask)

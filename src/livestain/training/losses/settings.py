"""What a recipe may ask of a loss."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from livestain.bundle.description import NetworkSpec
from livestain.settings import Settings

__all__ = ["Adversarial", "Cycle", "LossWeights", "PSFSettings", "SSIMSettings", "TNSettings"]

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class TNSettings(Settings):
    """The weight of Somani 2021's TN loss, with what the paper leaves open.

    With ``M1 = mu + sigma`` and ``M2 = mu + 3 sigma`` of the target F, the weight rises from 0 at the
    minimum to 0.2 at M1, 0.7 at M2 and 1 at the maximum, linearly between.
    """

    scope: Literal["plane", "batch", "data"] = "plane"
    """Over what mu, sigma, minimum and maximum of the target are taken: each plane (or stack) of the
    crop by itself, as in the authors' later code; all crops of the batch; or all training data."""

    floor: float = Field(default=0.0, ge=0, lt=1)
    """Smallest weight; the formula gives 0 at the minimum, though the text says it is not strictly 0."""

    clamp: bool = True
    """Whether M1 and M2 are kept below the maximum, so that it weighs 0.7 (or 0.2) where they exceed it, as
    M2 does on patches with much foreground, and not less."""

    normalise: bool = False
    """Whether the weights are divided by their mean (of each plane or stack under the scope `plane`, else of
    the batch), so that the loss has the scale of an L1."""

    mean: _Finite | tuple[_Finite, ...] | None = None
    """For the scope `data`: of the normalised targets, one number for all of them or one for each; filled
    in by the training."""

    std: _Positive | tuple[_Positive, ...] | None = None
    """For the scope `data`: see `mean`."""

    minimum: _Finite | tuple[_Finite, ...] | None = None
    """For the scope `data`: see `mean`."""

    maximum: _Finite | tuple[_Finite, ...] | None = None
    """For the scope `data`: see `mean`."""

    @model_validator(mode="after")
    def _statistics_are_of_data(self) -> Self:
        given = [value is not None for value in (self.mean, self.std, self.minimum, self.maximum)]
        if any(given) and not (all(given) and self.scope == "data"):
            raise ValueError("mean, std, minimum and maximum are given together, for scope: data")
        return self


class SSIMSettings(Settings):
    """Multi-scale structural similarity: ``data_range`` is stated, never taken from the image at hand."""

    low: _Finite = -2.0
    """Value that becomes 0 before the comparison, in the target's unit; SSIM is ill-posed below 0."""

    high: _Finite = 8.0
    """Value that becomes 1, in the target's unit."""

    scales: int = Field(default=5, ge=1, le=5)
    """Number of scales, with the paper's weights, renormalised where there are fewer than 5. An 11 pixel
    window and five scales need sides of 176 pixels and more, four 88, three 44."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be smaller than high")
        return self


class PSFSettings(Settings):
    """A point spread function, by which the prediction is blurred before it is compared.

    A Gaussian of ``sigma_um``; or, with ``na`` and ``wavelength_um``, the Gaussian that has the shape of a
    widefield spot at its peak (Zhang, Zerubia, Olivo-Marin, Appl. Opt. 46:1819, 2007).
    """

    sigma_um: _Positive | None = None
    """In y and x, in micrometres."""

    sigma_z_um: _Positive | None = None
    """In z, in micrometres; for 3-D networks on z-stacks alone. Where left out it follows from na and
    wavelength_um; without these, planes are blurred one by one."""

    na: _Positive | None = None
    """Numerical aperture of the objective."""

    wavelength_um: _Positive | None = None
    """Of the emission, in vacuum, in micrometres."""

    refractive_index: _Positive = 1.515
    """Of the immersion."""

    @model_validator(mode="after")
    def _says_a_width(self) -> Self:
        optics = (self.na is not None, self.wavelength_um is not None)
        if (self.sigma_um is None) == (optics != (True, True)) or optics[0] != optics[1]:
            raise ValueError("give sigma_um, or na and wavelength_um, and not both")
        if self.na is not None and self.na >= self.refractive_index:
            raise ValueError("na must be smaller than refractive_index")
        return self


class LossWeights(Settings):
    """A weighted sum of losses; every term is a mean over planes that have a target."""

    mse: float = Field(default=0.0, ge=0)
    """Weight of the mean squared error."""

    l1: float = Field(default=0.0, ge=0)
    """Weight of the mean absolute error."""

    pearson: float = Field(default=0.0, ge=0)
    """Weight of 1 - Pearson correlation of each plane (or stack): blind to its brightness and contrast."""

    tn_l1: float = Field(default=0.0, ge=0)
    """Weight of the mean absolute error under the TN weight of Somani 2021; see `tn`."""

    ms_ssim: float = Field(default=0.0, ge=0)
    """Weight of 1 - multi-scale structural similarity (Wang 2003); see `ssim`."""

    gaussian: float = Field(default=0.0, ge=0)
    """Weight of the Gaussian negative log-likelihood: the network predicts a spread beside each target."""

    laplace: float = Field(default=0.0, ge=0)
    """Weight of the Laplace negative log-likelihood, with a predicted spread."""

    psf_l1: float = Field(default=0.0, ge=0)
    """Weight of the mean absolute error of the prediction blurred by the point spread function; see `psf`."""

    distillation: float = Field(default=0.0, ge=0)
    """Weight of the mean squared error to the prediction of `teacher`, also where a target is missing."""

    tn: TNSettings = TNSettings()
    """For `tn_l1`."""

    ssim: SSIMSettings = SSIMSettings()
    """For `ms_ssim`."""

    psf: PSFSettings | None = None
    """For `psf_l1`."""

    teacher: str | tuple[str, ...] | None = None
    """For `distillation`: a bundle, by name or folder; or a list of bundles: their predictions are averaged,
    in the targets' units."""

    teacher_views: Literal[1, 8] = 1
    """For `distillation`: with 8 a teacher predicts each pair in its 8 mirrored and quarter-turned views,
    which are turned back and averaged. Not for planes whose contrast has a direction, as that of DIC."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """All bundles that teach, by name or folder; none where nothing is distilled."""
        if self.teacher is None:
            return ()
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher

    @property
    def predicts_spread(self) -> bool:
        """Whether the network predicts a log-spread beside each target."""
        return self.gaussian > 0 or self.laplace > 0

    @field_validator("teacher", mode="before")
    @classmethod
    def _names_bundles(cls, given: Any) -> Any:
        names = given if isinstance(given, list | tuple) else [given]
        if given is not None and not all(isinstance(name, str) for name in names):
            raise ValueError("expected a bundle, by name or folder, or a list of such")
        return given

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        weights = (
            self.mse,
            self.l1,
            self.pearson,
            self.tn_l1,
            self.ms_ssim,
            self.gaussian,
            self.laplace,
            self.psf_l1,
            self.distillation,
        )
        if sum(weights) <= 0:
            raise ValueError("a loss needs at least one weight above 0")
        if self.gaussian > 0 and self.laplace > 0:
            raise ValueError("one predicted spread is either gaussian or laplace")
        if (self.psf_l1 > 0) != (self.psf is not None):
            raise ValueError("psf is given for psf_l1 above 0, and only for it")
        if (self.distillation > 0) != (self.teacher is not None):
            raise ValueError("teacher is given for distillation above 0, and only for it")
        if self.teacher == ():
            raise ValueError("teacher is an empty list; give a bundle, or several")
        if self.teacher_views > 1 and self.teacher is None:
            raise ValueError("teacher_views above 1 is given for distillation, and only for it")
        return self


class Adversarial(Settings):
    """A discriminator that looks at source and target together (pix2pix, Isola 2017; Somani 2021)."""

    weight: float = Field(default=1.0, gt=0)
    """Weight of the generator's wish to deceive, beside the recipe's `loss`."""

    discriminator: NetworkSpec = NetworkSpec(name="patchgan70")
    """Its architecture; `in_channels` (of sources and targets together) is filled in."""

    loss: Literal["mse", "bce", "dice_bce", "jaccard", "focal"] = "mse"
    """How its verdict is scored: least squares (LSGAN), cross-entropy, Dice and cross-entropy, Jaccard,
    focal."""

    discriminator_scale: float = Field(default=0.5, gt=0)
    """Factor on the discriminator's own loss."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Of the discriminator; the optimiser's where left out."""


class Cycle(Settings):
    """Two generators and two discriminators for unpaired data (CycleGAN, Zhu 2017; Kölln 2021)."""

    adversarial: Adversarial = Adversarial()
    """Of both domains; a discriminator looks at one domain alone."""

    cycle: float = Field(default=10.0, gt=0)
    """Weight of the mean absolute error after a way there and back."""

    identity: float = Field(default=0.5, ge=0)
    """Weight, relative to `cycle`, of leaving an image of the own domain as it is; needs as many
    sources as targets."""

    pool: int = Field(default=50, ge=0)
    """Former predictions that the discriminators see again (Shrivastava 2017); 0: none."""

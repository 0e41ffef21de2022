"""The parts of a recipe: channels, split, checks, augmentation, optimiser, card."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from livestain.bundle.description import ChannelKind, OutputChannel
from livestain.settings import Settings

__all__ = [
    "Augmentation",
    "Checks",
    "ModelCard",
    "Optimiser",
    "Selection",
    "Source",
    "Split",
    "Target",
]

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Range = tuple[
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
]


class Source(Settings):
    """A channel that is looked at."""

    channel: str = Field(default="brightfield", min_length=1)
    """Folder of its images in a movie's folder, or its channel in a store; capitals do not matter."""

    kind: ChannelKind = "brightfield"
    """Contrast of that channel."""

    flat_field: str | None = None
    """Image of an empty field, by which each plane is divided (its mean is kept): a path, or one
    relative to the data folder. A live run then needs one too: `flat_field` of its virtual channel."""

    dark_frame: str | None = None
    """Image without light, which is taken from each plane and from the flat field; likewise."""


class Target(Settings):
    """A channel that is to be predicted."""

    channel: str = Field(default="mitochondria", min_length=1)
    """Folder of its images in a movie's folder, or its channel in a store; capitals do not matter."""

    normalisation: Literal["plane", "none"] = "plane"
    """`plane`: each plane (for 3-D networks: each z-stack) to mean 0 and std 1, so the prediction's unit
    is `sd`, right wherever absolute intensity means nothing between images; `none`: counts as they are."""

    required: bool = True
    """Whether a place without this target is left out; if not, it is trained on with what is there."""

    flat_field: str | None = None
    """As for a source."""

    dark_frame: str | None = None
    """As for a source."""

    output: OutputChannel
    """The predicted channel: name, unit, encoding, display."""


class Split(Settings):
    """What is held back from training to watch it, and to choose by if the recipe says so."""

    by: Literal["movie", "position", "file", "random_crops_that_leak"] = "movie"
    """What stays together. `movie` is the one that says something of other cells. `position`: fields of a
    store; `file`: files and time points; neighbours show the same cells. `random_crops_that_leak` puts
    overlapping crops of the same cells on both sides, as Somani 2021 did: to repeat their number only."""

    validation: _Fraction | tuple[str, ...] = 0.0
    """Share of the groups, drawn by the recipe's seed, or the groups' names; 0 or none: no validation."""

    test: _Fraction | tuple[str, ...] = 0.0
    """Likewise: neither trained on nor looked at; for `livestain evaluate --split test`."""


class Selection(Settings):
    """Which weights are the result."""

    weights: Literal["last", "best"] = "last"
    """`last`: of the last step; `best`: of the best Pearson on the validation data, which therefore is no
    held-out score. `best` needs a validation split, of at least one whole movie if it is by movie."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between two looks at the validation data; a tenth of all where left out."""

    patience: int | None = Field(default=None, ge=1)
    """End after so many looks without a better one; never where left out. Needs `best`."""

    @model_validator(mode="after")
    def _patience_needs_best(self) -> Self:
        if self.patience is not None and self.weights != "best":
            raise ValueError("patience needs weights: best")
        return self


class Checks(Settings):
    """What is looked at before a training begins."""

    registration: Literal["off", "report", "shift", "affine"] = "report"
    """Displacement of each target against the first source, in x, y and z, one for each movie: by correlation
    of the ridges that both show. `report`: tell and refuse beyond the tolerance; `shift`, `affine`: correct
    the target planes, cut off the margins that then have no target, and tell. Where no displacement stands
    out from chance, that is told, and nothing is refused or corrected."""

    tolerance_um: float | None = Field(default=None, gt=0)
    """Largest median displacement in y or x that is not refused, in micrometres; 5 pixels where left out."""

    tolerance_z_um: float | None = Field(default=None, gt=0)
    """Largest in z, in micrometres; one z-step where left out."""

    pairs: int = Field(default=64, ge=1)
    """Most pairs a movie whose displacement is looked at, spread evenly; a quarter of it where the pairs are
    stacks."""

    bad_pairs: Literal["report", "drop", "refuse"] = "report"
    """What happens to pairs that are defocused, saturated or empty. `drop` also drops those whose target is
    constant, which are refused otherwise."""


class Augmentation(Settings):
    """Random changes of each training crop; those of intensity change the source alone."""

    flip: bool = True
    """Mirror, and turn by quarter turns, in the plane."""

    flip_depth: bool = False
    """For 3-D networks: also reverse the order of the planes."""

    affine: _Fraction = 0.0
    """Share of crops that are turned by any angle and scaled, with interpolation."""

    scale: _Range = (1.0, 1.0)
    """Smallest and largest magnification of those crops."""

    gain: _Range = (1.0, 1.0)
    """Smallest and largest factor on the source's contrast."""

    brightness: float = Field(default=0.0, ge=0)
    """Largest shift of the source, either way, in its standard deviations."""

    gamma: _Range = (1.0, 1.0)
    """Smallest and largest exponent on the source, between the crop's own minimum and maximum."""

    blur: _Fraction = 0.0
    """Share of crops whose source is blurred."""

    blur_sigma_px: _Range = (0.3, 1.0)
    """Smallest and largest width of that blur, in pixels."""

    defocus: _Fraction = 0.0
    """Share of crops whose source is blurred by a disc, as by a plane out of focus."""

    defocus_radius_px: _Range = (1.0, 3.0)
    """Smallest and largest radius of that disc, in pixels."""

    noise: float = Field(default=0.0, ge=0)
    """Largest standard deviation of white noise added to the source, in its standard deviations."""


class Optimiser(Settings):
    """How the loss is minimised."""

    kind: Literal["adamw", "adam"] = "adamw"
    """AdamW (decoupled decay), or Adam as the papers used it (then `weight_decay` is not applied)."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """At the top of the schedule."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Memory of the gradient's mean; 0.5 is usual beside a discriminator."""

    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled decay; on matrices and kernels, not on biases and normalisation."""

    warmup_steps: int = Field(default=50, ge=0)
    """Steps over which the learning rate rises along a line."""

    schedule: Literal["cosine", "constant", "linear", "plateau"] = "cosine"
    """After the warm-up: a cosine to nothing at the last step; constant; constant for half the steps, then
    a line to nothing (CycleGAN); or halved when the validation loss no longer falls (CARE)."""

    plateau_patience: int = Field(default=10, ge=0)
    """For the schedule `plateau`: looks at the validation data in a row, none with a lower
    loss, that are borne."""

    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; none: no clipping."""


class ModelCard(Settings):
    """What the exported model's card says beyond what the run knows; options of `export` win."""

    name: str | None = None
    """Short name of the bundle; the recipe's name where left out."""

    title: str | None = None
    """Title in words; made from the name where left out."""

    licence: str | None = None
    """SPDX identifier; decided by the licence of the data."""

    authors: tuple[str, ...] = ("livestain",)
    """Names."""

    data: str = ""
    """Where the training data comes from, with citation and licence; Markdown."""

    simulated: bool = False
    """Whether the training data is simulated: such a model is never chosen for real cells by itself."""

    evaluation: str = ""
    """How the scores on held-out movies came about, and what they chose, if anything; Markdown."""

    limits: str = ""
    """What the model is not for; Markdown."""

"""A recipe: everything that decides what a training makes, but the data's place and the seed's luck."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from livestain.bundle.description import (
    ChannelKind,
    NetworkSpec,
    NormalisationSettings,
    OutputChannel,
    WindowSpec,
)
from livestain.errors import SettingsError
from livestain.settings import Settings

__all__ = [
    "Augmentation",
    "LossWeights",
    "ModelCard",
    "Optimiser",
    "Recipe",
    "Source",
    "Target",
    "find_recipe",
    "recipe_names",
]

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Range = tuple[
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
]


class Source(Settings):
    """The channel that is looked at."""

    channel: str = Field(default="brightfield", min_length=1)
    """Folder of its images in a movie's folder, or its channel in a store; capitals do not matter."""

    kind: ChannelKind = "brightfield"
    """Contrast of that channel."""


class Target(Settings):
    """A channel that is to be predicted."""

    channel: str = Field(default="mitochondria", min_length=1)
    """Folder of its images in a movie's folder, or its channel in a store; capitals do not matter."""

    normalisation: Literal["plane", "none"] = "plane"
    """`plane`: each plane to mean 0 and std 1, so the prediction's unit is `sd`, right wherever absolute
    intensity means nothing between images; `none`: counts as they are."""

    output: OutputChannel
    """The predicted channel: name, unit, encoding, display."""


class LossWeights(Settings):
    """A weighted sum of losses; every term is a mean over planes."""

    mse: float = Field(default=0.0, ge=0)
    """Weight of the mean squared error."""

    l1: float = Field(default=0.0, ge=0)
    """Weight of the mean absolute error."""

    pearson: float = Field(default=0.0, ge=0)
    """Weight of 1 - Pearson correlation of each plane: blind to its brightness and contrast."""

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.mse + self.l1 + self.pearson <= 0:
            raise ValueError("a loss needs at least one weight above 0")
        return self


class Augmentation(Settings):
    """Random changes of each training crop; those of intensity change the source alone."""

    flip: bool = True
    """Mirror, and turn by quarter turns."""

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

    noise: float = Field(default=0.0, ge=0)
    """Largest standard deviation of white noise added to the source, in its standard deviations."""


class Optimiser(Settings):
    """AdamW: warm-up by a line, then a cosine down to nothing at the last step."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """At the top of the schedule."""

    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled decay; on matrices and kernels, not on biases and normalisation."""

    warmup_steps: int = Field(default=50, ge=0)
    """Steps of the warm-up."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up."""

    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""


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


class Recipe(Settings):
    """How one model is trained."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Short name: lower case letters, digits, `_`, `-` and `.`."""

    network: NetworkSpec
    """The architecture; `in_channels` and `out_channels` are filled in."""

    source: Source = Source()
    """What is looked at."""

    targets: tuple[Target, ...] = Field(min_length=1)
    """What is predicted, in the network's order."""

    window: WindowSpec = WindowSpec()
    """The source planes of one prediction; more than one plane needs data in stores. `z: all` is
    refused: the network predicts one plane, which would be the same for every z of the stack."""

    pixel_size_um: float = Field(gt=0, allow_inf_nan=False)
    """Side of a pixel of the training data in the sample, in micrometres."""

    pixel_size_range_um: _Range
    """Pixel sizes that the deployed model may be resampled from, in micrometres."""

    z_step_um: float | None = Field(default=None, gt=0)
    """Distance of the planes of a z-window, in micrometres."""

    normalisation: NormalisationSettings = NormalisationSettings()
    """Of the source; the same module runs live. Whole planes are normalised, then cropped."""

    movies: tuple[str, ...] | None = None
    """Train on these movies alone; all of them where left out."""

    leave_out: tuple[str, ...] = ()
    """Movies that this training must not see."""

    balance: Literal["movie", "pair"] = "movie"
    """Whether every movie is drawn equally often, or every pair."""

    crop: int = Field(default=192, ge=16)
    """Side of a training crop, in pixels; a multiple of the network's divisor."""

    batch_size: int = Field(default=8, ge=1)
    """Crops a step."""

    steps: int = Field(default=1000, ge=1)
    """Number of steps: fixed beforehand, since no score may choose when to stop."""

    loss: LossWeights = LossWeights(mse=1.0)
    """What is minimised."""

    augmentation: Augmentation = Augmentation()
    """Random changes of crops."""

    optimiser: Optimiser = Optimiser()
    """How it is minimised."""

    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """Share of the running average of the weights that one step keeps; the average is what is
    exported. 0: the last weights."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network's arithmetic while training; `auto`: bf16 where the processor computes in it."""

    seed: int = Field(default=0, ge=0)
    """Decides first weights, order, crops and augmentation."""

    card: ModelCard = ModelCard()
    """What the exported model's card says."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        low, high = self.pixel_size_range_um
        if not low <= self.pixel_size_um <= high:
            raise ValueError("pixel_size_um lies outside pixel_size_range_um")
        names = [target.output.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError("two targets have the same output name")
        if self.window.z == "all":
            raise ValueError(
                "window.z: all gives the network the same planes for every z of a stack, so it would "
                "predict the same plane for all of them; give an odd number of z-planes"
            )
        if self.window.window().needs_stack and self.z_step_um is None:
            raise ValueError("a window of several z-planes needs z_step_um")
        if self.movies is not None and set(self.movies) & set(self.leave_out):
            raise ValueError("a movie is both in movies and in leave_out")
        for name in ("in_channels", "out_channels"):
            if name in self.network.kwargs:
                raise ValueError(
                    f"network.kwargs has {name}, which follows from window and targets"
                )
        return self

    def network_spec(self) -> NetworkSpec:
        """Return the architecture with the number of its input and output channels."""
        kwargs: dict[str, Any] = {
            "in_channels": self.window.n_planes,
            "out_channels": len(self.targets),
            **self.network.kwargs,
        }
        return NetworkSpec(name=self.network.name, kwargs=kwargs)


_SHIPPED = Path(__file__).parent / "recipes"


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that travel with the package, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def find_recipe(name_or_path: str | Path) -> Path:
    """Return the file of a recipe: a path, or the name of one that travels with the package.

    Raises
    ------
    SettingsError
        If it is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if str(name_or_path) in recipe_names():
        return _SHIPPED / f"{name_or_path}.yaml"
    raise SettingsError(
        f"There is no recipe {name_or_path}. Expected a YAML file, or one of the recipes that come "
        f"with livestain: {', '.join(recipe_names())}."
    )

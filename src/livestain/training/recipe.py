"""A recipe: everything that decides what a training makes, but the data's place and the seed's luck."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from livestain.bundle.description import NetworkSpec, NormalisationSettings, WindowSpec
from livestain.errors import SettingsError
from livestain.settings import Settings, read_yaml
from livestain.training.losses.settings import Adversarial, Cycle, LossWeights
from livestain.training.parts import (
    Augmentation,
    Checks,
    ModelCard,
    Optimiser,
    Selection,
    Source,
    Split,
    Target,
)

__all__ = ["Recipe", "find_recipe", "recipe_names"]

_Range = tuple[
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
]


class Recipe(Settings):
    """How one model is trained."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Short name: lower case letters, digits, `_`, `-` and `.`."""

    about: str = ""
    """What it is for and where it is from, in a sentence; shown by `livestain train --list`."""

    network: NetworkSpec
    """The architecture; `in_channels` and `out_channels` are filled in."""

    start: str | None = None
    """A bundle, by name or folder, whose weights the training begins with instead of random ones; of the
    same network. A model of simulated cells is a better beginning than none."""

    sources: tuple[Source, ...] = Field(default=(Source(),), min_length=1)
    """What is looked at, in the network's order; `source: {...}` is short for one."""

    targets: tuple[Target, ...] = Field(min_length=1)
    """What is predicted, in the network's order."""

    pairing: Literal["paired", "noise2noise", "unpaired"] = "paired"
    """`paired`: source and target of one place. `noise2noise` (Lehtinen 2018): two noisy takes of one
    structure, one source and one target, which change roles at random; where both name the same channel, two
    consecutive time points. `unpaired`: sources and targets of any place, for `cycle`."""

    window: WindowSpec = WindowSpec()
    """The source planes of one prediction; more than one plane needs data that says which belong together.
    A 2-D network takes them as channels and predicts the own plane. A 3-D network takes them as its
    depth: `z: all` for stacks (any number of planes), `past` and `future` for time (XYT)."""

    depth_axis: Literal["z", "t", "both"] = "z"
    """For 3-D networks: what the depth of a training crop is. `both` draws stacks and time series equally
    often (the combined model of Hsu 2021); the window then says how the model is deployed."""

    crop_depth: int = Field(default=32, ge=1)
    """For 3-D networks: planes of a training crop; a multiple of the network's `divisor_z`. Shallower stacks
    are padded by their last plane."""

    pixel_size_um: float = Field(gt=0, allow_inf_nan=False)
    """Side of a pixel that is trained at, in micrometres."""

    pixel_size_range_um: _Range
    """Pixel sizes that the deployed model may be resampled from, in micrometres."""

    z_step_um: float | None = Field(default=None, gt=0)
    """Distance of the planes of a z-window or stack that is trained at, in micrometres."""

    z_step_range_um: _Range | None = None
    """Z-steps that the deployed model of whole stacks may be resampled from, in micrometres; a tenth either
    way of `z_step_um`, and no resampling, where left out."""

    resample: bool = False
    """Whether data of another pixel size (and z-step, for stacks) is resampled to the above;
    refused if not."""

    normalisation: NormalisationSettings = NormalisationSettings()
    """Of the sources; the same module runs live. Whole planes are normalised, then cropped."""

    movies: tuple[str, ...] | None = None
    """Train on these movies alone; all of them where left out."""

    leave_out: tuple[str, ...] = ()
    """Movies that this training must not see."""

    split: Split = Split()
    """What is held back of the rest."""

    selection: Selection = Selection()
    """Which weights are the result."""

    checks: Checks = Checks()
    """What is looked at before the training begins."""

    balance: Literal["movie", "pair"] = "movie"
    """Whether every movie is drawn equally often, or every pair."""

    foreground: float = Field(default=0.0, ge=0, lt=1)
    """Least share of a training crop that the first target covers (above the Otsu threshold of its plane);
    Somani 2021: 0.2. Crops are drawn again, up to a bound, and then taken as they are."""

    crop: int = Field(default=192, ge=16)
    """Side of a training crop, in pixels; a multiple of the network's divisor."""

    batch_size: int = Field(default=8, ge=1)
    """Crops a step, over all processes."""

    steps: int = Field(default=1000, ge=1)
    """Number of steps: fixed beforehand, unless `selection` says that validation may end it earlier."""

    loss: LossWeights = LossWeights(mse=1.0)
    """What is minimised."""

    adversarial: Adversarial | None = None
    """A discriminator beside the loss, if any."""

    cycle: Cycle | None = None
    """Two generators for unpaired data, if any; `loss` then plays no part."""

    augmentation: Augmentation = Augmentation()
    """Random changes of crops."""

    optimiser: Optimiser = Optimiser()
    """How it is minimised."""

    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """Share of the running average of the weights that one step keeps; the average is what is
    exported. 0: the last weights."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the network's arithmetic while training; `auto`: bf16 where the processor computes in it."""

    loaders: int = Field(default=0, ge=0)
    """Processes that read data; the order of the samples does not depend on it."""

    seed: int = Field(default=0, ge=0)
    """Decides first weights, order, crops and augmentation."""

    card: ModelCard = ModelCard()
    """What the exported model's card says."""

    @classmethod
    def from_yaml(cls, path: Path | str) -> Self:
        """Read a recipe; with `base: NAME` it is a variant, and tells only what differs.

        The base is a recipe of ours, by name, or a file, relative to the variant's. Mappings are merged key
        by key; everything else, lists and networks of another name included, takes the place of the base's.

        Raises
        ------
        SettingsError
            If a file is missing, is not YAML, or does not fit; the message names the key.
        """
        return cls.parse(_with_base(Path(path), ()), where=str(path))

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, given: Any) -> Any:
        if isinstance(given, dict) and "source" in given:
            if "sources" in given:
                raise ValueError("give source or sources, and not both")
            given = {**given, "sources": [given["source"]]}
            del given["source"]
        return given

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        low, high = self.pixel_size_range_um
        if not low <= self.pixel_size_um <= high:
            raise ValueError("pixel_size_um lies outside pixel_size_range_um")
        names = [target.output.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError("two targets have the same output name")
        if self.window.window().needs_stack and self.z_step_um is None:
            raise ValueError("a window of several z-planes needs z_step_um")
        if self.movies is not None and set(self.movies) & set(self.leave_out):
            raise ValueError("a movie is both in movies and in leave_out")
        for name in ("in_channels", "out_channels"):
            if name in self.network.kwargs:
                raise ValueError(
                    f"network.kwargs has {name}, which follows from window and targets"
                )
        if (self.cycle is not None) != (self.pairing == "unpaired"):
            raise ValueError("cycle is given for pairing: unpaired, and only for it")
        if self.cycle is not None and self.adversarial is not None:
            raise ValueError("cycle has its own adversarial settings; leave adversarial out")
        if self.pairing == "noise2noise" and (len(self.sources), len(self.targets)) != (1, 1):
            raise ValueError("noise2noise takes one source and one target")
        if self.selection.weights == "best" and self.split.validation in (0.0, ()):
            raise ValueError("selection.weights: best needs split.validation")
        if self.optimiser.schedule == "plateau" and self.split.validation in (0.0, ()):
            raise ValueError("optimiser.schedule: plateau needs split.validation")
        self.normalisation.check_window(self.window, dims=2)
        return self

    @property
    def dims(self) -> int:
        """Number of the network's axes in space (or time): 2 or 3.

        Raises
        ------
        SettingsError
            If no network has that name.
        """
        from livestain.networks import network_dims

        try:
            return network_dims(self.network.name)
        except KeyError as error:
            raise SettingsError(
                f"The recipe {self.name} cannot have its network: {error.args[0]}"
            ) from error

    @property
    def n_outputs(self) -> int:
        """Channels of the network's output: targets, then their log-spreads where they are predicted."""
        return len(self.targets) * (2 if self.loss.predicts_spread else 1)

    def network_spec(self) -> NetworkSpec:
        """Return the architecture with the number of its input and output channels.

        Raises
        ------
        SettingsError
            If no network has that name, or it cannot have such a window.
        """
        dims, window = self.dims, self.window
        if dims == 2 and window.z == "all":
            raise SettingsError(
                f"The recipe {self.name} gives its 2-D network {self.network.name} the window z: all: the "
                "same planes for every z of a stack, so it would predict the same plane for all of them. "
                "Give an odd number of z-planes, or a 3-D network."
            )
        if dims == 3 and window.n_z > 1 and window.past + window.future > 0:
            raise SettingsError(
                f"The recipe {self.name} gives its 3-D network {self.network.name} a window in z and in "
                "time. Its depth is one of them: give z, or past and future."
            )
        try:
            self.normalisation.check_window(window, dims)
        except ValueError as error:
            raise SettingsError(f"The recipe {self.name} cannot be trained: {error}.") from error
        planes = self.normalisation.seen(window).n_planes if dims == 2 else 1
        kwargs: dict[str, Any] = {
            "in_channels": len(self.sources) * planes,
            "out_channels": self.n_outputs,
            **self.network.kwargs,
        }
        return NetworkSpec(name=self.network.name, kwargs=kwargs)


def _with_base(path: Path, seen: tuple[Path, ...]) -> Any:
    given = read_yaml(path)
    if not isinstance(given, dict) or "base" not in given:
        return given
    if path.resolve() in seen:
        raise SettingsError(f"{path} is its own base. Expected a recipe without a circle of bases.")
    near = path.parent / str(given["base"])
    base = _with_base(
        near if near.is_file() else find_recipe(given["base"]), (*seen, path.resolve())
    )
    return _merged(base, {key: value for key, value in given.items() if key != "base"})


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "name" in over and "kwargs" in base and over["name"] != base.get("name"):
        return over  # another network: the arguments of the base's are not its own
    # One source has two spellings; the variant's wins, whichever it is.
    gone = {"source", "sources"} if {"source", "sources"} & set(over) else set()
    kept = {key: value for key, value in base.items() if key not in gone}
    return kept | {key: _merged(kept.get(key), value) for key, value in over.items()}


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
    near = difflib.get_close_matches(str(name_or_path), recipe_names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise SettingsError(
        f"There is no recipe {name_or_path}.{hint} Expected a YAML file, or one of the recipes that come "
        f"with livestain: {', '.join(recipe_names())}."
    )

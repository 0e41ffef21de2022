"""What live staining needs to know of a model: the part of rdf.yaml under ``config.livestain``."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from livestain.bundle.normalisation_settings import NormalisationSettings
from livestain.networks import network_dims
from livestain.planes import Window
from livestain.settings import Settings

__all__ = [
    "INT8_FILE",
    "BundleDescription",
    "ChannelKind",
    "ForeignSpec",
    "InputSpec",
    "Int8",
    "Latency",
    "NetworkSpec",
    "NormalisationSettings",
    "OutputChannel",
    "ReferenceStatistics",
    "WindowSpec",
]

ChannelKind = Literal["brightfield", "phase", "dic", "fluorescence"]
"""How a channel's contrast comes about."""

MOST_INT8_DIFFERENCE = 0.1
"""How far int8 may be from float32 at most, relative to the standard deviation: faults begin near it."""

INT8_FILE: Literal["network_int8.onnx"] = "network_int8.onnx"
"""The network alone in 8-bit integers."""

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class WindowSpec(Settings):
    """The source planes of one prediction, as `livestain.planes.Window` has them."""

    z: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """Number of z-planes (odd) around the plane, or `all` for a 3-D network that predicts every plane of
    the whole stack at once."""

    past: int = Field(default=0, ge=0)
    """Time points before the plane's own."""

    future: int = Field(default=0, ge=0)
    """Time points after the plane's own."""

    depth: int | None = Field(default=None, ge=1)
    """For `z: all` alone: how many z-planes the stack must have; none: any number."""

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        self.window()
        if self.depth is not None and self.z != "all":
            raise ValueError("depth is given for 'z: all' alone")
        if self.z == "all" and (self.past or self.future):
            raise ValueError("a whole stack ('z: all') has no past and future")
        return self

    def window(self) -> Window:
        """Return the window that says which planes these are."""
        return Window(z=self.z, past=self.past, future=self.future)

    @property
    def whole_stack(self) -> bool:
        """Whether every plane of a stack is predicted at once."""
        return self.z == "all"

    @property
    def n_z(self) -> int:
        """Number of z-planes at one time point; of whole stacks of any depth, 1."""
        return self.z if self.z != "all" else self.depth or 1

    @property
    def n_planes(self) -> int:
        """Number of planes of one source that the network takes; of whole stacks of any depth, 1."""
        return self.n_z * (self.past + 1 + self.future)

    @property
    def own_plane(self) -> int:
        """Place of the target's own plane among those of one source; of a whole stack, the middle one."""
        return self.past * self.n_z + self.n_z // 2


class InputSpec(Settings):
    """What the network was trained to look at."""

    kind: ChannelKind = "brightfield"
    """Contrast of the source channel; of the first, where there are several."""

    more_kinds: tuple[ChannelKind, ...] = ()
    """Contrasts of the further source channels, in the network's order."""

    pixel_size_um: _Positive
    """Side of a pixel in the sample that the network was trained at, in micrometres."""

    pixel_size_range_um: tuple[_Positive, _Positive]
    """Smallest and largest pixel size that may be resampled to `pixel_size_um`, in micrometres."""

    z_step_um: _Positive | None = None
    """Distance of the planes of a z-window or stack, in micrometres; none for a single plane."""

    z_step_tolerance: float = Field(default=0.1, ge=0, lt=1)
    """Largest relative deviation from `z_step_um`."""

    z_step_range_um: tuple[_Positive, _Positive] | None = None
    """For whole stacks alone: smallest and largest distance of the planes that may be resampled to
    `z_step_um`, in micrometres; none: only what `z_step_tolerance` allows."""

    window: WindowSpec = WindowSpec()
    """The planes one prediction needs."""

    divisor: int = Field(default=1, ge=1)
    """The network takes sides that are multiples of this, in pixels."""

    divisor_z: int = Field(default=1, ge=1)
    """A 3-D network takes depths that are multiples of this, in planes."""

    halo: Annotated[int, Field(ge=0)] | None = 0
    """A pixel's prediction depends on no pixel farther than this in y or x (the network's own
    reach, without what the normalisation's statistics of the frame carry); none: it depends on the
    whole frame, which must not be cut into tiles."""

    halo_z: Annotated[int, Field(ge=0)] | None = 0
    """The same of a 3-D network, in planes."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        low, high = self.pixel_size_range_um
        if not low <= self.pixel_size_um <= high:
            raise ValueError("pixel_size_um lies outside pixel_size_range_um")
        if self.window.window().needs_stack and self.z_step_um is None:
            raise ValueError("a z-window or stack needs z_step_um")
        if self.z_step_range_um is not None:
            low, high = self.z_step_range_um
            if not self.window.whole_stack:
                raise ValueError("z_step_range_um is given for whole stacks ('z: all') alone")
            if self.z_step_um is None or not low <= self.z_step_um <= high:
                raise ValueError("z_step_um lies outside z_step_range_um")
        return self

    @property
    def kinds(self) -> tuple[ChannelKind, ...]:
        """Contrasts of all source channels, in the network's order."""
        return (self.kind, *self.more_kinds)


class OutputChannel(Settings):
    """One predicted channel."""

    name: str = Field(min_length=1)
    """What is stained, such as `mitochondria`; the name a virtual channel finds its model by."""

    unit: str = "counts"
    """Unit of the predicted values; `counts` of the fluorescence camera, or `sd` of its frames."""

    scale: _Positive = 1.0
    """Stored count q means ``q * scale + offset`` in the unit."""

    offset: _Finite = 0.0
    """See `scale`."""

    display: tuple[_Finite, _Finite]
    """Values shown black and white, in the unit."""

    color: str = Field(default="FF00FF", pattern=r"^[0-9A-Fa-f]{6}$")
    """Colour of the channel as RRGGBB."""

    spread_of: str | None = None
    """For a predicted spread: the output whose spread it is, in the same unit."""

    @model_validator(mode="after")
    def _display_is_a_range(self) -> Self:
        if not self.display[0] < self.display[1]:
            raise ValueError("display is (low, high) with low < high")
        return self


class NetworkSpec(Settings):
    """An architecture of `livestain.networks`, by name."""

    name: str
    """As `livestain.networks.build_network` knows it."""

    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments."""


class ForeignSpec(Settings):
    """A network of another tool, known by its ONNX or TorchScript alone.

    Its axes, preprocessing and postprocessing are those that the rest of rdf.yaml says in bioimage.io's
    words; the description's `normalisation` is then not used.
    """

    foreign: Literal["onnx", "torchscript"]
    """Form of the weights that are run."""

    dims: Literal[2, 3] = 2
    """Axes of the network in space: 3 where z has an axis of its own."""

    takes: tuple[float, float] | None = None
    """Smallest and largest value that its input declares, or is cast to; none: no limit is known."""

    input_range: tuple[_Finite, _Finite] | None = None
    """Counts that are mapped linearly onto `takes` before its preprocessing; none: they go in as they are."""

    least_z: int = Field(default=1, ge=1)
    """Fewest z-planes of a stack that it takes."""

    @model_validator(mode="after")
    def _is_mapped(self) -> Self:
        if self.input_range is None:
            return self
        low, high = self.input_range
        if not 0 <= low < high <= 65535:
            raise ValueError("the input range is LOW HIGH, counts of 0 to 65535, LOW below HIGH")
        if self.takes is None or not all(map(math.isfinite, self.takes)):
            raise ValueError(
                "an input range is given, but the model neither declares a range of its input's values nor "
                "casts them to a type with one; leave --input-range out"
            )
        return self


def _which_network(value: Any) -> str:
    foreign = "foreign" in value if isinstance(value, dict) else isinstance(value, ForeignSpec)
    return "foreign" if foreign else "own"


class ReferenceStatistics(Settings):
    """Statistics of the training inputs, against which a new microscope's planes are compared."""

    planes: int = Field(ge=1)
    """Number of planes they are taken over."""

    mean: _Finite
    """Mean over the planes of each plane's mean, in counts."""

    mean_spread: float = Field(ge=0, allow_inf_nan=False)
    """Standard deviation over the planes of each plane's mean, in counts."""

    std: float = Field(ge=0, allow_inf_nan=False)
    """Mean over the planes of each plane's standard deviation, in counts."""

    std_spread: float = Field(ge=0, allow_inf_nan=False)
    """Standard deviation over the planes of each plane's standard deviation, in counts."""


class Int8(Settings):
    """A network of 8-bit integers, calibrated on training planes when the bundle was exported."""

    file: Literal["network_int8.onnx"] = INT8_FILE
    """The network alone, as ONNX with quantising nodes; an attachment of rdf.yaml, hashed like all."""

    tolerance: float = Field(gt=0, le=MOST_INT8_DIFFERENCE)
    """Largest RMS difference from the test output, relative to its standard deviation."""

    pearson_loss: float = Field(allow_inf_nan=False)
    """Pearson correlation of float32 with the targets of planes held back, less that of int8."""

    planes: int = Field(ge=1)
    """How many planes were held back."""

    bound: float = Field(gt=0, lt=1)
    """The loss up to which int8 was accepted."""

    cpu: str | None = None
    """Capability of the CPU on which all this was measured."""

    @model_validator(mode="after")
    def _is_kept(self) -> Self:
        if self.pearson_loss > self.bound:
            raise ValueError(
                f"int8 loses {self.pearson_loss:g} of Pearson, and its bound is {self.bound:g}"
            )
        return self


class Latency(Settings):
    """How long one prediction of the test input took where the bundle was written."""

    device: str
    """Name of the device."""

    backend: str
    """Backend of `livestain.inference`."""

    threads: int = Field(ge=1)
    """Threads it could use."""

    shape_yx: tuple[int, int]
    """Sides of the planes, in pixels."""

    planes: int = Field(default=1, ge=1)
    """Planes that one prediction gives: of whole stacks several."""

    milliseconds: float = Field(gt=0)
    """Median of a few runs."""


class BundleDescription(Settings):
    """All that live staining needs to know of a model."""

    schema_version: Literal[1] = 1
    """Version of this schema."""

    input: InputSpec
    """What goes in."""

    normalisation: NormalisationSettings = NormalisationSettings()
    """How raw counts are normalised."""

    outputs: tuple[OutputChannel, ...] = Field(min_length=1)
    """What comes out, in the network's order."""

    network: Annotated[
        Annotated[NetworkSpec, Tag("own")] | Annotated[ForeignSpec, Tag("foreign")],
        Discriminator(_which_network),
    ]
    """The architecture, or the form in which a network of another tool is there."""

    reference: ReferenceStatistics | None = None
    """Statistics of the training inputs."""

    simulated: bool = False
    """Trained on simulated cells alone: never chosen for a microscope unless somebody names it."""

    tolerance: float = Field(default=0.02, gt=0, lt=1)
    """Largest RMS difference of a backend's output from the test output, relative to the standard
    deviation of the test output. Rounding to bfloat16 stays near 0.01; faults begin near 0.1."""

    int8: Int8 | None = None
    """The network of 8-bit integers, where there is one; it is used where the backend is chosen by time."""

    latency: tuple[Latency, ...] = ()
    """Measured where the bundle was written."""

    made_with: dict[str, str] = Field(default_factory=dict)
    """Versions of what wrote the bundle, by package."""

    @model_validator(mode="after")
    def _output_names_differ(self) -> Self:
        names = [output.name for output in self.outputs]
        if len(set(names)) < len(names):
            raise ValueError("two outputs have the same name")
        return self

    @model_validator(mode="after")
    def _spreads_follow_their_outputs(self) -> Self:
        if not any(output.spread_of for output in self.outputs):
            return self
        half = len(self.outputs) // 2
        values, spreads = self.outputs[:half], self.outputs[half:]
        if [spread.spread_of for spread in spreads] != [value.name for value in values] or any(
            value.spread_of for value in values
        ):
            raise ValueError("spreads follow after all outputs, one for each and in their order")
        if [spread.unit for spread in spreads] != [value.unit for value in values]:
            raise ValueError("a spread has the unit of its output")
        return self

    @model_validator(mode="after")
    def _network_takes_the_window(self) -> Self:
        window = self.input.window
        if self.dims == 2 and window.whole_stack:
            raise ValueError("a whole stack ('z: all') is for 3-D networks; this one is 2-D")
        if self.dims == 3 and window.n_z > 1 and window.n_planes > window.n_z:
            raise ValueError("a 3-D network takes z-planes or time points as its depth, not both")
        self.normalisation.check_window(window, self.dims or 2)
        return self

    @property
    def dims(self) -> int | None:
        """Axes of the network in space (or time), 2 or 3; None where it has no known name."""
        if isinstance(self.network, ForeignSpec):
            return self.network.dims
        try:
            return network_dims(self.network.name)
        except KeyError:
            return None

    @property
    def predicts_spread(self) -> bool:
        """Whether the second half of the outputs are spreads."""
        return self.outputs[-1].spread_of is not None

    def module_options(self) -> dict[str, Any]:
        """Return the options of `StainModule` that are not the usual ones."""
        options: dict[str, Any] = {}
        if self.input.more_kinds:
            options["sources"] = len(self.input.kinds)
        if self.dims == 3 and not self.input.window.whole_stack:
            options["own_plane"] = self.input.window.own_plane
        if self.predicts_spread:
            options["spread"] = True
        if self.normalisation.kind == "running":
            options["window"] = self.input.window.model_dump(mode="json")
        return options

    def output_index(self, name: str) -> int:
        """Return the place of the output called `name`.

        Raises
        ------
        KeyError
            If there is none.
        """
        for place, output in enumerate(self.outputs):
            if output.name == name:
                return place
        raise KeyError(f"no output {name!r}; there are {[o.name for o in self.outputs]}")

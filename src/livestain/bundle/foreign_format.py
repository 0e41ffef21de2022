"""What bioimage.io's format 0.5 says of a model's tensors, as far as a foreign network needs it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from livestain.errors import BundleError
from livestain.settings import describe_validation_error

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Axis", "ForeignFormat", "Grid", "Reference", "Step", "Tensor", "read_format"]

_METRES = {
    "meter": 1.0,
    "decimeter": 1e-1,
    "centimeter": 1e-2,
    "millimeter": 1e-3,
    "micrometer": 1e-6,
    "nanometer": 1e-9,
    "angstrom": 1e-10,
    "picometer": 1e-12,
}


class _Part(BaseModel):
    """A part of rdf.yaml: what livestain does not need of it is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Grid(_Part):
    """Sizes ``min + n * step``, for n from 0."""

    min: int = Field(gt=0)
    step: int = Field(gt=0)


class Reference(_Part):
    """The size of another axis, plus an offset."""

    tensor_id: str
    axis_id: str
    offset: int = 0


class Axis(_Part):
    """One axis of a tensor."""

    type: Literal["batch", "channel", "index", "time", "space"]
    id: str = ""
    size: Annotated[int, Field(gt=0)] | Grid | Reference | None = None
    channel_names: tuple[str, ...] = ()
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    unit: str | None = None

    @property
    def name(self) -> str:
        """Its id, or what the format calls it where it gives none."""
        return self.id or ("x" if self.type == "space" else self.type)

    @property
    def letter(self) -> str:
        """`n`, `c`, `z`, `y` or `x`; empty for axes that planes do not have."""
        letter = {"batch": "n", "channel": "c"}.get(self.type)
        if letter is None and self.type == "space" and self.name in ("z", "y", "x"):
            letter = self.name
        return letter or ""

    @property
    def micrometres(self) -> float | None:
        """Distance of neighbours in micrometres; None where the unit is not given."""
        metres = _METRES.get(self.unit or "")
        return None if metres is None else float(f"{self.scale * metres * 1e6:.7g}")


class Step(_Part):
    """One step before or after the network."""

    id: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What rdf.yaml calls kwargs."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {"id": given.get("id"), "arguments": given.get("kwargs") or {}}


class _Data(_Part):
    type: str = "float32"
    unit: str | None = None
    range: tuple[float | None, float | None] | None = None


class _File(_Part):
    source: str


class Tensor(_Part):
    """A tensor that goes in or comes out."""

    id: str = ""
    axes: tuple[Axis, ...] = Field(min_length=1)
    data: _Data | Annotated[tuple[_Data, ...], Field(min_length=1)] = _Data()
    preprocessing: tuple[Step, ...] = ()
    postprocessing: tuple[Step, ...] = ()
    test_tensor: _File

    @property
    def dtype(self) -> str:
        """Of its values, as numpy names it."""
        return (self.data[0] if isinstance(self.data, tuple) else self.data).type

    @property
    def declared_range(self) -> tuple[float, float]:
        """Smallest and largest value that it says it has; infinite where it says nothing."""
        low, high = -math.inf, math.inf
        for data in self.data if isinstance(self.data, tuple) else (self.data,):
            least, most = data.range or (None, None)
            low = low if least is None else max(low, least)
            high = high if most is None else min(high, most)
        return low, high

    @property
    def unit(self) -> str | None:
        """Of its values, where it is a real one."""
        unit = (self.data[0] if isinstance(self.data, tuple) else self.data).unit
        return None if unit == "arbitrary unit" else unit

    @property
    def letters(self) -> str:
        """Its axes in their order, a letter each."""
        return "".join(axis.letter for axis in self.axes)

    @property
    def by_letter(self) -> dict[str, Axis]:
        """Its axes by their letters."""
        return {axis.letter: axis for axis in self.axes}

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of its channels; of a tensor without the axis one empty name."""
        channel = self.by_letter.get("c")
        return ("",) if channel is None else channel.channel_names

    @property
    def channels(self) -> int:
        """Number of its channels."""
        return len(self.channel_names)


class _Rdf(_Part):
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    weights: dict[str, Any]


class ForeignFormat:
    """The tensors of an image-to-image model, checked for what livestain can run.

    Attributes
    ----------
    input : Tensor
        The one that goes in.
    outputs : tuple of Tensor
        Those that come out; their channels follow one another.
    weights : frozenset of str
        Forms of the weights that are there.
    z : {"none", "any", "window"} or int
        Whether z is an axis of the input: of any depth (`any`), of one depth that is predicted whole
        (the depth), or of one depth of which one plane is predicted (`window`).
    depth : int or None
        Number of z-planes, where it is one only.
    divisor, divisor_z : int
        Sides and depths are multiples of these.
    least, least_z : int
        Smallest side, in pixels, and smallest depth.
    """

    def __init__(self, rdf: _Rdf, where: str) -> None:
        self._where = where
        if len(rdf.inputs) > 1:
            names = ", ".join(tensor.id for tensor in rdf.inputs)
            raise self.refused(f"it has {len(rdf.inputs)} input tensors ({names})", "one")
        self.input, self.outputs = rdf.inputs[0], rdf.outputs
        self.weights = frozenset(name for name, entry in rdf.weights.items() if entry)
        for tensor in (self.input, *self.outputs):
            self._check_axes(tensor)
        sides = self.input.by_letter
        self.divisor, self.least = 1, 1
        for letter in "yx":
            step, least = self._grid(sides[letter], sides)
            self.divisor, self.least = math.lcm(self.divisor, step), max(self.least, least)
        self.z, self.depth, self.divisor_z, self.least_z = self._stack()
        for tensor in self.outputs:
            self._check_output(tensor)

    @property
    def dims(self) -> Literal[2, 3]:
        """Axes of the network in space."""
        return 2 if self.z == "none" else 3

    def refused(self, what: str, expected: str) -> BundleError:
        """Return the error that says why livestain cannot run the model."""
        return BundleError(
            f"{self._where} cannot be a virtual channel: {what}; livestain expects {expected}. "
            "Choose another model."
        )

    def _check_axes(self, tensor: Tensor) -> None:
        letters = tensor.letters
        odd = [axis.name for axis in tensor.axes if not axis.letter]
        wanted = "the axes batch, channel, z, y and x, each once, y and x always"
        if odd or len(set(letters)) < len(letters) or not {"y", "x"} <= set(letters):
            names = ", ".join(axis.name for axis in tensor.axes)
            raise self.refused(f"its tensor {tensor.id!r} has the axes {names}", wanted)
        if not tensor.channel_names:
            raise self.refused(f"the channels of its tensor {tensor.id!r} have no names", wanted)

    def _grid(self, axis: Axis, sides: Mapping[str, Axis]) -> tuple[int, int]:
        """Return what sides are multiples of, and the smallest side."""
        size = axis.size
        if isinstance(size, Reference):
            other = [a for a in sides.values() if a.name == size.axis_id and a.name != axis.name]
            if size.offset or not other or not isinstance(other[0].size, Grid):
                raise self.refused(f"the size of its axis {axis.name} depends on others", "its own")
            size = other[0].size
        if not isinstance(size, Grid):
            raise self.refused(
                f"it takes planes of {size or 'unknown'} pixels in {axis.name} alone",
                "a network for frames of many sizes (min and step)",
            )
        if size.step > 1 and size.min % size.step:
            raise self.refused(
                f"its sides in {axis.name} are {size.min} plus multiples of {size.step}",
                "multiples of one number",
            )
        return size.step, size.min

    def _stack(self) -> tuple[Literal["none", "any", "window"] | int, int | None, int, int]:
        axis = self.input.by_letter.get("z")
        out = ["z" in tensor.by_letter for tensor in self.outputs]
        if axis is None:
            if any(out):
                raise self.refused(
                    "it makes a stack of one plane", "planes or stacks of equal depth"
                )
            return "none", None, 1, 1
        if any(out) and not all(out):
            raise self.refused("one of its outputs is a stack and one is not", "all of one kind")
        if isinstance(axis.size, int):
            return (axis.size if out[0] else "window"), axis.size, 1, axis.size
        if not out[0]:
            raise self.refused(
                "it makes one plane of a stack of any depth", "a fixed depth for that"
            )
        step, least = self._grid(axis, {"z": axis})
        return "any", None, step, least

    def _check_output(self, tensor: Tensor) -> None:
        for axis in tensor.axes:
            if axis.letter not in ("z", "y", "x"):
                continue
            theirs = self.input.by_letter[axis.letter]
            size = axis.size
            same = (
                isinstance(size, Reference)
                and size.axis_id == theirs.name
                and size.tensor_id == self.input.id
                and size.offset == 0
                and abs(axis.scale / theirs.scale - 1) < 1e-6
            )
            fixed = axis.letter == "z" and isinstance(size, int) and size == self.depth
            if not same and not fixed:
                raise self.refused(
                    f"its output {tensor.id!r} has another size in {axis.name} than its input",
                    "outputs with the input's sides",
                )


def read_format(rdf: Mapping[str, Any], where: str) -> ForeignFormat:
    """Read the tensors of a model.

    Parameters
    ----------
    rdf : mapping
        Content of rdf.yaml, format 0.5.
    where : str
        The model, for errors.

    Raises
    ------
    BundleError
        If the model is none that maps planes or stacks to planes or stacks of the same sides.
    """
    try:
        parsed = _Rdf.model_validate(dict(rdf))
    except ValidationError as error:
        said = describe_validation_error(error)[:500]
        raise BundleError(
            f"{where} is not a bioimage.io model of format 0.5: {said}. Download it again."
        ) from error
    return ForeignFormat(parsed, where)

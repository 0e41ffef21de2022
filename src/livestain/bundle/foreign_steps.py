"""bioimage.io's pre- and postprocessing, as far as it is a function of the sample alone.

Each step is what the format's documentation says, with statistics as bioimageio.core takes them: of the
tensor as it came in, before any step. Everything works on the layout (n, channels, [z], y, x), whatever
order a model's own axes have, and treats each n by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from livestain.errors import BundleError
from livestain.settings import describe_validation_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from livestain.bundle.foreign_format import Step, Tensor
    from livestain.bundle.foreign_statistics import Raw

__all__ = ["Steps", "read_steps", "taken_range", "takes_whole_numbers"]

_LIMITS = {
    "bool": (0.0, 1.0),
    "uint8": (0.0, 255.0),
    "int8": (-128.0, 127.0),
    "uint16": (0.0, 65535.0),
    "int16": (-32768.0, 32767.0),
    "uint32": (0.0, 2.0**32 - 256),  # the largest of float32 below the limit
    "int32": (-(2.0**31), 2.0**31 - 128),
    "uint64": (0.0, 2.0**63),
    "int64": (-(2.0**62), 2.0**62),
}
_FLOATS = ("float32", "float64")

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Many = _Finite | list[_Finite]


class _Kwargs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Statistic(_Kwargs):
    axes: tuple[str, ...] | None = None
    eps: _Finite = 1e-6


class _ScaleRange(_Statistic):
    min_percentile: _Finite = Field(default=0.0, ge=0, lt=100)
    max_percentile: _Finite = Field(default=100.0, gt=0, le=100)
    reference_tensor: str | None = None


class _Fixed(_Kwargs):
    mean: _Many
    std: _Many
    axis: str | None = None
    eps: _Finite = 1e-6


class _Linear(_Kwargs):
    gain: _Many = 1.0
    offset: _Many = 0.0
    axis: str | None = None


class _Clip(_Kwargs):
    min: _Finite | None = None
    max: _Finite | None = None
    min_percentile: float | None = Field(default=None, ge=0, lt=100)
    max_percentile: float | None = Field(default=None, gt=0, le=100)
    axes: tuple[str, ...] | None = None


class _Binarize(_Kwargs):
    threshold: _Many
    axis: str | None = None


class _Cast(_Kwargs):
    dtype: str


class _Softmax(_Kwargs):
    axis: str = "channel"


class _Nothing(_Kwargs):
    """No keyword arguments."""


_KWARGS: dict[str, type[_Kwargs]] = {
    "zero_mean_unit_variance": _Statistic,
    "fixed_zero_mean_unit_variance": _Fixed,
    "scale_linear": _Linear,
    "scale_range": _ScaleRange,
    "clip": _Clip,
    "binarize": _Binarize,
    "sigmoid": _Nothing,
    "softmax": _Softmax,
    "ensure_dtype": _Cast,
}


class Steps:
    """Some steps, one after the other.

    Attributes
    ----------
    dtype : str
        Type of the values that the last step gives; they are handed on as float32 all the same.
    """

    def __init__(
        self, applied: Sequence[Callable[[torch.Tensor, Raw], torch.Tensor]], dtype: str
    ) -> None:
        self._applied = tuple(applied)
        self.dtype = dtype

    def __call__(self, x: torch.Tensor, *, whole: bool = False) -> torch.Tensor:
        """Apply them to float32 (n, channels, [z], y, x); `whole`: of the camera's counts as they are."""
        from livestain.bundle.foreign_statistics import Raw

        raw = Raw(x, whole=whole)
        for apply in self._applied:
            x = apply(x, raw)
        return x


def taken_range(tensor: Tensor) -> tuple[float, float]:
    """Return the values that an input tensor takes as they are: what it declares, and its first cast holds.

    Infinite where there is no limit.
    """
    first = tensor.preprocessing[0] if tensor.preprocessing else None
    cast = first is not None and first.id == "ensure_dtype"
    dtype = str(first.arguments.get("dtype")) if first is not None and cast else tensor.dtype
    low, high = tensor.declared_range
    least, most = _LIMITS.get(dtype, (-math.inf, math.inf))
    return max(low, least), min(high, most)


def takes_whole_numbers(tensor: Tensor) -> bool:
    """Return whether an input tensor is cast to whole numbers before all else."""
    first = tensor.preprocessing[0] if tensor.preprocessing else None
    if first is not None and first.id == "ensure_dtype":
        return first.arguments.get("dtype") in _LIMITS
    return tensor.dtype in _LIMITS


def read_steps(tensor: Tensor, steps: Sequence[Step], where: str, *, before: bool) -> Steps:
    """Return what does a tensor's steps.

    Parameters
    ----------
    tensor : Tensor
        Whose axes the steps name.
    steps : sequence of Step
        In the order in which they are done.
    where : str
        The model, for errors.
    before : bool
        Whether they come before the network: then the format asks for a cast to the tensor's type at
        their beginning too.

    Raises
    ------
    BundleError
        If one of them is unknown, is no function of the sample, or has odd arguments.
    """
    listed = [(step.id, step.arguments) for step in steps]
    cast = ("ensure_dtype", {"dtype": tensor.dtype})
    # As the format says of a description that leaves them out.
    if before and (not listed or listed[0][0] != "ensure_dtype"):
        listed.insert(0, cast)
    if not listed or listed[-1][0] not in ("ensure_dtype", "binarize"):
        listed.append(cast)
    reader = _Reader(tensor, f"{where}, tensor {tensor.id!r}")
    applied = [reader.read(name, kwargs) for name, kwargs in listed]
    last, kwargs = listed[-1]
    return Steps(applied, "bool" if last == "binarize" else str(kwargs["dtype"]))


class _Reader:
    """Turns the steps of one tensor into functions."""

    def __init__(self, tensor: Tensor, where: str) -> None:
        self._where = where
        self._tensor = tensor
        self._stack = "z" in tensor.by_letter
        letters = "nczyx" if self._stack else "ncyx"
        self._dims = {axis.name: letters.index(axis.letter) for axis in tensor.axes}
        self._ndim = len(letters)

    def read(
        self, name: str, kwargs: dict[str, Any]
    ) -> Callable[[torch.Tensor, Raw], torch.Tensor]:
        if name == "scale_mean_variance" or (
            kwargs.get("reference_tensor") not in (None, self._tensor.id)
        ):
            raise self._refused(name, "needs statistics of another tensor")
        if name not in _KWARGS:
            raise self._refused(name, "is no fixed function of the image")
        try:
            given = TypeAdapter(_KWARGS[name]).validate_python(kwargs)
        except ValidationError as error:
            said = describe_validation_error(error)
            raise BundleError(
                f"{self._where}: the step {name} has arguments that livestain does not know: {said}. "
                "Choose another model, or update livestain."
            ) from error
        function: Callable[[torch.Tensor, Raw], torch.Tensor] = getattr(self, f"_{name}")(given)
        return function

    def _refused(self, name: str, why: str) -> BundleError:
        return BundleError(
            f"{self._where}: the step {name} {why}, which livestain does not run; it runs "
            f"{', '.join(_KWARGS)}, each on the image alone. Choose another model."
        )

    def _reduced(self, axes: tuple[str, ...] | None, name: str) -> tuple[int, ...]:
        """Return the axes that a statistic is taken over; all where none are named."""
        if axes is None:
            return tuple(range(1, self._ndim))
        dims = [self._dim(axis, name) for axis in axes]
        if 0 in dims:
            raise self._refused(name, "needs statistics of a whole data set (axis batch)")
        return tuple(sorted(dims))

    def _dim(self, axis: str, name: str) -> int:
        if axis not in self._dims:
            raise BundleError(
                f"{self._where}: the step {name} names the axis {axis!r}; there are "
                f"{', '.join(self._dims)}. Choose another model."
            )
        return self._dims[axis]

    def _along(self, values: float | list[float], axis: str | None, name: str) -> Any:
        """Return a number, or numbers along an axis in a shape that spreads over the others."""
        if not isinstance(values, list):
            return values
        if axis is None:
            if len(values) == 1:
                return values[0]
            raise self._refused(name, "has several values and no axis")
        import numpy as np

        dim = self._dim(axis, name)
        if dim == 1 and len(values) not in (1, self._tensor.channels):
            raise self._refused(
                name, f"has {len(values)} values for {self._tensor.channels} channels"
            )
        shape = [len(values) if d == dim else 1 for d in range(self._ndim)]
        return np.asarray(values, np.float32).reshape(shape)

    def _zero_mean_unit_variance(self, given: _Statistic) -> Any:
        dims = self._reduced(given.axes, "zero_mean_unit_variance")

        def apply(x: torch.Tensor, raw: Raw) -> torch.Tensor:
            mean, std = raw.moments(dims)
            return (x - mean) / (std + given.eps)

        return apply

    def _fixed_zero_mean_unit_variance(self, given: _Fixed) -> Any:
        name = "fixed_zero_mean_unit_variance"
        mean = self._along(given.mean, given.axis, name)
        std = self._along(given.std, given.axis, name)
        return lambda x, raw: (x - _on(mean, x)) / (_on(std, x) + given.eps)

    def _scale_linear(self, given: _Linear) -> Any:
        gain = self._along(given.gain, given.axis, "scale_linear")
        offset = self._along(given.offset, given.axis, "scale_linear")
        return lambda x, raw: x * _on(gain, x) + _on(offset, x)

    def _scale_range(self, given: _ScaleRange) -> Any:
        dims = self._reduced(given.axes, "scale_range")
        if not given.min_percentile < given.max_percentile:
            raise self._refused("scale_range", "has no range of percentiles")

        def apply(x: torch.Tensor, raw: Raw) -> torch.Tensor:
            low = raw.quantile(given.min_percentile / 100, dims, linear=True)
            high = raw.quantile(given.max_percentile / 100, dims, linear=True)
            return (x - low) / (high - low + given.eps)

        return apply

    def _clip(self, given: _Clip) -> Any:
        dims = self._reduced(given.axes, "clip")

        def apply(x: torch.Tensor, raw: Raw) -> torch.Tensor:
            import torch

            if given.min is not None:
                x = x.clamp_min(given.min)
            elif given.min_percentile is not None:
                low = raw.quantile(given.min_percentile / 100, dims, linear=False)
                x = torch.maximum(x, low)
            if given.max is not None:
                x = x.clamp_max(given.max)
            elif given.max_percentile is not None:
                high = raw.quantile(given.max_percentile / 100, dims, linear=False)
                x = torch.minimum(x, high)
            return x

        return apply

    def _binarize(self, given: _Binarize) -> Any:
        threshold = self._along(given.threshold, given.axis, "binarize")
        return lambda x, raw: (x > _on(threshold, x)).to(x.dtype)

    def _sigmoid(self, given: _Nothing) -> Any:
        return lambda x, raw: x.sigmoid()

    def _softmax(self, given: _Softmax) -> Any:
        dim = self._dim(given.axis, "softmax")
        return lambda x, raw: x.softmax(dim)

    def _ensure_dtype(self, given: _Cast) -> Any:
        if given.dtype in _FLOATS:
            return lambda x, raw: x
        if given.dtype not in _LIMITS:
            raise self._refused("ensure_dtype", f"asks for {given.dtype!r}")
        if given.dtype == "bool":
            return lambda x, raw: (x != 0).to(x.dtype)
        low, high = _LIMITS[given.dtype]
        # Held to the type's limits, where a cast would wrap round.
        return lambda x, raw: x.nan_to_num(0.0).clamp(low, high).trunc()


def _on(value: Any, x: torch.Tensor) -> Any:
    """Bring numbers along an axis to a tensor's device."""
    if isinstance(value, float):
        return value
    import torch

    return torch.from_numpy(value).to(x.device)

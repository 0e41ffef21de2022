"""Models of other tools: what live staining needs to know of them, from what bioimage.io's format says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import numpy as np
from pydantic import Field

from livestain.bundle.description import (
    BundleDescription,
    ChannelKind,
    ForeignSpec,
    InputSpec,
    OutputChannel,
    WindowSpec,
)
from livestain.bundle.files import in_shell
from livestain.bundle.foreign_format import ForeignFormat, read_format
from livestain.bundle.foreign_steps import read_steps, taken_range
from livestain.bundle.foreign_tensors import expected_output
from livestain.errors import BundleError, SettingsError
from livestain.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Given", "describe_foreign", "weights_form"]

_KINDS: dict[str, ChannelKind] = {
    **{kind: kind for kind in get_args(ChannelKind)},
    "bright-field": "brightfield",
    "bright field": "brightfield",
    "phase-contrast": "phase",
    "phase contrast": "phase",
    "phasecontrast": "phase",
    "differential interference contrast": "dic",
}
_NAMELESS = re.compile(r"(channel|output|out|c|ch)?[ _-]?\d*")
_RANGE = 1.25
"""Pixel sizes up to so many times larger or smaller are resampled, where nobody says how many."""


_Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Given(Settings):
    """What a person says of a model, beyond its format; what is None or empty is taken from the model."""

    kinds: tuple[ChannelKind, ...] = ()
    """Contrast of each source channel, in the network's order."""

    pixel_size_um: _Length | None = None
    """Pixel size that it was trained at, in micrometres."""

    pixel_size_range_um: tuple[_Length, _Length] | None = None
    """Pixel sizes that may be resampled to it."""

    z_step_um: _Length | None = None
    """Distance of its z-planes, in micrometres."""

    z: int | None = Field(default=None, ge=1)
    """Its channels are so many z-planes of one source (odd)."""

    past: int | None = Field(default=None, ge=0)
    """Its channels are so many earlier time points of one source, and the present one."""

    outputs: tuple[str, ...] = ()
    """Names of what it predicts, in its order."""

    input_range: tuple[float, float] | None = None
    """Counts of the camera that are mapped onto the range of values that its input declares or is cast to."""


def weights_form(form: ForeignFormat) -> str:
    """Return the form of the weights that is run: "onnx" where it is there, else "torchscript".

    Raises
    ------
    BundleError
        If there is neither: every other form needs code of the model's own.
    """
    for known in ("onnx", "torchscript"):
        if known in form.weights:
            return known
    there = ", ".join(sorted(form.weights)) or "none"
    raise form.refused(
        f"its weights are there as {there} alone, which cannot be run without the code of its network",
        "ONNX or TorchScript, and never imports code that a model names",
    )


def describe_foreign(
    rdf: Mapping[str, Any],
    folder: Path,
    read: Callable[[str], bytes],
    given: Given | None = None,
    call_it: str = "",
) -> BundleDescription:
    """Return the description of a model that another tool wrote.

    Parameters
    ----------
    rdf : mapping
        Its rdf.yaml, format 0.5.
    folder : Path
        Where it is, for errors.
    read : callable
        Returns the bytes of one of its files.
    given : Given, optional
        What is known beyond it.
    call_it : str
        What the cure adds to the command line of `livestain models add`; the folder where empty.

    Raises
    ------
    BundleError
        If it is no model that can stain, or facts are missing: one sentence says which, and how to
        give them.
    """
    given = given or Given()
    where = f"The model {call_it or folder}"
    form = read_format(rdf, where)
    kind = weights_form(form)
    _check_steps(form, where)
    facts = _Facts(form, rdf, given, where)
    if facts.missing:
        options = " ".join(dict.fromkeys(option for _, option in facts.missing))
        raise BundleError(
            f"{where} is a bioimage.io model without config.livestain, and its own description does not say "
            f"{_enumerated([what for what, _ in facts.missing])}. Add it with what it lacks: livestain "
            f"models add {in_shell(call_it or folder)} {options}"
        )
    try:
        return BundleDescription(
            input=facts.input(),
            outputs=facts.outputs(expected_output(form, read, folder)),
            network=_network(form, kind, given),
        )
    except ValueError as error:  # pydantic's
        said = " ".join(str(error).split())[:400]
        raise BundleError(
            f"{where}: what its format and the command line say of it does not fit together: {said}."
        ) from error


def _network(form: ForeignFormat, kind: str, given: Given) -> ForeignSpec:
    takes = taken_range(form.input)
    known = [math.isfinite(limit) for limit in takes]
    return ForeignSpec.model_validate(
        {
            "foreign": kind,
            "dims": form.dims,
            # No count is below 0, so that of open ranges the upper end matters.
            "takes": (takes[0] if known[0] else 0.0, takes[1]) if known[1] else None,
            "input_range": given.input_range,
            "least_z": form.least_z if form.z == "any" else 1,
        }
    )


def _check_steps(form: ForeignFormat, where: str) -> None:
    read_steps(form.input, form.input.preprocessing, where, before=True)
    for tensor in form.outputs:
        read_steps(tensor, tensor.postprocessing, where, before=False)


def _enumerated(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


@dataclass(frozen=True)
class _Window:
    """How the network's channels are a source's planes."""

    sources: int
    spec: WindowSpec


class _Facts:
    """What is known of a model, and what is not.

    Attributes
    ----------
    missing : list of tuple
        What is not known, and the option that gives it.
    """

    def __init__(
        self, form: ForeignFormat, rdf: Mapping[str, Any], given: Given, where: str
    ) -> None:
        self._form, self._given, self._where = form, given, where
        self.missing: list[tuple[str, str]] = []
        self._kinds = self._find_kinds(rdf)
        self._window = self._find_window()
        self._pixel_size = self._find_pixel_size()
        self._z_step = self._find_z_step()
        self._names = self._find_names()

    def _refused(self, what: str) -> SettingsError:
        return SettingsError(f"{self._where}: {what}")

    def _find_kinds(self, rdf: Mapping[str, Any]) -> tuple[ChannelKind, ...]:
        if self._given.kinds:
            return self._given.kinds
        named = [_KINDS.get(name.strip().lower()) for name in self._form.input.channel_names]
        if all(named):
            return tuple(kind for kind in named if kind is not None)
        tags = rdf.get("tags")
        words = {str(tag).strip().lower() for tag in tags} if isinstance(tags, list) else set()
        tagged = {_KINDS[word] for word in words if word in _KINDS}
        # A model that predicts fluorescence may well be tagged so: of inputs that says nothing.
        if len(tagged) == 1 and tagged != {"fluorescence"}:
            return tuple(tagged)
        self.missing.append(
            ("what kind of channel goes in", f"--kind {'|'.join(get_args(ChannelKind))}")
        )
        return ()

    def _find_window(self) -> _Window:
        form, given = self._form, self._given
        channels = form.input.channels
        if given.z is not None and given.past is not None:
            raise self._refused(
                "its channels are z-planes or time points. Give --z or --past, not both."
            )
        if form.z != "none":
            if given.z is not None or given.past is not None:
                raise self._refused("z is an axis of its own. Leave --z and --past out.")
            if form.z == "window":
                return _Window(channels, self._spec(z=form.depth))
            return _Window(channels, self._spec(z="all", depth=form.depth))
        planes = given.z if given.past is None else given.past + 1
        if planes is None:
            sources = len(self._kinds) or 1
            if sources != channels:
                self.missing.append(
                    (
                        f"what its {channels} channels are: z-planes, time points or several sources",
                        "--z PLANES (or --past PLANES, or --kind for each)",
                    )
                )
            return _Window(channels, WindowSpec())
        if channels % planes:
            raise self._refused(f"it has {channels} channels, which are no multiple of {planes}.")
        spec = self._spec(z=given.z) if given.z is not None else self._spec(past=given.past)
        return _Window(channels // planes, spec)

    def _spec(self, **window: Any) -> WindowSpec:
        return WindowSpec.parse(window, where=f"{self._where}, its window of planes")

    def _find_pixel_size(self) -> float | None:
        sides = {axis.micrometres for axis in self._form.input.axes if axis.letter in ("y", "x")}
        size = self._given.pixel_size_um
        if size is None and len(sides) == 1:
            size = sides.pop()
        if size is None:
            self.missing.append(("the pixel size (y and x with scale and unit)", "--pixel-size UM"))
        return size

    def _find_z_step(self) -> float | None:
        if not self._window.spec.window().needs_stack:
            return None
        step = self._given.z_step_um
        axis = self._form.input.by_letter.get("z")
        if step is None and axis is not None:
            step = axis.micrometres
        if step is None:
            self.missing.append(("the distance of its z-planes", "--z-step UM"))
        return step

    def _find_names(self) -> tuple[str, ...]:
        channels = [name for tensor in self._form.outputs for name in tensor.channel_names]
        if self._given.outputs:
            if len(self._given.outputs) != len(channels):
                raise self._refused(
                    f"it has {len(channels)} outputs, but {len(self._given.outputs)} names are given. "
                    "Give --output once for each."
                )
            return self._given.outputs
        names = [name.strip().lower() for name in channels]
        if len(set(names)) < len(names) or any(_NAMELESS.fullmatch(name) for name in names):
            options = " ".join(["--output NAME"] * len(names))
            self.missing.append(("what its outputs show", options))
        return tuple(names)

    def input(self) -> InputSpec:
        """Return what the network looks at."""
        size = self._pixel_size
        assert size is not None  # noqa: S101 - `missing` says so otherwise
        kinds = self._kinds
        sources = self._window.sources
        if len(kinds) == 1:
            kinds *= sources
        if len(kinds) != sources:
            raise self._refused(
                f"{len(kinds)} kinds of channels are given; it has {sources} sources."
            )
        form = self._form
        return InputSpec(
            kind=kinds[0],
            more_kinds=kinds[1:],
            pixel_size_um=size,
            pixel_size_range_um=self._given.pixel_size_range_um
            or (float(f"{size / _RANGE:.4g}"), float(f"{size * _RANGE:.4g}")),
            z_step_um=self._z_step,
            window=self._window.spec,
            divisor=form.divisor,
            divisor_z=form.divisor_z,
            # The format's halo says what to cut off, not how far a prediction looks.
            halo=None,
            halo_z=None if form.dims == 3 else 0,
        )

    def outputs(self, expected: NDArray[np.float32]) -> tuple[OutputChannel, ...]:
        """Return the outputs, encoded so that values far beyond the test output's have room."""
        units = [t.unit or "arbitrary" for t in self._form.outputs for _ in t.channel_names]
        made = []
        for place, (name, unit) in enumerate(zip(self._names, units, strict=True)):
            values = expected[0, place].astype(np.float64)
            low, high = float(values.min()), float(values.max())
            width = (high - low) or max(abs(high), 1.0)
            # 65536 counts for 16 widths: 4096 for the test output, as of a 12-bit camera, five times its
            # range below it and ten above, since other frames hold more than a sample does.
            scale = 16 * width / 65535
            black, white = (float(v) for v in np.percentile(values, (1, 99.8)))
            if not black < white:
                black, white = low, low + width
            made.append(
                OutputChannel(
                    name=name,
                    unit=unit,
                    scale=_rounded(scale),
                    offset=_rounded(low - 5 * width),
                    display=(_rounded(black), _rounded(white)),
                )
            )
        return tuple(made)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value

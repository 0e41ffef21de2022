"""The module of a foreign model: its own steps around a network in ONNX or TorchScript."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from livestain.bundle.description import ForeignSpec
from livestain.bundle.foreign_format import read_format
from livestain.bundle.foreign_onnx import canonical_onnx
from livestain.bundle.foreign_steps import read_steps, takes_whole_numbers
from livestain.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.bundle.description import BundleDescription
    from livestain.bundle.foreign_format import ForeignFormat
    from livestain.bundle.read import Bundle

__all__ = ["ForeignModule", "load_foreign"]


class ForeignModule(nn.Module):
    """Preprocess, predict and postprocess as a bioimage.io model describes, on whole planes.

    Has what `StainModule` has for those who run it. Counts are (n, sources * planes, y, x), or with the
    planes on an axis of their own; predictions float32 (n, outputs, [z], y, x).

    Parameters
    ----------
    form : ForeignFormat
        The model's tensors.
    description : BundleDescription
        What live staining knows of it.
    where : str
        The model, for errors.
    network : nn.Module, optional
        Takes and gives (n, channels, [z], y, x) float32; None where it is there as ONNX.
    onnx : callable, optional
        Returns the network as ONNX, of the same layout, with the input `network_input` and the output
        `network_output`.
    """

    network: nn.Module | None

    def __init__(
        self,
        form: ForeignFormat,
        description: BundleDescription,
        where: str,
        *,
        network: nn.Module | None = None,
        onnx: Callable[[], bytes] | None = None,
    ) -> None:
        super().__init__()
        spec = description.input
        self.network = network
        self.onnx = onnx
        self.sources = len(spec.kinds)
        self.dims = form.dims
        self.whole_stack = spec.window.whole_stack
        # Which plane of a window it predicts is the network's own affair: it stands at every depth.
        self.own_plane: int | None = 0 if form.z == "window" else None
        self.spread = False
        self.divisor, self.divisor_z = spec.divisor, spec.divisor_z
        self.halo, self.halo_z = spec.halo, spec.halo_z
        self._least = form.least
        foreign = description.network
        assert isinstance(foreign, ForeignSpec)  # noqa: S101 - of foreign models
        self._mapping = (
            (foreign.input_range, foreign.takes) if foreign.input_range and foreign.takes else None
        )
        self._whole = takes_whole_numbers(form.input)
        self._where = where
        self._before = read_steps(form.input, form.input.preprocessing, where, before=True)
        self._after = [
            (tensor.channels, read_steps(tensor, tensor.postprocessing, where, before=False))
            for tensor in form.outputs
        ]

    def prepare(self, counts: torch.Tensor) -> torch.Tensor:
        """Preprocess counts of any real dtype: float32 (n, channels, [z], y, x).

        Raises
        ------
        BundleError
            If the planes are smaller than the smallest that the network takes.
        """
        if min(counts.shape[-2:]) < self._least:
            raise BundleError(
                f"The planes have {counts.shape[-2]} x {counts.shape[-1]} pixels; {self._where} takes "
                f"{self._least} and more a side. Give larger planes."
            )
        whole = counts.dtype in (torch.uint8, torch.uint16) and self._mapping is None
        planes = self._mapped(self.arrange(counts.to(torch.float32)))
        return self._before(planes, whole=whole)

    def _mapped(self, x: torch.Tensor) -> torch.Tensor:
        """Map the camera's counts onto the values that the model takes, where somebody said from which."""
        if self._mapping is None:
            return x
        (least, most), (low, high) = self._mapping
        x = (x - least) * ((high - low) / (most - least)) + low
        return x.round() if self._whole else x

    def arrange(self, planes: torch.Tensor) -> torch.Tensor:
        """Lay planes out as the network takes them."""
        if planes.ndim == 5:
            planes = planes.flatten(1, 2)
        if self.dims == 2:
            return planes
        n, channels, height, width = planes.shape
        return planes.reshape(n, self.sources, channels // self.sources, height, width)

    def finish(self, predicted: torch.Tensor) -> torch.Tensor:
        """Postprocess what the network predicted: float32, (n, outputs, [z], y, x)."""
        predicted = predicted.to(torch.float32)
        if self.own_plane is not None:
            predicted = predicted[:, :, self.own_plane]
        parts = predicted.split([channels for channels, _ in self._after], dim=1)
        done = [steps(part) for (_, steps), part in zip(self._after, parts, strict=True)]
        return done[0] if len(done) == 1 else torch.cat(done, dim=1)

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Map raw counts to float32 in the outputs' units.

        Raises
        ------
        BundleError
            If the network is there as ONNX alone, which a backend runs.
        """
        if self.network is None:
            raise BundleError(
                f"{self._where} is there as ONNX, which torch does not run. Use livestain.inference.Stainer."
            )
        return self.finish(self.network(self.prepare(counts)))


class _Script(nn.Module):
    """A TorchScript network of any order of axes as one of (n, channels, [z], y, x)."""

    def __init__(self, script: nn.Module, form: ForeignFormat, dtype: str) -> None:
        super().__init__()
        self.script = script
        self.dims = form.dims
        self._dtype = {"float64": torch.float32}.get(dtype, getattr(torch, dtype))
        self._input = form.input.letters
        self._outputs = [tensor.letters for tensor in form.outputs]
        self._channels = sum(tensor.channels for tensor in form.outputs)
        self._depth = form.depth if form.z == "window" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._dtype is not torch.float32:
            x = x.to(self._dtype)
        given = self.script(_from_canonical(x, self._input))
        if isinstance(given, torch.Tensor):
            given = (given,)
        parts = [_to_canonical(y, axes) for y, axes in zip(given, self._outputs, strict=True)]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if self._depth is not None:
            y = y.unsqueeze(2).expand(-1, -1, self._depth, -1, -1)
        if y.shape[1] != self._channels or y.shape[-2:] != x.shape[-2:]:
            raise ValueError(f"gives {tuple(y.shape)} from {tuple(x.shape)}")
        return y.to(x.dtype if x.is_floating_point() else torch.float32)


def _letters(own: str) -> str:
    return "nczyx" if "z" in own else "ncyx"


def _from_canonical(x: torch.Tensor, own: str) -> torch.Tensor:
    letters = _letters(own)
    kept = [c for c in letters if c in own]
    for place in reversed(range(len(letters))):
        if letters[place] not in own:
            x = x.squeeze(place)
    return x.permute([kept.index(c) for c in own])


def _to_canonical(y: torch.Tensor, own: str) -> torch.Tensor:
    letters = _letters(own)
    y = y.permute([own.index(c) for c in letters if c in own])
    for place, letter in enumerate(letters):
        if letter not in own:
            y = y.unsqueeze(place)
    return y


def load_foreign(bundle: Bundle, spec: ForeignSpec) -> ForeignModule:
    """Load a foreign model; in eval mode.

    TorchScript is a program of its own, which torch's interpreter runs: no Python, and no pickle of
    Python objects. ONNX is not loaded here, but by the backend that runs it.

    Raises
    ------
    BundleError
        If its files are not what rdf.yaml says.
    """
    where = f"The model {bundle.name}"
    form = read_format(bundle.rdf, where)
    if spec.foreign not in form.weights:
        raise form.refused(
            f"its {spec.foreign} weights are missing", "the form that its description names"
        )
    if spec.foreign == "onnx":
        module = ForeignModule(
            form, bundle.description, where, onnx=lambda: canonical_onnx(bundle, form)
        )
        return module.eval()
    name = bundle.rdf["weights"]["torchscript"]["source"]
    data = bundle.read_file(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch.jit is deprecated, and all that these models have
            script = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    except Exception as error:  # a hostile file can make the reader raise anything
        raise BundleError(
            f"{bundle.path / name} is no TorchScript that torch {torch.__version__} reads: "
            f"{' '.join(str(error).split())[:200]} Choose another model."
        ) from error
    for parameter in script.parameters():
        parameter.requires_grad_(requires_grad=False)
    steps = read_steps(form.input, form.input.preprocessing, where, before=True)
    network = _Script(script, form, steps.dtype)
    return ForeignModule(form, bundle.description, where, network=network).eval()

"""Compiling a bundle's network ahead of time, for the sizes of frames to come."""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from livestain.bundle.parity import relative_difference
from livestain.errors import LivestainError
from livestain.inference.backends import get_backend
from livestain.inference.backends.compiled import package_path, packages_folder
from livestain.inference.backends.plain import convolutions, unsupported
from livestain.inference.cache import forget
from livestain.inference.device import resolve_device
from livestain.inference.fold import fold_batch_norm
from livestain.inference.proving import Proof
from livestain.inference.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from livestain.bundle.read import Bundle
    from livestain.inference.backends import Precision

__all__ = ["Tuned", "tune"]


@dataclass(frozen=True, slots=True)
class Tuned:
    """One package that was compiled."""

    backend: str
    """Name of the backend that runs it."""

    shape: tuple[int, ...]
    """Of the network's input."""

    seconds: float
    """What compiling took; 0 where the package was there."""

    difference: float | None
    """RMS difference from `folded`, relative to the output's standard deviation, on noise; None where the
    package was there."""


def tune(
    bundle: Bundle,
    device: str = "auto",
    frames: Sequence[tuple[int, int, int]] = (),
    *,
    again: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Tuned]:
    """Compile a network for frames of some sizes, and for the bundle's test input.

    Parameters
    ----------
    bundle : Bundle
        The model.
    device : str
        As `Stainer` has it.
    frames : sequence of tuple of int
        Planes, height and width of what the network is given, in its pixels; the planes count for models
        of whole stacks alone.
    again : bool
        Whether to compile anew what is there.
    tell : callable
        Told what is compiled next.

    Returns
    -------
    list of Tuned
        One for each backend and shape.

    Raises
    ------
    LivestainError
        If there is no compiler or no network for torch, or what was compiled does not match.
    """
    place = torch.device(resolve_device(device))
    _need_compiler()
    module = bundle.load_module()
    proof = Proof(bundle, module, place, Upload())
    with torch.inference_mode():
        proof.prove(proof.reference)  # a bundle that fails its own test is not worth a minute
    done = []
    for name in ("inductor", "inductor-bf16"):
        precision = get_backend(name).precision
        if unsupported(precision, place) is not None or proof.network.module is None:
            continue
        folder = packages_folder(proof.network, place, precision)
        folder.mkdir(parents=True, exist_ok=True)
        for shape in dict.fromkeys([proof.shape, *(proof.frame_shape(frame) for frame in frames)]):
            path = package_path(folder, shape)
            if path.is_file() and not again:
                done.append(Tuned(name, shape, 0.0, None))
                continue
            tell(f"{bundle.name}: {name} for {' x '.join(map(str, shape))}")
            start = time.perf_counter()
            part = path.with_name(f".{path.name[:-4]}.part.pt2")
            try:
                difference = _compile(proof.network.module, place, precision, shape, part)
                limit = proof.limit(name)
                if not difference <= limit:
                    raise LivestainError(
                        f"What {name} compiled of {bundle.name} for {shape} differs from torch by "
                        f"{difference:.2g} of its standard deviation; the limit is {limit:g}. It was not "
                        "kept; use another backend."
                    )
                _put_in_place(part, path)
            finally:
                part.unlink(missing_ok=True)
            done.append(Tuned(name, shape, time.perf_counter() - start, difference))
    if any(one.seconds for one in done):
        forget(bundle.sha256)  # whatever was chosen without them
    if not done:
        raise LivestainError(
            f"The model {bundle.name} is there as ONNX alone, which inductor does not compile. "
            "onnxruntime and openvino need no tuning."
        )
    return done


class _InPrecision(nn.Module):
    """A network that computes in another precision between float32 in and out, which is compiled too."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        predicted: torch.Tensor = self.network(x.to(self.dtype))
        return predicted.to(torch.float32)


def _compile(
    network: nn.Module,
    device: torch.device,
    precision: Precision,
    shape: tuple[int, ...],
    part: Path,
) -> float:
    """Write a package and return how far it is from torch."""
    import torch._inductor as inductor

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    # Folded first: inductor's own folding is wrong, without a word, for a transposed convolution with as
    # many channels in as out.
    folded = _InPrecision(fold_batch_norm(copy.deepcopy(network)).to(device), dtype)
    folded = folded.to(memory_format=layout).eval()  # type: ignore[call-overload]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    x = x.contiguous(memory_format=layout)
    with torch.no_grad(), convolutions(device, tf32=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        inductor.aoti_compile_and_package(
            torch.export.export(folded, (x,)),
            package_path=str(part),
            # Constants are laid out while compiling; the number of threads is the caller's.
            inductor_configs={"freezing": True, "cpp.dynamic_threads": True},
        )
        package = inductor.aoti_load_package(str(part))
        wanted, found = folded(x).cpu().numpy(), package(x).cpu().numpy()
        del package  # or Windows would not let it be moved
    return relative_difference(found, wanted)


def _put_in_place(part: Path, path: Path) -> None:
    try:
        part.replace(path)
    except PermissionError as error:  # Windows: a worker has the old one loaded
        raise LivestainError(
            f"{path} cannot be replaced: a program that predicts with it is open. Close it, and tune again."
        ) from error


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError, OSError) as error:
        raise LivestainError(
            "There is no C++ compiler, which inductor needs: install g++ or clang, or on Windows the Build "
            "Tools of Visual Studio, and start from their prompt. The other backends need none."
        ) from error

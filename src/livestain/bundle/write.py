"""Writing a bundle: everything into a folder beside it, checked, then moved into place."""

from __future__ import annotations

import copy
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livestain._version import __version__
from livestain.bundle.description import (
    BundleDescription,
    ForeignSpec,
    Int8,
    Latency,
    OutputChannel,
)
from livestain.bundle.files import RDF, SEAL, seal, sha256
from livestain.bundle.module import StainModule
from livestain.bundle.onnx_export import export_onnx
from livestain.bundle.onnx_network import cut_network
from livestain.bundle.parity import relative_difference
from livestain.bundle.picture import write_cover
from livestain.bundle.placing import put_in_place
from livestain.bundle.rdf import build_rdf
from livestain.bundle.read import Bundle, verify_bundle
from livestain.errors import BundleError
from livestain.networks import network_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

__all__ = ["Quantise", "check_bundle_folder", "write_bundle"]

Quantise = Callable[
    [bytes, StainModule, tuple["NDArray[np.uint16]", "NDArray[np.float32]"]],
    tuple[bytes, Int8] | None,
]
"""Makes 8-bit weights of a network's ONNX: see `write_bundle`."""


def write_bundle(
    folder: Path | str,
    *,
    network: nn.Module,
    description: BundleDescription,
    name: str,
    title: str,
    licence: str,
    card: str,
    test_input: NDArray[Any],
    authors: Sequence[str] = ("livestain",),
    summary: str = "",
    tags: Sequence[str] = (),
    recipe_yaml: str | None = None,
    onnx: bool = True,
    quantise: Quantise | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a trained network as a bundle: a valid bioimage.io model.

    Parameters
    ----------
    folder : Path or str
        Where to; must not exist, or be empty, unless `overwrite`.
    network : nn.Module
        A trained network of `livestain.networks`, as `description.network` builds it. A copy is
        exported, on the CPU, in float32 and eval mode.
    description : BundleDescription
        Its divisors and halos are taken from the network; `latency` and `made_with` are filled in.
    name : str
        Short name: lower case letters, digits, `_`, `-` and `.`.
    title : str
        5 to 128 letters, digits, `_+-()` and spaces.
    licence : str
        SPDX identifier of the weights.
    card : str
        Markdown: data, licence, metrics on held-out movies, limits, how it was made.
    test_input : array of uint16, (planes, y, x)
        Raw planes from the simulator, never from data under another licence, as `Stainer.stain` takes
        them; sides (and the depth of whole stacks) are multiples of the network's divisor.
    authors : sequence of str
        Names.
    summary : str
        One sentence; the title where empty.
    tags : sequence of str
        Beyond the usual ones.
    recipe_yaml : str, optional
        The training recipe, kept as recipe.yaml.
    onnx : bool
        Whether to write weights.onnx too.
    quantise : callable, optional
        Given the ONNX of the network alone, the module, and the test tensors, returns an ONNX of 8-bit
        integers and what is to be stated of it, or None where it is not good enough. Needs `onnx`.
    overwrite : bool
        Whether to replace a bundle in that folder.

    Returns
    -------
    Bundle
        As read back from the folder.

    Raises
    ------
    BundleError
        If the folder is in use or cannot be written, something does not fit, or the result is no
        valid bioimage.io model; nothing is left behind.
    MissingExtraError
        If ONNX is asked for and not installed.
    """
    folder = Path(folder)
    check_bundle_folder(folder, overwrite=overwrite)
    spec = description.network
    if isinstance(spec, ForeignSpec) or spec.name not in network_names():
        named = spec.foreign if isinstance(spec, ForeignSpec) else spec.name
        raise BundleError(
            f"No network is called {named!r}; expected one of {', '.join(network_names())}."
        )
    module = StainModule.described(
        copy.deepcopy(network).to("cpu", torch.float32), description
    ).eval()
    counts = _check_test_input(test_input, description, module)
    with torch.inference_mode():
        expected, milliseconds = _run(module, counts)
    _check_test_output(expected, counts, description)
    description = description.model_copy(
        update={
            "input": description.input.model_copy(
                update={
                    name: getattr(module, name)
                    for name in ("divisor", "divisor_z", "halo", "halo_z")
                }
            ),
            "latency": (
                *description.latency,
                Latency(
                    device=platform.processor() or platform.machine(),
                    backend="eager",
                    threads=torch.get_num_threads(),
                    shape_yx=counts.shape[-2:],
                    planes=counts.shape[2] if module.whole_stack else 1,
                    milliseconds=round(milliseconds, 2),
                ),
            ),
            "made_with": {
                "livestain": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
    )
    with _scratch_beside(folder) as scratch:
        new = scratch / folder.name
        new.mkdir()
        _write_text(new / "README.md", card)
        if recipe_yaml is not None:
            _write_text(new / "recipe.yaml", recipe_yaml)
        np.save(new / "test_input.npy", counts, allow_pickle=False)
        np.save(new / "test_output.npy", expected, allow_pickle=False)
        write_cover(new / "cover.png", *_for_cover(counts, expected, description))
        torch.save(module.state_dict(), new / "weights.pt")
        opset = None
        if onnx:
            example = torch.from_numpy(counts.astype(np.float32))
            fixed = description.input.window.depth is not None
            opset = export_onnx(module, example, new / "weights.onnx", any_depth=not fixed)
        if quantise is not None:
            alone = _network_alone(new / "weights.onnx")
            if (made := quantise(alone, module, (counts, expected))) is not None:
                weights, stated = made
                (new / stated.file).write_bytes(weights)
                description = description.model_copy(update={"int8": stated})
        rdf = build_rdf(
            description=description,
            name=name,
            title=title,
            licence=licence,
            authors=authors,
            summary=summary or title,
            tags=tags,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
            hashes={path.name: sha256(path.read_bytes()) for path in sorted(new.iterdir())},
            opset=opset,
            torch_version=torch.__version__.split("+")[0],
            test_output=expected,
        )
        _write_rdf(new, rdf)
        written = verify_bundle(new)
        _check_weights_load(written, counts, expected)
        put_in_place(new, folder)
    return Bundle(**{**vars(written), "path": folder})


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell in a sentence why a folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"Cannot write the bundle {folder}: {error.strerror or error}. Expected a folder that can be "
            "written to, on a disk with space."
        ) from error


@contextmanager
def _scratch_beside(folder: Path) -> Iterator[Path]:
    """Give a folder beside another, removed at the end."""
    with _told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            yield Path(scratch)


def check_bundle_folder(folder: Path | str, *, overwrite: bool) -> None:
    """Refuse a folder that `write_bundle` would refuse; touch nothing.

    Raises
    ------
    BundleError
        If there is something else, or a bundle that is not to be replaced.
    """
    folder = Path(folder)
    with _told(folder):
        if not folder.exists():
            return
        if not folder.is_dir():
            raise BundleError(f"{folder} is a file; expected a folder to write a bundle into.")
        if any(folder.iterdir()) and not (overwrite and (folder / RDF).is_file()):
            raise BundleError(
                f"{folder} exists and is not empty. Choose another folder"
                + (", since it is no bundle." if overwrite else ", or overwrite.")
            )


def _check_test_input(
    test_input: NDArray[Any], description: BundleDescription, module: StainModule
) -> NDArray[np.uint16]:
    """Return the planes as they are stored: (1, planes, y, x), or (1, sources, z, y, x) for stacks."""
    counts = np.asarray(test_input)
    if counts.ndim == 2:
        counts = counts[None]
    window, sources = description.input.window, len(description.input.kinds)
    planes = str(sources * window.n_planes)
    fits = counts.ndim == 3 and counts.dtype == np.uint16
    sides = f"y and x multiples of {module.divisor}"
    if window.whole_stack and window.depth is None:
        planes = "planes" if sources == 1 else f"{sources} * planes"
        sides = f"planes multiples of {module.divisor_z}, {sides}"
        fits = fits and counts.shape[0] > 0 and counts.shape[0] % (sources * module.divisor_z) == 0
    else:
        fits = fits and str(counts.shape[0]) == planes
    if not fits or any(side % module.divisor for side in counts.shape[1:]):
        raise BundleError(
            f"The test input is {counts.dtype} {counts.shape}; expected uint16 ({planes}, y, x) "
            f"with {sides}."
        )
    if window.whole_stack:
        counts = counts.reshape(sources, -1, *counts.shape[1:])
    return np.ascontiguousarray(counts[None])


def _for_cover(
    counts: NDArray[np.uint16], expected: NDArray[np.float32], description: BundleDescription
) -> tuple[NDArray[np.uint16], NDArray[np.float32], OutputChannel]:
    """Return a plane of the first source, the first output's prediction of it, and that output."""
    if description.input.window.whole_stack:
        middle = counts.shape[2] // 2
        return counts[0, 0, middle], expected[0, 0, middle], description.outputs[0]
    own = description.input.window.own_plane
    return counts[0, own], expected[0, 0], description.outputs[0]


def _run(module: StainModule, counts: NDArray[np.uint16]) -> tuple[NDArray[np.float32], float]:
    planes = torch.from_numpy(counts.astype(np.float32))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        try:
            output = module(planes)
        except (RuntimeError, ValueError, TypeError) as error:
            raise BundleError(
                f"The network does not run on the test input {counts.shape}: {error}"
            ) from error
        times.append(1000 * (time.perf_counter() - start))
    array: NDArray[np.float32] = output.numpy()
    return np.ascontiguousarray(array), statistics.median(times)


def _check_test_output(
    expected: NDArray[np.float32], counts: NDArray[np.uint16], description: BundleDescription
) -> None:
    wanted = (1, len(description.outputs), *counts.shape[2:])  # a stack's depth, if any, and sides
    if expected.shape != wanted:
        raise BundleError(
            f"The network predicts {expected.shape} from the test input; the description's outputs "
            f"expect {wanted}."
        )
    axes = (0, *range(2, expected.ndim))
    largest = np.abs(expected).max(axis=axes)
    # In float32 the standard deviation of a constant is not quite zero.
    constant = expected.std(axis=axes) <= 1e-6 * largest
    if not np.isfinite(expected).all() or constant.any():
        raise BundleError(
            "An output of the network on the test input is constant, or has NaN or infinite values; "
            "expected a picture. Train the network before it is exported."
        )


def _check_weights_load(
    bundle: Bundle, counts: NDArray[np.uint16], expected: NDArray[np.float32]
) -> None:
    """Make sure that what the description builds is what was given."""
    with torch.inference_mode():
        again = bundle.load_module()(torch.from_numpy(counts.astype(np.float32))).numpy()
    difference = relative_difference(again, expected)
    if not difference <= 1e-4:
        raise BundleError(
            f"The network that {bundle.description.network} builds with the written weights differs "
            f"from the one given by {difference:.2g} of the output's standard deviation. Expected "
            "the description of this very network."
        )


def _network_alone(path: Path) -> bytes:
    """Return the network inside a whole model's ONNX."""
    import onnx
    from onnx.checker import ValidationError

    if not path.is_file():
        raise BundleError("int8 is made from the ONNX weights. Export with ONNX, or without int8.")
    try:
        data: bytes = cut_network(onnx.load(path)).SerializeToString()
    except (ValueError, KeyError, ValidationError) as error:
        raise BundleError(
            f"int8 cannot be made of this network: {' '.join(str(error).split())[:200]}. Export without int8."
        ) from error
    return data


def _write_text(path: Path, text: str) -> None:
    # The same bytes on every system, or the hashes would differ.
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_rdf(folder: Path, rdf: dict[str, Any]) -> None:
    import yaml

    text = yaml.safe_dump(rdf, sort_keys=False, allow_unicode=True, width=100)
    _write_text(folder / RDF, text)
    _write_text(folder / SEAL, seal((folder / RDF).read_bytes()))

"""What many tests share: a small real bundle, the data folder, and no thread left behind."""

from __future__ import annotations

import functools
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

# Two test processes share the cores, and threads that spin while they wait for each other's turn cost a
# training of small planes ten times its own work. Before numpy and torch are loaded, which read it then;
# the processes that tests start inherit it. A variable that is set already stays.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of sessions are opened here, and none is to time backends for it; the tests of the choice do.
os.environ.setdefault("LIVESTAIN_BACKEND", "folded")

import numpy as np
import pytest

from livestain.planes import PlaneIndex

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images; a variable that is set but wrong is a failure, not a skip."""
    given = os.environ.get("LIVESTAIN_DATA")
    if not given:
        pytest.skip("LIVESTAIN_DATA is not set: the real images are not here")
    folder = Path(given)
    if not (folder / "h9c2-omp25" / "movie-009").is_dir():
        pytest.fail(f"LIVESTAIN_DATA={given} has no h9c2-omp25/movie-009")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle with a small network of random weights: fast, and its output is known."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that gives a bundle of `make_bundle`'s arguments, made once a session."""
    folder = tmp_path_factory.mktemp("bundles-of")

    @functools.cache
    def make(**arguments: object) -> Path:
        # Those of one output lie together, so that a test can put them on the search path alone.
        words = "-".join(f"{k}-{v}" for k, v in sorted(arguments.items()))
        name = re.sub("[^a-z0-9-]+", "-", words or "tiny")
        return make_bundle(folder / str(arguments.get("output", "any")) / name, **arguments)

    return make


@pytest.fixture
def png_movie(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes brightfield/ and mitochondria/ of random 8-bit PNG files."""
    from PIL import Image

    def write(t: int = 4, shape: tuple[int, int] = (64, 72), name: str = "movie") -> Path:
        rng = np.random.default_rng(7)
        for channel in ("brightfield", "mitochondria"):
            folder = tmp_path / name / channel
            folder.mkdir(parents=True)
            for n in range(t):
                image = rng.integers(0, 256, shape, np.uint8)
                Image.fromarray(image).save(folder / f"t{n:03d}.png")
        return tmp_path / name

    return write


def make_bundle(
    folder: Path,
    *,
    network: str = "unet2d",
    width: int = 4,
    depth: int = 2,
    z: int | str = 1,
    past: int = 0,
    future: int = 0,
    stack_depth: int | None = None,
    more_kinds: tuple[str, ...] = (),
    output: str = "mitochondria",
    onnx: bool = False,
    running: int | None = None,
    **spec: object,
) -> Path:
    """Write a bundle of a network with random weights; `spec` goes into its input.

    With `running` it normalises so, and its network sees so many of the earlier time points.
    """
    import torch

    from livestain.bundle import (
        BundleDescription,
        InputSpec,
        NetworkSpec,
        NormalisationSettings,
        OutputChannel,
        WindowSpec,
        write_bundle,
    )
    from livestain.networks import build_network, network_dims

    window = WindowSpec.model_validate(
        {"z": z, "past": past, "future": future, "depth": stack_depth}
    )
    sources = 1 + len(more_kinds)
    kwargs = {"width": width, "depth": depth}
    flat = network_dims(network) == 2
    normalisation = NormalisationSettings()
    if running is not None:
        normalisation = NormalisationSettings(kind="running", sees_past=running)
    kwargs["in_channels"] = sources * normalisation.seen(window).n_planes if flat else sources
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_network(network, **kwargs)
    inputs: dict[str, object] = {
        "kind": "brightfield",
        "more_kinds": more_kinds,
        "pixel_size_um": 0.1,
        "pixel_size_range_um": (0.09, 0.12),
        "window": window,
        "z_step_um": 0.5 if window.window().needs_stack else None,
        **spec,
    }
    planes = sources * ((stack_depth or 8) if window.whole_stack else window.n_planes)
    write_bundle(
        folder,
        network=built,
        description=BundleDescription(
            input=InputSpec.model_validate(inputs),
            normalisation=normalisation,
            outputs=(
                OutputChannel(
                    name=output, unit="sd", scale=0.001, offset=-20.0, display=(-1.0, 3.0)
                ),
            ),
            network=NetworkSpec(name=network, kwargs=kwargs),
        ),
        name=folder.name,
        title="A tiny network for tests",
        licence="BSD-3-Clause",
        card="# Tiny\n\nRandom weights, for tests.\n",
        test_input=np.random.default_rng(0).integers(0, 4000, (planes, 64, 64), np.uint16),
        onnx=onnx,
    )
    return folder


@pytest.fixture(autouse=True)
def no_threads_left() -> object:
    """Fail a test that leaves one of livestain's threads running."""
    yield
    left = [
        t.name
        for t in threading.enumerate()
        if t.name.startswith("livestain") and t.name != "livestain-worker-reader"
    ]
    assert not left, f"threads left running: {left}"


def index(t: int, c: int, z: int = 0) -> PlaneIndex:
    """Return a place at position 0."""
    return PlaneIndex(0, t, c, z)

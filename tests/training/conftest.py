"""Made-up movies on disk, and small recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from training_cases import make_movie

from livestain.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums of several may come in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three movies: PNG of 8 bits, TIFF of 16 bits, PNG of 16 bits."""
    folder = tmp_path / "data"
    make_movie(folder, "a", seed=1)
    make_movie(folder, "b", seed=2, suffix=".tif", dtype=np.uint16)
    make_movie(folder, "c", seed=3, dtype=np.uint16)
    return folder


@pytest.fixture
def recipe_of() -> Callable[..., Recipe]:
    """Return a function that makes a recipe of a few seconds; what is given replaces its keys."""

    def make(**changes: Any) -> Recipe:
        values = {
            "name": "tiny",
            "network": {"name": "unet2d", "kwargs": {"width": 4, "depth": 2, "dropout": 0.1}},
            "targets": [
                {
                    "channel": "mitochondria",
                    "output": {
                        "name": "mitochondria",
                        "unit": "sd",
                        "scale": 0.001,
                        "offset": -20.0,
                        "display": [-1, 4],
                    },
                }
            ],
            "pixel_size_um": 0.1,
            "pixel_size_range_um": [0.08, 0.12],
            "crop": 32,
            "batch_size": 4,
            "steps": 12,
            "loss": {"pearson": 1.0, "mse": 0.25},
            "optimiser": {"learning_rate": 0.01, "warmup_steps": 2},
            "augmentation": {
                "affine": 0.5,
                "scale": [0.8, 1.25],
                "gain": [0.8, 1.2],
                "brightness": 0.1,
                "gamma": [0.8, 1.2],
                "blur": 0.5,
                "noise": 0.1,
            },
            "ema_decay": 0.9,
            "card": {"licence": "BSD-3-Clause"},
            **changes,
        }
        return Recipe.parse(values, where="test")

    return make

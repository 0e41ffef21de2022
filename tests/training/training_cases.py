"""Small made-up movies whose target can be learnt from their source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from pathlib import Path


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(image).save(path)
    else:
        tifffile.imwrite(path, image)


def make_pair(seed: int, shape=(64, 64), dtype=np.uint8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bumps = gaussian_filter(rng.standard_normal(shape), 2.0)
    target = np.maximum(bumps / bumps.std(), 0)
    source = -bumps / bumps.std() + 0.1 * rng.standard_normal(shape)
    top = 40 if dtype == np.uint8 else 4000
    return (
        (source * top / 2 + 3 * top).clip(0, np.iinfo(dtype).max).astype(dtype),
        (target * top + 5).astype(dtype),
    )


def make_movie(
    data: Path, name: str, *, n: int = 4, seed: int = 0, suffix: str = ".png", **how: Any
) -> Path:
    movie = data / f"movie-{name}"
    for i in range(n):
        source, target = make_pair(100 * seed + i, **how)
        write_image(movie / "brightfield" / f"t{i:03d}_z000_{i}{suffix}", source)
        write_image(movie / "mitochondria" / f"t{i:03d}_z000_{i}{suffix}", target)
    return movie

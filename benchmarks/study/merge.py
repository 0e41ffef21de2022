"""Two structures from one picture: two models on the same brightfield, merged in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image, ImageDraw

from livestain.inference import Stainer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["draw_merge", "merged"]

_GAP, _TITLE, _ZOOM = 6, 16, 3


def draw_merge(models: dict[str, Path], truth: Path, out: Path, device: str) -> Path:
    """Draw brightfield, the merged predictions and the merged truth of a stack that no training saw.

    Parameters
    ----------
    models : dict of str to Path
        Bundles by the channel that they predict: ``Mitochondria`` and ``DNA``.
    truth : Path
        Folder of movies of stacks, such as ``z/truth``.
    out : Path
        A PNG.
    """
    movie = sorted(truth.glob("movie-*"))[0]
    file = sorted((movie / "Brightfield").glob("*.tif"))[0].name
    brightfield = tifffile.imread(movie / "Brightfield" / file)
    middle = len(brightfield) // 2
    predicted, true = {}, {}
    for channel, bundle in models.items():
        with Stainer(bundle, device=device) as stainer:
            predicted[channel] = stainer.stain(brightfield)[0][middle]
        true[channel] = tifffile.imread(movie / channel / file)[middle]
    grey = np.repeat(_shown(brightfield[middle])[..., None], 3, axis=-1)
    panels = {"brightfield": grey, "predicted": merged(predicted), "truth": merged(true)}
    height, width = (side * _ZOOM for side in brightfield.shape[1:])
    sheet = Image.new("RGB", (3 * width + 2 * _GAP, height + _TITLE), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (title, panel) in enumerate(panels.items()):
        image = Image.fromarray((panel * 255).round().astype(np.uint8))
        left = i * (width + _GAP)
        sheet.paste(image.resize((width, height), Image.Resampling.NEAREST), (left, _TITLE))
        pen.text((left + 2, 2), title, fill="black")
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return out


def merged(planes: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return (y, x, 3): mitochondria in magenta, DNA in cyan, each between its 1st and 99.8th percentile."""
    magenta, cyan = np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])
    light = (
        _shown(planes["Mitochondria"])[..., None] * magenta
        + _shown(planes["DNA"])[..., None] * cyan
    )
    return np.minimum(light, 1.0)


def _shown(plane: NDArray[Any]) -> NDArray[np.float64]:
    low, high = np.percentile(plane, [1, 99.8])
    return ((plane - low) / max(float(high - low), 1e-9)).clip(0, 1)

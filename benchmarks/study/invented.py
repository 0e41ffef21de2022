"""What a model of a label draws that is not there, and what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import yaml
from scipy.ndimage import label

from livestain.inference import Stainer
from livestain.training.evaluation.picture import Picture, zscored
from livestain.training.evaluation.scores import score
from livestain.training.evaluation.segmentation import segment
from study.scoring import interval_over_dishes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["invented", "unspecific_share"]

_TOUCH = np.ones((3, 3), dtype=bool)


def invented(bundle: Path, truth: Path, device: str) -> dict[str, Any]:
    """Count the objects of predictions that touch no true one, and the true ones that are missed.

    Parameters
    ----------
    bundle : Path
        A model from ``label-1`` to a label of the same structure.
    truth : Path
        Folder of movies with ``label-1``, the structure as ``label-2``, and what is ``unspecific`` in the
        first label.

    Returns
    -------
    dict
        Means over the fields: `objects_a_field` (invented), `missed_a_field`, `true_objects_a_field`, and the
        same of the input itself; `unspecific`, see `unspecific_share`; Pearson and SSIM of the input with the
        structure, which a model must beat; `intervals` of the first ones over the dishes; `fields`.
    """
    dishes: list[dict[str, float]] = []
    fields = 0
    with Stainer(bundle, device=device) as stainer:
        for movie in sorted(truth.glob("movie-*")):
            voxels = yaml.safe_load((movie / "movie.yaml").read_text(encoding="utf-8"))
            rows = []
            for file in sorted((movie / "label-1").glob("*.tif")):
                planes = {
                    c: tifffile.imread(movie / c / file.name)
                    for c in ("label-1", "label-2", "unspecific")
                }
                predicted = stainer.stain(planes["label-1"][None])[0]
                rows.append(_counted(predicted, planes, voxels["pixel_size_um"]))
            fields += len(rows)
            dishes.append({key: float(np.mean([row[key] for row in rows])) for key in rows[0]})
    means = {key: float(np.mean([dish[key] for dish in dishes])) for key in dishes[0]}
    told = ("unspecific", "objects_a_field", "missed_a_field")
    intervals = {key: interval_over_dishes(dish[key] for dish in dishes) for key in told}
    return {**means, "intervals": intervals, "fields": fields}


def _counted(
    predicted: NDArray[Any], planes: dict[str, NDArray[Any]], pixel_size_um: float
) -> dict[str, float]:
    true = segment(planes["label-2"], pixel_size_um).mask
    ours = segment(predicted, pixel_size_um).mask
    given = segment(planes["label-1"], pixel_size_um).mask
    pictures = (Picture(zscored(planes[c]), pixel_size_um) for c in ("label-1", "label-2"))
    compared = score(*pictures, ("pearson", "ssim"))
    return {
        "objects_a_field": _untouched(ours, true),
        "missed_a_field": _untouched(true, ours),
        "objects_a_field_of_the_input": _untouched(given, true),
        "true_objects_a_field": float(label(true, _TOUCH)[1]),
        "unspecific": unspecific_share(predicted, planes),
        "pearson_of_the_input": compared["pearson"],
        "ssim_of_the_input": compared["ssim"],
    }


def _untouched(of: NDArray[np.bool_], by: NDArray[np.bool_]) -> float:
    """Return the number of objects of one mask that no pixel of the other lies in."""
    named, n = label(of, _TOUCH)
    touched = np.unique(named[by & of])
    return float(n - len(touched[touched > 0]))


def unspecific_share(predicted: NDArray[Any], planes: dict[str, NDArray[Any]]) -> float:
    """Return how much of the unspecific signal is left beside the structure, as a share of the input's.

    Prediction and input are each fitted as a sum of the true structure, the unspecific signal and a
    constant (least squares); the share is the ratio of unspecific to structure in the prediction over that
    in the input. 1: nothing was filtered out; 0: all.
    """
    ratios = [_ratio(image, planes) for image in (predicted, planes["label-1"])]
    return ratios[0] / ratios[1]


def _ratio(image: NDArray[Any], planes: dict[str, NDArray[Any]]) -> float:
    parts = [planes["label-2"].ravel(), planes["unspecific"].ravel(), np.ones(image.size)]
    matrix = np.stack([part.astype(np.float64) for part in parts], axis=1)
    fitted = np.linalg.lstsq(matrix, image.astype(np.float64).ravel(), rcond=None)[0]
    return float(fitted[1] / fitted[0])

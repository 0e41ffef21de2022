"""The metrics: one prediction against one target, both single planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from livestain.errors import SettingsError
from livestain.metrics import pearson
from livestain.training.evaluation.frc import fourier_ring_correlation
from livestain.training.evaluation.libraries import skimage
from livestain.training.evaluation.picture import RANGE_PERCENTILES, Picture
from livestain.training.evaluation.segmentation import dice, intersection_over_union
from livestain.training.extra import needs_train_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

__all__ = [
    "METRICS",
    "NORMALISATION",
    "Column",
    "Metric",
    "choose_metrics",
    "columns_of",
    "foreground_pearson",
    "ms_ssim",
    "normalised_mse",
    "nrmse",
    "psnr",
    "score",
    "ssim",
]

NORMALISATION = (
    "SSIM, MS-SSIM, PSNR, NRMSE: prediction and target plane each to mean 0 and standard deviation 1, then "
    f"the target's percentiles {RANGE_PERCENTILES[0]:g} and {RANGE_PERCENTILES[1]:g} to 0 and 1, both cut "
    "there; data range 1. Normalised MSE: the prediction as it comes out of the model, the target in the "
    "model's unit. All others do not change with scale and offset."
)
"""Declared wherever scores are shown."""

_MS_SSIM_SIDE = 176
"""Smallest side for five scales of an 11-pixel window."""

_SSIM_SIDE = 11

_FRC_SIDE = 16


def ssim(a: NDArray[Any], b: NDArray[Any], data_range: float) -> float:
    """Return the structural similarity of two planes (Wang 2004), by scikit-image.

    Gaussian window of sigma 1.5 (11 pixels), k1 = 0.01, k2 = 0.03, population variances.

    Parameters
    ----------
    a, b : array, (y, x)
        Not negative, of equal shape; NaN is returned for sides under 11 pixels.
    data_range : float
        Difference of the largest and the smallest value there can be.
    """
    if min(a.shape) < _SSIM_SIDE:
        return float("nan")
    return float(
        skimage("metrics").structural_similarity(
            a.astype(np.float64),
            b.astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def ms_ssim(a: NDArray[Any], b: NDArray[Any], data_range: float) -> float:
    """Return the multi-scale structural similarity of two planes (Wang 2003), by torchmetrics.

    Five scales of weights .0448 .2856 .3001 .2363 .1333; negative contrast-structure counts as 0. The last
    scale is averaged over its mirrored margins too.
    Parameters as for `ssim`; NaN is returned for sides under 176 pixels.
    """
    with needs_train_extra():
        import torch
        from torchmetrics.functional.image import (
            multiscale_structural_similarity_index_measure as similarity,
        )
    if min(a.shape) < _MS_SSIM_SIDE:
        return float("nan")
    # float32: its two-dimensional convolutions take twenty times as long in float64.
    x, y = (torch.from_numpy(plane.astype(np.float32))[None, None] for plane in (a, b))
    return float(similarity(x, y, data_range=data_range, normalize="relu"))


def psnr(a: NDArray[Any], b: NDArray[Any], data_range: float) -> float:
    """Return the peak signal-to-noise ratio in decibels, by scikit-image.

    Integers are widened first: subtracted as they are, uint8 noise against noise, which is 7.7 dB, would
    wrap around to 27.9.

    Parameters
    ----------
    a, b : array, (y, x)
        Any real dtype, equal shapes.
    data_range : float
        Difference of the largest and the smallest value there can be.

    Returns
    -------
    float
        Infinite for equal planes.
    """
    if np.array_equal(a, b):
        return float("inf")
    return float(
        skimage("metrics").peak_signal_noise_ratio(
            a.astype(np.float64), b.astype(np.float64), data_range=data_range
        )
    )


def nrmse(a: NDArray[Any], target: NDArray[Any]) -> float:
    """Return the root of the mean square error over that of the target's mean square, by scikit-image.

    NaN where the target is zero everywhere.
    """
    if not target.any():
        return float("nan")
    x, y = target.astype(np.float64), a.astype(np.float64)
    return float(skimage("metrics").normalized_root_mse(x, y, normalization="euclidean"))


def normalised_mse(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Return the mean square error over the target's variance: a blank picture at its mean scores 1.

    The error that Ounkomol 2018 reports. Nothing is scaled, so a prediction of the right pattern and the
    wrong contrast pays for it. NaN where the target is constant.
    """
    truth = target.astype(np.float64)
    variance = float(truth.var())
    error = float(np.mean((prediction.astype(np.float64) - truth) ** 2))
    return error / variance if variance > 0 else float("nan")


def foreground_pearson(
    prediction: NDArray[Any], target: NDArray[Any], foreground: NDArray[np.bool_]
) -> float:
    """Return the Pearson correlation over the foreground's pixels alone; NaN of fewer than 3."""
    if int(foreground.sum()) < 3:
        return float("nan")
    return pearson(prediction[foreground], target[foreground])


@dataclass(frozen=True)
class Column:
    """One number of an image.

    Attributes
    ----------
    name : str
        Its key in CSV and JSON.
    label : str
        For people, with its unit.
    better : {"higher", "lower", "zero", ""}
        Where a good prediction lies; "" for numbers that describe the image.
    digits : int
        Behind the point, in tables.
    """

    name: str
    label: str
    better: Literal["higher", "lower", "zero", ""] = "higher"
    digits: int = 3


@dataclass(frozen=True)
class Metric:
    """A metric that can be asked for.

    Attributes
    ----------
    columns : tuple of Column
        What it gives.
    about : str
        What it is, for people.
    score : callable
        ``score(prediction, target)`` of two pictures; as many numbers as columns. NaN: not defined.
    """

    columns: tuple[Column, ...]
    about: str
    score: Callable[[Picture, Picture], tuple[float, ...]]


def _relative(prediction: float, target: float) -> float:
    return (prediction - target) / target if target > 0 else float("nan")


def _mitochondria(prediction: Picture, target: Picture) -> tuple[float, ...]:
    p, t = prediction.mitochondria, target.mitochondria
    return (
        dice(p.mask, t.mask),
        intersection_over_union(p.mask, t.mask),
        float(p.count),
        float(t.count),
        _relative(p.count, t.count),
        p.length_um,
        t.length_um,
        _relative(p.length_um, t.length_um),
    )


def _frc(prediction: Picture, target: Picture) -> tuple[float, ...]:
    if min(target.values.shape) < _FRC_SIDE:
        return (float("nan"),)
    found = fourier_ring_correlation(prediction.values, target.values, target.pixel_size_um)
    return (found.resolution_um,)


METRICS: dict[str, Metric] = {
    "pearson": Metric(
        (Column("pearson", "Pearson"),),
        "Correlation over all pixels.",
        lambda p, t: (pearson(p.values, t.values),),
    ),
    "foreground_pearson": Metric(
        (Column("foreground_pearson", "Pearson in foreground"),),
        "Correlation over the pixels above Otsu's threshold of the target.",
        lambda p, t: (foreground_pearson(p.values, t.values, t.foreground),),
    ),
    "ssim": Metric(
        (Column("ssim", "SSIM"),),
        "Structural similarity (Wang 2004), Gaussian window of 11 pixels.",
        lambda p, t: (ssim(p.in_range_of(t), t.in_range_of(t), 1.0),),
    ),
    "ms_ssim": Metric(
        (Column("ms_ssim", "MS-SSIM"),),
        f"The same over five scales (Wang 2003); only for sides of {_MS_SSIM_SIDE} pixels or more.",
        lambda p, t: (ms_ssim(p.in_range_of(t), t.in_range_of(t), 1.0),),
    ),
    "psnr": Metric(
        (Column("psnr", "PSNR (dB)", digits=1),),
        "Peak signal-to-noise ratio.",
        lambda p, t: (psnr(p.in_range_of(t), t.in_range_of(t), 1.0),),
    ),
    "nrmse": Metric(
        (Column("nrmse", "NRMSE", "lower"),),
        "Root mean square error over the root mean square of the target.",
        lambda p, t: (nrmse(p.in_range_of(t), t.in_range_of(t)),),
    ),
    "nmse": Metric(
        (Column("nmse", "normalised MSE", "lower"),),
        "Mean square error over the target's variance (Ounkomol 2018): a blank picture scores 1.",
        lambda p, t: (normalised_mse(p.in_unit, t.in_unit),),
    ),
    "frc": Metric(
        (Column("frc_um", "FRC 1/7 (um)", "lower", 2),),
        "One over the spatial frequency at which the Fourier ring correlation of prediction and target falls "
        "below 1/7: the finest detail on which they agree, limited by the target's noise too, and not the "
        "resolution of either. None where they have no detail in common.",
        _frc,
    ),
    "mitochondria": Metric(
        (
            Column("dice", "Dice"),
            Column("iou", "IoU"),
            Column("count", "objects predicted", "", 0),
            Column("count_target", "objects in target", "", 0),
            Column("count_error", "error of object count", "zero", 2),
            Column("length_um", "network length predicted (um)", "", 0),
            Column("length_target_um", "network length in target (um)", "", 0),
            Column("length_error", "error of network length", "zero", 2),
        ),
        "Mitochondria cut out of prediction and target by the same rule: overlap, number of objects, length "
        "of their skeletons. Errors are relative to the target, negative where too little is predicted.",
        _mitochondria,
    ),
}
"""By the name it is asked for, in the order of tables."""

SERIES_METRICS = ("flicker",)
"""Metrics of series, not of single planes: see `livestain.training.evaluation.flicker`."""


def choose_metrics(names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of metrics in the order of tables, Pearson always among them.

    Parameters
    ----------
    names : names, optional
        All where left out.

    Raises
    ------
    SettingsError
        If there is no metric of such a name.
    """
    known = (*METRICS, *SERIES_METRICS)
    if names is None:
        return known
    wanted = {name.strip().lower().replace("-", "_") for name in names}
    for name in sorted(wanted):
        if name not in known:
            raise SettingsError(f"There is no metric {name!r}. Expected of: {', '.join(known)}.")
    return tuple(name for name in known if name == "pearson" or name in wanted)


def columns_of(metrics: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of some metrics of single planes, in order."""
    return tuple(column for name in metrics if name in METRICS for column in METRICS[name].columns)


def score(prediction: Picture, target: Picture, metrics: Iterable[str]) -> dict[str, float]:
    """Return the columns of some metrics, by name; NaN where one is not defined."""
    found: dict[str, float] = {}
    for name in metrics:
        if name in METRICS:
            metric = METRICS[name]
            names = (column.name for column in metric.columns)
            found.update(zip(names, metric.score(prediction, target), strict=True))
    return found

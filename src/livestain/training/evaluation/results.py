"""What an evaluation found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.training.evaluation.scores import METRICS, NORMALISATION, Column, columns_of
from livestain.training.evaluation.statistics import Summary, summarise, summarise_movies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from livestain.training.evaluation.flicker import Flicker

__all__ = [
    "SUBJECTS",
    "Evaluation",
    "ImageScores",
    "MetricScores",
    "MovieScore",
    "Subjects",
    "metric_scores",
]

Interval = tuple[float, float]
"""From the 2.5th to the 97.5th percentile."""

SUBJECTS = {
    "prediction": "the model's prediction against the target",
    "control": "no learning: |brightfield - median|, blurred by 6 pixels, against the target",
    "shuffled": "the model's prediction against the target of another pair of the same movie",
}
"""What is compared, by name."""


@dataclass(frozen=True)
class MovieScore:
    """How like the truth the predictions of one movie are, by Pearson correlation.

    Attributes
    ----------
    pearson, control : float
        Means over the movie's images, of the prediction and of the no-learning control.
    n, frames : int
        Images, and frames they come from: crops of one frame are not independent.
    interval, control_interval, gain_interval : (float, float)
        95 % bootstrap intervals over frames, of `pearson`, `control` and their difference.
    trained_on : bool
        Whether the bundle's recipe names a movie like this: then the score says little.
    """

    pearson: float
    control: float
    n: int
    frames: int
    interval: Interval
    control_interval: Interval
    gain_interval: Interval
    trained_on: bool


@dataclass(frozen=True)
class ImageScores:
    """The numbers of one image: of a plane, or of a whole stack.

    Attributes
    ----------
    movie, pair, frame : str
        Where it is from.
    z : int or None
        Plane within its stack; None for single planes and for whole stacks.
    prediction, control, shuffled : dict of str to float
        By column; NaN where a metric is not defined. See `SUBJECTS`.
    """

    movie: str
    pair: str
    frame: str
    z: int | None
    prediction: dict[str, float]
    control: dict[str, float]
    shuffled: dict[str, float]


@dataclass(frozen=True)
class Subjects:
    """One number of the prediction, and of what it has to beat."""

    prediction: Summary
    control: Summary
    shuffled: Summary


@dataclass(frozen=True)
class MetricScores:
    """One column over all images.

    Attributes
    ----------
    label, better, digits
        See `Column`.
    overall : Subjects
        Means over movies, quantiles over all images.
    by_movie : dict of str to Subjects
    """

    label: str
    better: str
    digits: int
    overall: Subjects
    by_movie: dict[str, Subjects]


@dataclass(frozen=True)
class Evaluation:
    """Scores of one bundle on some movies.

    Attributes
    ----------
    pearson, control : float
        Mean over movies of the mean over images, of the prediction and of the no-learning control.
    interval, control_interval, gain_interval : (float, float)
        95 % bootstrap intervals over frames, within the movies.
    by_movie : dict of str to MovieScore
    source, output : str
        The channel that was looked at (the first of several), and the bundle's output that was compared.
    bundle, bundle_sha256 : str
        Which bundle.
    data_sha256 : dict of str to str
        Hash of the pixels of each movie.
    device, backend : str
        What computed.
    unit : str
        Of the output.
    pixel_size_um : float
        Of the data.
    split : str or None
        Part of a run's split that was scored.
    views : int
        Over how many views of the planes each prediction is averaged; in `to_dict` where it is not 1.
    shuffled_other_frames : dict of str to bool
        Whether all partners of the shuffled control are of another frame, by movie.
    by_metric : dict of str to MetricScores
        By column.
    stacks : dict of str to MetricScores
        Of whole stacks, where the model predicts whole stacks.
    flicker : dict of str to Flicker or None
        By movie; None where it has no film.
    images : tuple of ImageScores
        Every image; not part of `to_dict`.
    normalisation, segmentation : str
        What was done to the planes before they were compared.
    data_range : float
        Of SSIM, MS-SSIM and PSNR.
    """

    pearson: float
    control: float
    interval: Interval
    control_interval: Interval
    gain_interval: Interval
    by_movie: dict[str, MovieScore]
    source: str
    output: str
    bundle: str
    bundle_sha256: str
    device: str
    backend: str
    unit: str
    pixel_size_um: float
    segmentation: str
    data_sha256: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    views: int = 1
    shuffled_other_frames: dict[str, bool] = field(default_factory=dict)
    by_metric: dict[str, MetricScores] = field(default_factory=dict)
    stacks: dict[str, MetricScores] = field(default_factory=dict)
    flicker: dict[str, Flicker | None] = field(default_factory=dict)
    images: tuple[ImageScores, ...] = ()
    normalisation: str = NORMALISATION
    data_range: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON types, without the single images; None for what is not finite."""
        left_out = {"images"} if self.views != 1 else {"images", "views"}
        plain = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in left_out
        }
        about = {name: metric.about for name, metric in METRICS.items()}
        return {name: _plain(value) for name, value in {**plain, "about": about}.items()}


def metric_scores(
    images: Sequence[ImageScores], movies: Iterable[str], metrics: Iterable[str]
) -> dict[str, MetricScores]:
    """Return every column of some metrics over images, by its name."""
    rows = {
        movie: own
        for movie in movies
        if (own := [image for image in images if image.movie == movie])
    }
    return {column.name: _column_scores(column, rows) for column in columns_of(metrics) if rows}


def _column_scores(column: Column, rows: dict[str, list[ImageScores]]) -> MetricScores:
    frames = {movie: [image.frame for image in own] for movie, own in rows.items()}

    def values(subject: str) -> dict[str, NDArray[np.float64]]:
        return {
            movie: np.array([getattr(image, subject)[column.name] for image in own])
            for movie, own in rows.items()
        }

    by_subject = {subject: values(subject) for subject in SUBJECTS}
    return MetricScores(
        label=column.label,
        better=column.better,
        digits=column.digits,
        overall=Subjects(
            **{name: summarise_movies(table, frames) for name, table in by_subject.items()}
        ),
        by_movie={
            movie: Subjects(
                **{
                    name: summarise(table[movie], frames[movie])
                    for name, table in by_subject.items()
                }
            )
            for movie in rows
        },
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

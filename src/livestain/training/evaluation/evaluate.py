"""Scores of a bundle on recorded pairs, by the same path as live, beside the controls it has to beat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from livestain.bundle.read import Bundle, read_bundle
from livestain.errors import SettingsError
from livestain.inference import Stainer
from livestain.inference.views import check_views
from livestain.metrics import frame_bootstrap, interval95
from livestain.training.evaluation.compare import Comparer, Request, what_to_compare
from livestain.training.evaluation.page import page_text
from livestain.training.evaluation.results import (
    Evaluation,
    ImageScores,
    MovieScore,
    metric_scores,
)
from livestain.training.evaluation.scores import choose_metrics
from livestain.training.evaluation.segmentation import Segmentation
from livestain.training.evaluation.sides import choose_side
from livestain.training.evaluation.table import check_place, csv_text, write_whole
from livestain.training.find import find_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["evaluate_bundle"]

Interval = tuple[float, float]


def evaluate_bundle(
    bundle: Bundle | Path | str,
    data: Path | str,
    *,
    movies: Iterable[str] | None = None,
    output: str | None = None,
    metrics: Iterable[str] | None = None,
    segmentation: Segmentation | None = None,
    split: str | None = None,
    run: Path | str | None = None,
    device: str = "auto",
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    views: int = 1,
    csv: Path | str | None = None,
    page: Path | str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare a bundle's predictions with recorded fluorescence.

    Parameters
    ----------
    bundle : Bundle, Path or str
        The model, or its folder.
    data : Path or str
        Folder of movies; see `livestain.training.find_pairs`. The channels are those that the bundle
        was trained on.
    movies : names, optional
        These alone.
    output : str, optional
        The output to compare; the first where left out.
    metrics : names, optional
        Of `livestain.training.evaluation.scores.METRICS`, and `flicker`; all where left out. Pearson is
        always among them.
    segmentation : Segmentation, optional
        How mitochondria are cut out of prediction and target.
    split : {"train", "validation", "test"}, optional
        That part alone of what the model was trained on and what was held back.
    run : Path or str, optional
        The training's folder, which says what the parts are; the bundle says it where it is by movie.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    pixel_size_um : float, optional
        Of the data, where it is not the bundle's: planes are resampled as live.
    z_step_um : float, optional
        Likewise, for models of whole stacks.
    views : {1, 8}
        With 8 each prediction is the mean over the mirrored and quarter-turned views of the planes
        (`livestain.inference.stain_views`), to see what that is worth: live runs predict once. Not for planes
        whose contrast has a direction, as that of DIC.
    csv : Path or str, optional
        File to write with the numbers of every image.
    page : Path or str, optional
        HTML file to write with tables, and the worst, median and best image of each movie.
    overwrite : bool
        Whether these files may be there already.
    progress : callable, optional
        Called with the number of pairs done and of all.

    Raises
    ------
    DataError
        If the data cannot be used.
    BundleError
        If the bundle is damaged, or does not take that pixel size.
    SettingsError
        If the bundle has no such output, there is no such metric or split, the pixel size is not greater
        than 0, the number of views is neither 1 nor 8, or a file to write is there already.
    """
    for name, option, size in (
        ("pixel size", "--pixel-size", pixel_size_um),
        ("z-step", "--z-step", z_step_um),
    ):
        if size is not None and not 0 < size < math.inf:
            raise SettingsError(
                f"The {name} {size:g} um cannot be; expected micrometres greater than 0 "
                f"({option} UM), or none for the model's own."
            )
    check_views(views)
    chosen_metrics = choose_metrics(metrics)
    csv, page = (check_place(path, overwrite=overwrite) for path in (csv, page))
    if not isinstance(bundle, Bundle):
        bundle = read_bundle(bundle)
    request = what_to_compare(bundle, output, pixel_size_um, z_step_um)
    segmentation = segmentation or Segmentation()
    with (
        find_pairs(data, request.spec) as found,
        Stainer(bundle, device=device, pixel_size_um=pixel_size_um, z_step_um=z_step_um) as stainer,
    ):
        pairs = found.select(movies)
        if split is not None:
            pairs = choose_side(pairs, split, run=run, recipe=request.recipe)
        comparer = Comparer(pairs, stainer, request, chosen_metrics, segmentation, views=views)
        done = 0
        for movie in pairs.movies:
            for _ in comparer.score(movie):
                done += 1
                if progress is not None:
                    progress(done, len(pairs.pairs))
        evaluation = _evaluation(bundle, request, comparer, stainer, pairs.sha256(), split)
        if csv is not None:
            write_whole(csv, csv_text(evaluation))
        if page is not None:
            write_whole(page, page_text(evaluation, comparer.examples()))
    return evaluation


def _evaluation(
    bundle: Bundle,
    request: Request,
    comparer: Comparer,
    stainer: Stainer,
    data_sha256: dict[str, str],
    split: str | None,
) -> Evaluation:
    resampled, tables, by_movie = [], [], {}
    images: list[ImageScores] = comparer.images
    names = [name for name in data_sha256 if any(image.movie == name for image in images)]
    for place, name in enumerate(names):
        own = [image for image in images if image.movie == name]
        table = np.array([(row.prediction["pearson"], row.control["pearson"]) for row in own])
        frames = [row.frame for row in own]
        # A movie's own interval is the same whatever other movies there are, and the same as that
        # of its replay; for the mean over movies each is drawn independently of the others.
        resampled.append(frame_bootstrap(table, frames, seed=place))
        tables.append(table)
        by_movie[name] = MovieScore(
            pearson=float(table[:, 0].mean()),
            control=float(table[:, 1].mean()),
            n=len(table),
            frames=len(set(frames)),
            trained_on=name in request.trained_on,
            **_intervals(frame_bootstrap(table, frames)),
        )
    overall = np.mean([table.mean(axis=0) for table in tables], axis=0)
    return Evaluation(
        pearson=float(overall[0]),
        control=float(overall[1]),
        **_intervals(np.mean(resampled, axis=0)),
        by_movie=by_movie,
        source=request.spec.sources[0].channel,
        output=request.output.name,
        unit=request.output.unit,
        bundle=bundle.name,
        bundle_sha256=bundle.sha256,
        device=stainer.device,
        backend=stainer.backend,
        pixel_size_um=request.spec.pixel_size_um,
        segmentation=comparer.segmentation.words(),
        data_sha256=data_sha256,
        split=split,
        views=comparer.views,
        shuffled_other_frames=comparer.other_frames,
        by_metric=metric_scores(images, names, comparer.metrics),
        stacks=metric_scores(comparer.stacks, names, comparer.stack_metrics),
        flicker=comparer.flicker,
        images=tuple(images),
    )


class _Intervals(TypedDict):
    interval: Interval
    control_interval: Interval
    gain_interval: Interval


def _intervals(means: NDArray[np.float64]) -> _Intervals:
    """Return the intervals of prediction, control and gain from resampled means (n, 2)."""
    return {
        "interval": interval95(means[:, 0]),
        "control_interval": interval95(means[:, 1]),
        "gain_interval": interval95(means[:, 0] - means[:, 1]),
    }

"""Predict every pair of a movie and put it against its target, plane by plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError, SettingsError
from livestain.inference.views import stain_views
from livestain.metrics import no_learning_control
from livestain.training.evaluation.flicker import Flicker, Series, Steps, series_of
from livestain.training.evaluation.picture import Picture, zscored
from livestain.training.evaluation.results import ImageScores
from livestain.training.evaluation.scores import columns_of, score
from livestain.training.evaluation.statistics import partners
from livestain.training.pair import ChannelSpec, PairSpec
from livestain.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from livestain.bundle.description import OutputChannel
    from livestain.bundle.read import Bundle
    from livestain.inference import Stainer
    from livestain.training.evaluation.segmentation import Segmentation
    from livestain.training.pair import Pair
    from livestain.training.pairs import Movie, PairSet

__all__ = ["Comparer", "Example", "Request", "what_to_compare"]


@dataclass(frozen=True)
class Request:
    """What of a bundle is compared with what of the data.

    Attributes
    ----------
    spec : PairSpec
        Which planes make a pair; one target.
    place : int
        Of the output among the bundle's.
    output : OutputChannel
    own_plane : int or None
        Of the window's planes, the one that the prediction is of; None where it is of all of them.
    trained_on : set of str
        Movies that the bundle was trained on or chosen by, as its recipe says.
    recipe : Recipe or None
        That travels with the bundle.
    """

    spec: PairSpec
    place: int
    output: OutputChannel
    own_plane: int | None
    trained_on: frozenset[str]
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Example:
    """One image with its scores, for people.

    Attributes
    ----------
    rank : str
        "worst", "median" or "best", by Pearson within its movie.
    scores : ImageScores
    source, prediction, target : array, (y, x)
    """

    rank: str
    scores: ImageScores
    source: NDArray[Any]
    prediction: NDArray[Any]
    target: NDArray[Any]


def what_to_compare(
    bundle: Bundle,
    output: str | None = None,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
) -> Request:
    """Return which planes of the data a bundle is compared on.

    Raises
    ------
    SettingsError
        If the bundle has no such output.
    """
    recipe = _recipe_of(bundle)
    description = bundle.description
    names = [channel.name for channel in description.outputs]
    if output is not None and output not in names:
        raise SettingsError(
            f"The bundle {bundle.name} has no output {output!r}; it has: {', '.join(names)}."
        )
    place = 0 if output is None else names.index(output)
    given = description.input
    sources: tuple[str, ...] = given.kinds
    target, required = names[place], True
    if recipe is not None:
        sources = tuple(source.channel for source in recipe.sources)
        of_output = {item.output.name: item.channel for item in recipe.targets}
        # A target that was missing here and there in training may be missing here and there now.
        required = all(item.required for item in recipe.targets if item.output.name == target)
        target = of_output.get(target, target)
    stacks = given.window.whole_stack
    return Request(
        # No flat field: what is live has none either. Networks along time predict plane by plane.
        spec=PairSpec(
            asker=f"the bundle {bundle.name}",
            sources=tuple(ChannelSpec(source) for source in sources),
            targets=(ChannelSpec(target, required),),
            window=given.window,
            pixel_size_um=given.pixel_size_um if pixel_size_um is None else pixel_size_um,
            z_step_um=given.z_step_um if z_step_um is None else z_step_um,
            z_step_tolerance=given.z_step_tolerance,
            dims=3 if stacks else 2,
        ),
        place=place,
        output=description.outputs[place],
        own_plane=None if stacks else given.window.own_plane,
        trained_on=_seen_by(recipe) if recipe is not None else frozenset(),
        recipe=recipe,
    )


def _seen_by(recipe: Recipe) -> frozenset[str]:
    """Return the movies that decided something of a model: not those that were held back."""
    movies = set(recipe.movies or ())
    split = recipe.split
    if split.by == "movie":
        chooses = recipe.selection.weights == "best" or recipe.optimiser.schedule == "plateau"
        for held in (split.test, () if chooses else split.validation):
            if isinstance(held, tuple):
                movies -= {name.removeprefix("movie-") for name in held} | set(held)
    return frozenset(movies)


def _recipe_of(bundle: Bundle) -> Recipe | None:
    """Return the recipe that travels with a bundle; None if it has none that we can read."""
    if "recipe.yaml" not in bundle.files:
        return None
    try:
        return Recipe.from_yaml(bundle.path / "recipe.yaml")
    except SettingsError:
        # A bundle made by other means may carry a recipe of its own kind, which only loses the names of
        # channels and training movies.
        return None


class Comparer:
    """Scores movies one after the other, and keeps numbers alone.

    Attributes
    ----------
    images, stacks : list of ImageScores
        Of the planes, and of whole stacks where whole stacks are predicted.
    metrics, stack_metrics : tuple of str
        Of planes, and of stacks.
    flicker : dict of str to Flicker or None
        By movie.
    other_frames : dict of str to bool
        Whether all partners of the shuffled control are of another frame, by movie.
    views : int
        Over how many views each prediction is averaged, as `stain_views` does.
    """

    def __init__(
        self,
        pairs: PairSet,
        stainer: Stainer,
        request: Request,
        metrics: tuple[str, ...],
        segmentation: Segmentation,
        *,
        views: int = 1,
    ) -> None:
        self._pairs = pairs
        self._stainer = stainer
        self._request = request
        self.metrics = metrics
        self.stack_metrics = tuple(name for name in ("pearson", "nmse") if name in metrics)
        self.segmentation = segmentation
        self.views = views
        self.images: list[ImageScores] = []
        self.stacks: list[ImageScores] = []
        self.flicker: dict[str, Flicker | None] = {}
        self.other_frames: dict[str, bool] = {}

    def score(self, movie: Movie) -> Iterator[None]:
        """Score a movie's pairs, and yield after each.

        Raises
        ------
        DataError
            If a target is constant, or cannot be read.
        """
        frames = [pair.frame for pair in movie.pairs]
        others = partners(frames)
        self.other_frames[movie.name] = all(
            other is not None and frames[other] != frame
            for other, frame in zip(others, frames, strict=True)
        )
        steps = Steps() if "flicker" in self.metrics else None
        for pair, place in zip(movie.pairs, others, strict=True):
            self._score_pair(pair, None if place is None else movie.pairs[place], steps)
            yield
        if steps is not None:
            self.flicker[movie.name] = steps.result()

    def examples(self) -> Iterator[Example]:
        """Predict the worst, the median and the best image of each movie again."""
        pairs = {(pair.movie, pair.name): pair for pair in self._pairs.pairs}
        for movie in self._pairs.movies:
            ranked = sorted(
                (image for image in self.images if image.movie == movie.name),
                key=lambda image: image.prediction["pearson"],
            )
            # Of one or two images, some ranks are the same image: the last name wins.
            places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}
            for place, rank in places.items():
                scores = ranked[place]
                source, truth = self._read(pairs[scores.movie, scores.pair])
                z = scores.z or 0
                yield Example(
                    rank=rank,
                    scores=scores,
                    source=self._own_source(source, z),
                    prediction=self._predict(source)[z],
                    target=truth.target[z],
                )

    def _score_pair(self, pair: Pair, other: Pair | None, steps: Steps | None) -> None:
        source, truth = self._read(pair)
        if truth.flat:
            raise DataError(
                f"The target of {pair.name} in movie {pair.movie} is constant "
                f"(all {truth.target[truth.present].flat[0]}), so nothing can be compared with it. "
                "Remove the pair."
            )
        predicted = self._predict(source)
        depth = len(truth.target)
        control = np.stack([no_learning_control(self._own_source(source, z)) for z in range(depth)])
        stranger = self._read(other)[1] if other is not None else None
        if stranger is not None and stranger.target.shape != truth.target.shape:
            stranger = None
        for z in np.flatnonzero(truth.present).tolist():
            # An empty plane of a stack has no contrast to compare; the others count.
            if np.ptp(truth.target[z]) > 0:
                self.images.append(
                    self._compare(
                        pair, z if depth > 1 else None, (z,), predicted, control, truth, stranger
                    )
                )
            if steps is not None:
                series = series_of(pair)
                steps.add(Series((series.key, z), series.t), predicted[z], truth.target[z])
        if depth > 1:
            planes = tuple(np.flatnonzero(truth.present).tolist())
            self.stacks.append(
                self._compare(pair, None, planes, predicted, control, truth, stranger)
            )

    def _compare(
        self,
        pair: Pair,
        z: int | None,
        planes: tuple[int, ...],
        predicted: NDArray[Any],
        control: NDArray[Any],
        truth: _Truth,
        stranger: _Truth | None,
    ) -> ImageScores:
        """Score one plane, or the given planes of a stack as one picture."""
        at: Any = planes[0] if len(planes) == 1 else list(planes)
        metrics = self.metrics if len(planes) == 1 else self.stack_metrics

        def picture(values: NDArray[Any], in_unit: NDArray[Any] | None = None) -> Picture:
            return Picture(
                values,
                self._request.spec.pixel_size_um,
                in_unit=in_unit,
                segmentation=self.segmentation,
            )

        target = picture(truth.target[at], truth.in_unit[at])
        prediction = picture(predicted[at])
        # The control has no unit: it is given the target's own mean and contrast.
        mean, std = truth.in_unit[at].mean(), truth.in_unit[at].std()
        blind = picture(control[at], zscored(control[at]) * std + mean)
        shuffled = {column.name: float("nan") for column in columns_of(metrics)}
        if stranger is not None and stranger.present[list(planes)].all():
            other = picture(stranger.target[at], stranger.in_unit[at])
            shuffled = score(prediction, other, metrics)
        return ImageScores(
            movie=pair.movie,
            pair=pair.name,
            frame=pair.frame,
            z=z,
            prediction=score(prediction, target, metrics),
            control=score(blind, target, metrics),
            shuffled=shuffled,
        )

    def _read(self, pair: Pair) -> tuple[NDArray[Any], _Truth]:
        """Return the source (sources, planes, y, x) and the target."""
        data = self._pairs.read(pair)
        target, present = data.target[0], data.present[0]
        in_unit = target.astype(np.float64)
        if self._request.output.unit == "sd":
            # What training makes of a target: the plane, or the stack, to mean 0 and std 1.
            in_unit -= in_unit[present].mean()
            std = in_unit[present].std()
            in_unit /= std if std > 0 else 1.0
        return data.source, _Truth(target, in_unit, present)

    def _predict(self, source: NDArray[Any]) -> NDArray[np.float32]:
        """Return the prediction as (planes, y, x), a single one for windows with an own plane."""
        planes = source.reshape(-1, *source.shape[2:])
        found = stain_views(self._stainer.stain, planes, self.views)
        stained: NDArray[np.float32] = found[self._request.place]
        return stained if stained.ndim == 3 else stained[None]

    def _own_source(self, source: NDArray[Any], z: int) -> NDArray[Any]:
        own = self._request.own_plane
        plane: NDArray[Any] = source[0, z if own is None else own]
        return plane


@dataclass(frozen=True)
class _Truth:
    """A pair's target, raw and in the output's unit, (planes, y, x), and which planes there are."""

    target: NDArray[Any]
    in_unit: NDArray[np.float64]
    present: NDArray[np.bool_]

    @property
    def flat(self) -> bool:
        """Whether all its pixels are equal."""
        return bool(np.ptp(self.target[self.present]) == 0)

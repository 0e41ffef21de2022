"""Scores of a bundle on recorded pairs, by the same path as live, beside the no-learning control."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from livestain.bundle.read import Bundle, read_bundle
from livestain.errors import DataError, SettingsError
from livestain.inference import Stainer
from livestain.metrics import frame_bootstrap, interval95, no_learning_control, pearson
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec
from livestain.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.training.pairs import Movie, PairSet

__all__ = ["Evaluation", "MovieScore", "evaluate_bundle"]

Interval = tuple[float, float]
"""From the 2.5th to the 97.5th percentile."""


@dataclass(frozen=True)
class MovieScore:
    """How like the truth the predictions of one movie are.

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
class Evaluation:
    """Scores of one bundle on some movies.

    Attributes
    ----------
    pearson, control : float
        Mean over movies of the mean over images, of the prediction and of the no-learning control.
    interval, control_interval, gain_interval : (float, float)
        95 % bootstrap intervals over frames, within the movies.
    by_movie : dict of str to MovieScore
    output : str
        The bundle's output that was compared.
    bundle, bundle_sha256 : str
        Which bundle.
    data_sha256 : dict of str to str
        Hash of the pixels of each movie.
    device, backend : str
        What computed.
    """

    pearson: float
    control: float
    interval: Interval
    control_interval: Interval
    gain_interval: Interval
    by_movie: dict[str, MovieScore]
    output: str
    bundle: str
    bundle_sha256: str
    device: str
    backend: str
    data_sha256: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain JSON types."""
        return asdict(self)


def evaluate_bundle(
    bundle: Bundle | Path | str,
    data: Path | str,
    *,
    movies: Iterable[str] | None = None,
    output: str | None = None,
    device: str = "auto",
    pixel_size_um: float | None = None,
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
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    pixel_size_um : float, optional
        Of the data, where it is not the bundle's: planes are resampled as live.
    progress : callable, optional
        Called with the number of images done and of all.

    Raises
    ------
    DataError
        If the data cannot be used.
    BundleError
        If the bundle is damaged, or does not take that pixel size.
    SettingsError
        If the bundle has no such output, or the pixel size is not greater than 0.
    """
    if pixel_size_um is not None and not 0 < pixel_size_um < math.inf:
        raise SettingsError(
            f"The pixel size {pixel_size_um:g} um cannot be; expected micrometres greater than 0 "
            "(--pixel-size UM), or none for the model's own."
        )
    if not isinstance(bundle, Bundle):
        bundle = read_bundle(bundle)
    recipe = _recipe_of(bundle)
    spec, place = _what_to_compare(bundle, recipe, output, pixel_size_um)
    with (
        find_pairs(data, spec) as found,
        Stainer(bundle, device=device, pixel_size_um=pixel_size_um) as stainer,
    ):
        chosen = found.select(movies)
        own_plane = bundle.description.input.window.own_plane
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, len(chosen.pairs))

        tables = {
            movie.name: _score_images(movie, chosen, stainer, place, own_plane, tick)
            for movie in chosen.movies
        }
        trained = set(recipe.movies or ()) if recipe is not None else set()
        resampled = []
        by_movie = {}
        for place_of_movie, movie in enumerate(chosen.movies):
            table = tables[movie.name]
            frames = [pair.frame for pair in movie.pairs]
            # A movie's own interval is the same whatever other movies there are, and the same as that
            # of its replay; for the mean over movies each is drawn independently of the others.
            resampled.append(frame_bootstrap(table, frames, seed=place_of_movie))
            by_movie[movie.name] = MovieScore(
                pearson=float(table[:, 0].mean()),
                control=float(table[:, 1].mean()),
                n=len(table),
                frames=len(set(frames)),
                trained_on=movie.name in trained,
                **_intervals(frame_bootstrap(table, frames)),
            )
        overall = np.mean([table.mean(axis=0) for table in tables.values()], axis=0)
        return Evaluation(
            pearson=float(overall[0]),
            control=float(overall[1]),
            **_intervals(np.mean(resampled, axis=0)),
            by_movie=by_movie,
            output=bundle.description.outputs[place].name,
            bundle=bundle.name,
            bundle_sha256=bundle.sha256,
            device=stainer.device,
            backend=stainer.backend,
            data_sha256=chosen.sha256(),
        )


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


def _what_to_compare(
    bundle: Bundle, recipe: Recipe | None, output: str | None, pixel_size_um: float | None
) -> tuple[PairSpec, int]:
    """Return which planes make a pair, and the place of the output."""
    description = bundle.description
    names = [channel.name for channel in description.outputs]
    if output is not None and output not in names:
        raise SettingsError(
            f"The bundle {bundle.name} has no output {output!r}; it has: {', '.join(names)}."
        )
    place = 0 if output is None else names.index(output)
    source: str = description.input.kind
    target = names[place]
    if recipe is not None:
        source = recipe.sources[0].channel
        of_output = {item.output.name: item.channel for item in recipe.targets}
        target = of_output.get(target, target)
    spec = PairSpec(
        asker=f"the bundle {bundle.name}",
        source=source,
        targets=(target,),
        window=description.input.window,
        pixel_size_um=(description.input.pixel_size_um if pixel_size_um is None else pixel_size_um),
        z_step_um=description.input.z_step_um,
        z_step_tolerance=description.input.z_step_tolerance,
    )
    return spec, place


def _score_images(
    movie: Movie,
    pairs: PairSet,
    stainer: Stainer,
    place: int,
    own_plane: int,
    tick: Callable[[], None],
) -> NDArray[np.float64]:
    """Return Pearson of prediction and of control, (images, 2)."""
    rows = []
    for pair in movie.pairs:
        source, (target,) = pairs.read(pair)
        if target.min() == target.max():
            raise DataError(
                f"The target of {pair.name} in movie {movie.name} is constant (all {target.flat[0]}), so "
                "nothing can be compared with it. Remove the pair."
            )
        predicted = stainer.stain(source)[place]
        control = no_learning_control(source[own_plane])
        rows.append((pearson(predicted, target), pearson(control, target)))
        tick()
    return np.array(rows, dtype=np.float64)


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

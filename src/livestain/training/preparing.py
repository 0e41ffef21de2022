"""From a recipe and a folder of data to what a training trains on, and the facts that go into its folder."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livestain.bundle import find_bundle
from livestain.errors import DataError, SettingsError
from livestain.training.bar import new_progress, tell
from livestain.training.checks import run_checks, sentences
from livestain.training.find import find_pairs
from livestain.training.pairs import PairSpec
from livestain.training.sampling import WholePairs
from livestain.training.split import split_pairs
from livestain.training.teacher import (
    TeacherPredictions,
    predict_with_teacher,
    predictions_folder,
    teachers_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from livestain.training.checks import CheckReport
    from livestain.training.pairs import PairSet
    from livestain.training.ranks import Ranks
    from livestain.training.recipe import Recipe
    from livestain.training.split import SplitPairs

__all__ = ["Prepared", "prepare"]


@dataclass
class Prepared:
    """What a training trains on.

    Attributes
    ----------
    recipe : Recipe
        Which names its movies, so that it trains the same again wherever the data has grown, has the
        statistics that its loss needs, and says whether all that it is trained on is simulated.
    train : PairSet
    validation, monitored : PairSet or None
        Looked at; the latter decides nothing.
    facts, checks : dict
        For data.json and checks.json.
    """

    recipe: Recipe
    train: PairSet
    validation: PairSet | None
    monitored: PairSet | None
    facts: dict[str, Any]
    checks: dict[str, Any]

    def teach(
        self, out: Path, where: torch.device, ranks: Ranks, *, progress: bool
    ) -> TeacherPredictions | None:
        """Return what the teachers predict of the training pairs, if the recipe has any.

        The first process lets them predict; the others wait.
        """
        if self.recipe.loss.teacher is None:
            return None
        hashes = [teacher["sha256"] for teacher in teachers_of(self.facts)]
        folder = predictions_folder(out, hashes, self.recipe.loss.teacher_views)
        if ranks.first:
            with _bar("the teacher predicts", shown=progress) as tick:
                predict_with_teacher(self.recipe, self.train, folder, device=str(where), tick=tick)
        ranks.wait()
        return TeacherPredictions(folder)


@contextmanager
def prepare(
    recipe: Recipe, data: Path | str, *, monitor: str | None, progress: bool
) -> Iterator[Prepared]:
    """Find, check and split the pairs; what was opened is closed at the end.

    Parameters
    ----------
    recipe : Recipe
    data : Path or str
        Folder of movies.
    monitor : str, optional
        A movie that is left out and looked at.
    progress : bool
        Whether to show bars, and to tell what was found.

    Raises
    ------
    DataError
        If there is no data, or it cannot be learnt from.
    SettingsError
        If the recipe's loss cannot have the statistics of the targets that it asks for.
    BundleError
        If there is no such teacher or start.
    """
    with find_pairs(data, PairSpec.of_recipe(recipe)) as found:
        chosen = found.select(
            recipe.movies, leave_out=(*recipe.leave_out, *([monitor] if monitor else []))
        )
        watched = found.select([monitor]) if monitor else None
        with _bar("checking", shown=progress) as tick:
            report = run_checks(chosen, recipe, progress=tick)
        chosen = report.pairs
        split = split_pairs(chosen, recipe)
        if progress:
            tell(*sentences(report), *([split.leaks] if split.leaks else []))
        if split.validation is not None and len(WholePairs(split.validation, recipe)) == 0:
            raise DataError(
                f"The validation data of the recipe {recipe.name} has no pair of source and target that its "
                "window fits. Choose another split.validation."
            )
        hashes = chosen.sha256()
        facts = {
            "movies": {
                movie.name: {
                    "pairs": len(movie.pairs),
                    "sha256": hashes[movie.name],
                    **({"simulated": True} if movie.simulated else {}),
                }
                for movie in chosen.movies
            },
            "left_out": sorted(set(found.names) - set(chosen.names)),
            "monitored": watched.names[0] if watched else None,
            "split": split.to_dict(),
            "start": _identity(recipe.start),
            "teacher": _identities(recipe.loss.teacher),
            "reference": report.reference_of(split.train.pairs).model_dump(mode="json"),
        }
        recipe = _as_it_was(recipe, chosen, split)
        if all(movie.simulated for movie in split.train.movies) and not recipe.card.simulated:
            if progress:
                tell(
                    "All movies to train on are simulated, so the model's card says so, and it is never "
                    "chosen for real cells by itself."
                )
            card = recipe.card.model_copy(update={"simulated": True})
            recipe = recipe.model_copy(update={"card": card})
        yield Prepared(
            recipe=_with_target_statistics(recipe, split.train, report),
            train=split.train,
            validation=split.validation,
            monitored=watched,
            facts=facts,
            checks=report.to_dict(),
        )


def _as_it_was(recipe: Recipe, chosen: PairSet, split: SplitPairs) -> Recipe:
    """Return the recipe with its movies, and with what was held back, by name."""
    update: dict[str, Any] = {"movies": chosen.names, "leave_out": ()}
    if split.by == "movie":
        held = {side: split.groups.get(side, ()) for side in ("validation", "test")}
        named = {side: names for side, names in held.items() if names}
        update["split"] = recipe.split.model_copy(update=named)
    return recipe.model_copy(update=update)


def _identity(bundle_name: str | None) -> dict[str, str] | None:
    if bundle_name is None:
        return None
    bundle = find_bundle(bundle_name)
    return {"name": bundle.name, "sha256": bundle.sha256}


def _identities(
    given: str | tuple[str, ...] | None,
) -> dict[str, str] | list[dict[str, str] | None] | None:
    """Return which bundle it is; of a list of bundles, a list."""
    if given is None or isinstance(given, str):
        return _identity(given)
    return [_identity(name) for name in given]


def _with_target_statistics(recipe: Recipe, train: PairSet, report: CheckReport) -> Recipe:
    """Fill in what the TN loss of the scope `data` needs: statistics of all normalised targets."""
    tn = recipe.loss.tn
    if recipe.loss.tn_l1 == 0 or tn.scope != "data" or tn.std is not None:
        return recipe
    found = report.target_statistics(train.pairs)
    if len(found) > 1 or found[0].std <= 0:
        raise SettingsError(
            f"The recipe {recipe.name} weights its loss by the statistics of all targets (loss.tn.scope: "
            f"data), which needs one target that is not constant; it has {len(found)}. Choose scope: plane."
        )
    filled = tn.model_copy(update=found[0]._asdict())
    return recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"tn": filled})})


@contextmanager
def _bar(words: str, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show how far something is that tells its number of steps that are done, and of all."""
    if not shown:
        yield None
        return
    with new_progress() as display:
        task = display.add_task(words, total=None, note="")
        yield lambda done, total: display.update(task, completed=done, total=total)

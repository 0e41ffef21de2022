"""The predictions of one or several teachers, from which a smaller network learns (Hinton 2015)."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.bundle import find_bundle
from livestain.bundle.fit import check_pixel_size
from livestain.errors import SettingsError
from livestain.files import replacing
from livestain.inference import Stainer, stain_views
from livestain.training.run_folder import TEACHER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle import Bundle
    from livestain.training.pairs import Pair, PairSet
    from livestain.training.recipe import Recipe

__all__ = [
    "TeacherPredictions",
    "check_teacher",
    "predict_with_teacher",
    "predictions_folder",
    "teachers_of",
]


class TeacherPredictions:
    """What the teachers predicted of each training pair, on disk, in the student's unit.

    It can be sent to other processes.

    Parameters
    ----------
    folder : Path
        Where `predict_with_teacher` wrote them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, pair: Pair) -> NDArray[np.float32]:
        """Return the prediction for a pair, (targets, depth, y, x) float32, mapped into memory."""
        array: NDArray[np.float32] = np.load(self.file(pair), mmap_mode="r")
        return array

    def file(self, pair: Pair) -> Path:
        """Return where the prediction for a pair is."""
        # Names of pairs may hold what names of files may not.
        name = hashlib.sha256(f"{pair.movie}/{pair.name}".encode()).hexdigest()[:24]
        return self.folder / f"{name}.npy"


def predict_with_teacher(
    recipe: Recipe,
    pairs: PairSet,
    folder: Path,
    *,
    device: str,
    tick: Callable[[int, int], None] | None = None,
) -> TeacherPredictions:
    """Let the recipe's teacher predict every pair; what is there already stays.

    Of several teachers the predictions are averaged, in the targets' units; before
    that each teacher's over the views that `loss.teacher_views` asks for (`stain_views`).

    Parameters
    ----------
    recipe : Recipe
        Names the teachers, and its own targets, by whose outputs' names the teachers' are chosen.
    pairs : PairSet
        What is trained on.
    folder : Path
        Where the predictions go: `predictions_folder`.
    device : str
        "cpu", "cuda" or "cuda:N".
    tick : callable, optional
        Called with the number of pairs that are done, and of all.

    Raises
    ------
    BundleError
        If there is no such teacher, or it is damaged.
    SettingsError
        If it does not predict what the recipe's targets are, or looks at other planes.
    """
    bundles = _teachers(recipe)
    predictions = TeacherPredictions(folder)
    with ExitStack() as stack:
        teachers = []
        for bundle in bundles:
            stainer = Stainer(bundle, device=device, pixel_size_um=recipe.pixel_size_um)
            teachers.append(_Teacher(stack.enter_context(stainer), recipe))
        folder.mkdir(parents=True, exist_ok=True)
        for number, pair in enumerate(pairs.pairs, start=1):
            file = predictions.file(pair)
            if not file.is_file():
                source = pairs.read(pair).source
                # Corrected and resampled planes are no whole counts any more; a teacher takes such.
                if source.dtype not in (np.uint8, np.uint16):
                    source = source.round().clip(0, 65535).astype(np.uint16)
                whole = teachers[0].predict(source)
                for teacher in teachers[1:]:
                    whole += teacher.predict(source)
                whole /= np.float32(len(teachers))
                with replacing(file) as part, part.open("wb") as opened:
                    np.save(opened, whole)
            if tick is not None:
                tick(number, len(pairs.pairs))
    return predictions


def predictions_folder(run: Path, teachers: Sequence[str], views: int) -> Path:
    """Return where a run keeps what its teachers predict; another one for other teachers and views.

    One teacher that looks once has the folder `teacher` of the run, whose data.json names it.

    Parameters
    ----------
    run : Path
        The training's folder.
    teachers : sequence of str
        SHA-256 of each teacher, in the recipe's order.
    views : int
        As `loss.teacher_views`.
    """
    if len(teachers) == 1 and views == 1:
        return run / TEACHER
    words = " ".join([*teachers, str(views)])
    return run / f"{TEACHER}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def teachers_of(data: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return name and SHA-256 of the teachers that a run's data.json names: one alone, a list, or none."""
    named = data.get("teacher") or []
    return [named] if isinstance(named, dict) else named


def check_teacher(recipe: Recipe) -> None:
    """Refuse teachers that cannot teach what the recipe trains, before anything is read or written.

    Raises
    ------
    BundleError, SettingsError
        As `predict_with_teacher`.
    """
    for bundle in _teachers(recipe):
        check_pixel_size(bundle.description, recipe.pixel_size_um)
        _outputs(recipe, bundle)
        _planes(recipe, bundle)


class _Teacher:
    """One of the teachers, opened.

    Parameters
    ----------
    stainer : Stainer
        Stays the caller's, who closes it.
    recipe : Recipe
        What is to be taught.
    """

    def __init__(self, stainer: Stainer, recipe: Recipe) -> None:
        self._stainer = stainer
        self._chosen = _outputs(recipe, stainer.bundle)
        self._planes_of = _planes(recipe, stainer.bundle)
        self._views = recipe.loss.teacher_views

    def predict(self, source: NDArray[Any]) -> NDArray[np.float32]:
        """Return what it predicts of a pair's source (sources, planes, y, x): (targets, depth, y, x), new."""
        found = [
            stain_views(self._stainer.stain, planes, self._views)[self._chosen]
            for planes in self._planes_of(source)
        ]
        whole = found[0] if found[0].ndim == 4 else np.stack(found, axis=1)
        return np.ascontiguousarray(whole, dtype=np.float32)


def _teachers(recipe: Recipe) -> list[Bundle]:
    """Return the bundles that teach.

    Raises
    ------
    BundleError
        If there is no such bundle.
    SettingsError
        If one is named twice, also by another name: it would count twice.
    """
    found: dict[str, str] = {}
    bundles = []
    for name in recipe.loss.teachers:
        bundle = find_bundle(name)
        if bundle.sha256 in found:
            raise SettingsError(
                f"The teachers {found[bundle.sha256]} and {name} of the recipe {recipe.name} are the same "
                "bundle. Name each once."
            )
        found[bundle.sha256] = name
        bundles.append(bundle)
    return bundles


def _outputs(recipe: Recipe, bundle: Bundle) -> list[int]:
    """Return the places of the recipe's targets among the teacher's outputs."""
    outputs = {output.name: output for output in bundle.description.outputs}
    for target in recipe.targets:
        name, unit = target.output.name, target.output.unit
        if name not in outputs or outputs[name].unit != unit:
            told = ", ".join(f"{o.name} in {o.unit}" for o in outputs.values())
            raise SettingsError(
                f"The teacher {bundle.name} predicts {told}; the recipe {recipe.name} needs {name} in "
                f"{unit}. Choose another teacher, or name the outputs alike."
            )
    return [bundle.description.output_index(target.output.name) for target in recipe.targets]


def _planes(recipe: Recipe, bundle: Bundle) -> Callable[[NDArray[Any]], list[NDArray[Any]]]:
    """Return the function that cuts a pair's source, (sources, planes, y, x), into the teacher's inputs."""
    theirs, ours = bundle.description.input.window, recipe.window
    if recipe.dims == 3 and theirs.z == "all":
        return lambda source: [source.reshape(-1, *source.shape[2:])]
    if recipe.dims == 3 and theirs.n_planes == 1:
        return lambda source: [source[:, plane] for plane in range(source.shape[1])]
    if recipe.dims == 2 and theirs.model_dump() == ours.model_dump():
        return lambda source: [source.reshape(-1, *source.shape[2:])]
    if recipe.dims == 2 and theirs.n_planes == 1 and theirs.z != "all":
        return lambda source: [source[:, ours.own_plane]]
    raise SettingsError(
        f"The teacher {bundle.name} looks at other planes than the recipe {recipe.name} gives. Expected one "
        "of the same window, of a single plane, or of whole stacks for a 3-D network."
    )

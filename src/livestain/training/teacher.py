"""The predictions of a teacher, from which a smaller network learns (Hinton 2015)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.bundle import find_bundle
from livestain.bundle.fit import check_pixel_size
from livestain.errors import SettingsError
from livestain.files import replacing
from livestain.inference import Stainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle import Bundle
    from livestain.training.pairs import Pair, PairSet
    from livestain.training.recipe import Recipe

__all__ = ["TeacherPredictions", "check_teacher", "predict_with_teacher"]


class TeacherPredictions:
    """What a teacher predicted of each training pair, on disk, in the student's unit.

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
    """Let the recipe's teacher predict every pair once; what is there already stays.

    Parameters
    ----------
    recipe : Recipe
        Names the teacher, and its own targets, by whose outputs' names the teacher's are chosen.
    pairs : PairSet
        What is trained on.
    folder : Path
        Where the predictions go.
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
    assert recipe.loss.teacher is not None  # noqa: S101 - asked for where the loss distils
    bundle = find_bundle(recipe.loss.teacher)
    chosen, planes_of = _outputs(recipe, bundle), _planes(recipe, bundle)
    predictions = TeacherPredictions(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with Stainer(bundle, device=device, pixel_size_um=recipe.pixel_size_um) as stainer:
        for number, pair in enumerate(pairs.pairs, start=1):
            file = predictions.file(pair)
            if not file.is_file():
                source = pairs.read(pair).source
                # Corrected and resampled planes are no whole counts any more; a teacher takes such.
                if source.dtype not in (np.uint8, np.uint16):
                    source = source.round().clip(0, 65535).astype(np.uint16)
                found = [stainer.stain(planes)[chosen] for planes in planes_of(source)]
                whole = found[0] if found[0].ndim == 4 else np.stack(found, axis=1)
                with replacing(file) as part, part.open("wb") as opened:
                    np.save(opened, np.ascontiguousarray(whole, dtype=np.float32))
            if tick is not None:
                tick(number, len(pairs.pairs))
    return predictions


def check_teacher(recipe: Recipe) -> None:
    """Refuse a teacher that cannot teach what the recipe trains, before anything is read or written.

    Raises
    ------
    BundleError, SettingsError
        As `predict_with_teacher`.
    """
    if recipe.loss.teacher is not None:
        bundle = find_bundle(recipe.loss.teacher)
        check_pixel_size(bundle.description, recipe.pixel_size_um)
        _outputs(recipe, bundle)
        _planes(recipe, bundle)


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

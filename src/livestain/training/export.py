"""From a finished training to a bundle that stains live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livestain.bundle.description import BundleDescription, InputSpec
from livestain.bundle.write import write_bundle
from livestain.errors import DataError, SettingsError
from livestain.simulate import Dish
from livestain.training.card import read_scores, write_card
from livestain.training.module import build_from_recipe
from livestain.training.run_folder import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle.read import Bundle
    from livestain.training.recipe import Recipe

__all__ = ["export_run", "simulated_planes"]

_TEST_SEED = 900
"""Dish of the test tensors: neither trained on nor shown by the demo."""

_TEST_SIDE = 128
"""Least side of the test tensors, in pixels."""


def export_run(
    run: Path | str,
    out: Path | str,
    *,
    name: str | None = None,
    title: str | None = None,
    licence: str | None = None,
    authors: Sequence[str] = (),
    scores: Sequence[Path | str] = (),
    onnx: bool = True,
    overwrite: bool = False,
) -> Bundle:
    """Write the averaged weights of a training as a bundle, with its card.

    Parameters
    ----------
    run : Path or str
        Folder of a finished training.
    out : Path or str
        Folder to write.
    name, title, licence : str, optional
        Instead of the recipe's. A licence must be known: that of the data decides.
    authors : sequence of str
        Instead of the recipe's, if any.
    scores : sequence of Path or str
        Files with what `livestain evaluate --json` printed of models that had not seen the movie.
    onnx : bool
        Whether to write weights.onnx too.
    overwrite : bool
        Whether to replace a bundle in that folder.

    Raises
    ------
    DataError
        If `run` is no finished training, or a file holds no scores.
    SettingsError
        If no licence is given.
    BundleError
        If the bundle cannot be written.
    """
    folder = read_run(run)
    recipe = folder.recipe
    name = name or recipe.card.name or recipe.name
    title = title or recipe.card.title or f"{name} by livestain"
    licence = licence or recipe.card.licence
    if licence is None:
        raise SettingsError(
            f"The model of {folder.path} needs a licence, and the recipe names none. Give an SPDX identifier "
            "that the licence of the data allows, such as --licence CC-BY-4.0."
        )
    network = build_from_recipe(recipe)
    try:
        network.load_state_dict(folder.weights())
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The weights in {folder.path} do not fit its recipe: {' '.join(str(error).split())[:200]}. "
            "Train again."
        ) from error
    description = BundleDescription(
        input=InputSpec(
            kind=recipe.sources[0].kind,
            pixel_size_um=recipe.pixel_size_um,
            pixel_size_range_um=recipe.pixel_size_range_um,
            z_step_um=recipe.z_step_um,
            window=recipe.window,
        ),
        normalisation=recipe.normalisation,
        outputs=tuple(target.output for target in recipe.targets),
        network=recipe.network_spec(),
        simulated=recipe.card.simulated,
        reference=folder.reference(),
    )
    return write_bundle(
        out,
        network=network.eval(),
        description=description,
        name=name,
        title=title,
        licence=licence,
        authors=tuple(authors) or recipe.card.authors,
        card=write_card(folder, title=title, licence=licence, scores=read_scores(scores)),
        test_input=simulated_planes(recipe, divisor=int(getattr(network, "divisor", 1))),
        recipe_yaml=recipe.to_yaml(),
        onnx=onnx,
        overwrite=overwrite,
    )


def simulated_planes(recipe: Recipe, *, divisor: int) -> NDArray[np.uint16]:
    """Return planes of the simulated dish that the recipe's network can take: uint16, (planes, y, x)."""
    side = -(-_TEST_SIDE // divisor) * divisor
    dish = Dish(_TEST_SEED, shape=(side, side), pixel_size_um=recipe.pixel_size_um)
    see = dish.fluorescence if recipe.sources[0].kind == "fluorescence" else dish.brightfield
    window = recipe.window
    z_step_um = recipe.z_step_um or 0.0
    times = window.past + 1 + window.future
    planes = [
        see(time_s=10.0 * t, z_um=(z - window.n_z // 2) * z_step_um, frame=t * window.n_z + z)
        for t in range(times)
        for z in range(window.n_z)
    ]
    return np.stack(planes)

"""From a finished training to a bundle that stains live."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from livestain.bundle.description import BundleDescription, InputSpec, OutputChannel
from livestain.bundle.write import check_bundle_folder, write_bundle
from livestain.errors import DataError, SettingsError
from livestain.settings import describe_validation_error
from livestain.simulate import Dish
from livestain.training.card import read_scores, write_card
from livestain.training.module import build_from_recipe
from livestain.training.quantise import PEARSON_BOUND, examples_of, quantise
from livestain.training.recalibrate import recalibrate
from livestain.training.run_folder import read_run
from livestain.training.split import split_pairs
from livestain.training.trained_on import pairs_trained_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from livestain.bundle.description import Int8, ReferenceStatistics
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle
    from livestain.bundle.write import Quantise
    from livestain.training.pairs import PairSet
    from livestain.training.recipe import Recipe

__all__ = ["describe", "export_run", "simulated_planes"]

_TEST_SEED = 900
"""Dish of the test tensors: neither trained on nor shown by the demo."""

_TEST_SIDE = {2: 128, 3: 64}
"""Least side of the test tensors, in pixels, by the network's dimensions."""

_TEST_DEPTH = 8
"""Least depth of the test tensors of whole stacks, in planes."""


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
    recalibrate_on: Path | str | None = None,
    int8: Path | str | None = None,
    int8_bound: float = PEARSON_BOUND,
    tell: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the result of a training as a bundle, with its card.

    Of adversarial and cycle trainings it is the generator alone that stains.

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
    recalibrate_on : Path or str, optional
        Folder of the data that was trained on: the statistics of the network's batch normalisation are
        computed again over crops of it.
    int8 : Path or str, optional
        Folder of the data that was trained on: the network is calibrated on two thirds of its pairs (48 at
        most) and written in 8-bit integers too, if that costs little on the others.
    int8_bound : float
        The Pearson correlation that it may cost.
    tell : callable, optional
        Called with a sentence on what int8 costs.
    tick : callable, optional
        Called with the number of batches that the recalibration has done, and of all.
    overwrite : bool
        Whether to replace a bundle in that folder.

    Raises
    ------
    DataError
        If `run` is no finished training, a file holds no scores, or what is given to recalibrate or
        quantise on is not the data trained on.
    SettingsError
        If no licence is given, or the network has nothing to recalibrate.
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
    # What is refused cheaply comes before what takes minutes.
    check_bundle_folder(out, overwrite=overwrite)
    known = read_scores(scores)
    description = describe(recipe, folder.reference())
    network = build_from_recipe(recipe)
    try:
        network.load_state_dict(folder.weights())
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The weights in {folder.path} do not fit its recipe: {' '.join(str(error).split())[:200]}. "
            "Train again."
        ) from error
    with ExitStack() as opened:
        quantised = None
        if int8 is not None:
            _check_int8(recipe, int8_bound)
            examples = opened.enter_context(pairs_trained_on(folder, int8, otherwise="int8"))
            quantised = _quantise_on(
                examples, recipe, bound=int8_bound, tell=tell or (lambda _: None)
            )
        recalibrated = 0
        if recalibrate_on is not None:
            with pairs_trained_on(folder, recalibrate_on, otherwise="recalibration") as pairs:
                train = split_pairs(pairs, recipe).train
                recalibrated = recalibrate(network, train, recipe, tick=tick)
        return write_bundle(
            out,
            network=network.eval(),
            description=description,
            name=name,
            title=title,
            licence=licence,
            authors=tuple(authors) or recipe.card.authors,
            card=write_card(
                folder,
                title=title,
                licence=licence,
                scores=known,
                parameters=sum(weight.numel() for weight in network.parameters()),
                recalibrated=recalibrated,
            ),
            test_input=simulated_planes(recipe, network),
            recipe_yaml=recipe.to_yaml(),
            onnx=onnx,
            quantise=quantised,
            overwrite=overwrite,
        )


def _check_int8(recipe: Recipe, bound: float) -> None:
    if recipe.normalisation.kind == "running":
        raise SettingsError(
            f"The recipe {recipe.name} normalises by earlier time points, for which int8 is not calibrated. "
            "Export without int8."
        )
    if not 0 < bound < 1:
        raise SettingsError(
            f"The bound of int8 is {bound:g}; expected a loss of Pearson between 0 and 1."
        )


def _quantise_on(
    pairs: PairSet, recipe: Recipe, *, bound: float, tell: Callable[[str], None]
) -> Quantise:
    """Return what quantises a network on pairs that it was trained on, which stay open until then."""
    stacks = recipe.dims == 3 and recipe.window.whole_stack
    examples = examples_of(pairs, whole_stack=stacks)  # refuses too few

    def made(
        onnx: bytes, module: StainModule, test: tuple[NDArray[np.uint16], NDArray[np.float32]]
    ) -> tuple[bytes, Int8] | None:
        result = quantise(onnx, module, examples, test, bound=bound)
        tell(result.words)
        return result.made

    return made


def describe(recipe: Recipe, reference: ReferenceStatistics | None = None) -> BundleDescription:
    """Return what live staining needs to know of a recipe's model.

    Raises
    ------
    SettingsError
        If no model of that kind can be deployed.
    """
    first, *more = (source.kind for source in recipe.sources)
    outputs = tuple(target.output for target in recipe.targets)
    if recipe.loss.predicts_spread:
        outputs += tuple(_spread_of(output) for output in outputs)
    try:
        return BundleDescription(
            input=InputSpec(
                kind=first,
                more_kinds=tuple(more),
                pixel_size_um=recipe.pixel_size_um,
                pixel_size_range_um=recipe.pixel_size_range_um,
                z_step_um=recipe.z_step_um,
                z_step_range_um=recipe.z_step_range_um,
                window=recipe.window,
            ),
            normalisation=recipe.normalisation,
            outputs=outputs,
            network=recipe.network_spec(),
            simulated=recipe.card.simulated,
            reference=reference,
        )
    except ValidationError as error:
        raise SettingsError(
            f"The recipe {recipe.name} makes no model that can be deployed: "
            f"{describe_validation_error(error, BundleDescription)}. Change the recipe."
        ) from error


def _spread_of(output: OutputChannel) -> OutputChannel:
    """Return the channel of an output's predicted spread: never negative, so it needs no offset."""
    black, white = output.display
    return OutputChannel(
        name=f"{output.name}-spread",
        unit=output.unit,
        scale=output.scale,
        display=(0.0, (white - black) / 2),
        color=output.color,
        spread_of=output.name,
    )


def simulated_planes(recipe: Recipe, network: nn.Module) -> NDArray[np.uint16]:
    """Return planes of the simulated dish that the recipe's network can take.

    Sides, and the depth of whole stacks, are at least twice the network's divisors: torch.export takes
    an axis that shrinks to 1 for a constant.

    Parameters
    ----------
    recipe : Recipe
        Says what is looked at: source channels, window, pixel size, z-step.
    network : nn.Module
        Its network.

    Returns
    -------
    array of uint16, (sources * planes, y, x)
        Source by source; of each time-major, then z, as `Window.sources` has them.
    """
    divisor, divisor_z = (int(getattr(network, name, 1)) for name in ("divisor", "divisor_z"))
    side = _multiple(max(_TEST_SIDE[recipe.dims], 2 * divisor), divisor)
    dish = Dish(_TEST_SEED, shape=(side, side), pixel_size_um=recipe.pixel_size_um)
    window = recipe.window
    n_z = window.n_z
    if window.whole_stack and window.depth is None:
        n_z = _multiple(max(_TEST_DEPTH, 2 * divisor_z), divisor_z)
    n_t = window.past + 1 + window.future
    z_step_um = recipe.z_step_um or 0.0
    planes = []
    for number, source in enumerate(recipe.sources):
        see = dish.fluorescence if source.kind == "fluorescence" else dish.brightfield
        planes += [
            see(
                time_s=10.0 * t,
                z_um=(z - n_z // 2) * z_step_um,
                frame=(number * n_t + t) * n_z + z,  # seeds the camera's noise
            )
            for t in range(n_t)
            for z in range(n_z)
        ]
    return np.stack(planes)


def _multiple(least: int, divisor: int) -> int:
    return -(-least // divisor) * divisor

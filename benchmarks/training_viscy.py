"""Samples per second of `livestain train`'s loop against viscy's own.

    pip install viscy==0.4.1 umap-learn     # in an environment of its own, beside livestain[train]
    python benchmarks/training_viscy.py --threads 1
    python benchmarks/training_viscy.py --networks slim2d --sides 1024 --loaders 0 1 --repeats 5

As training.py: the same pixels, network, patch, batch, loss and kind of optimiser in one process,
interleaved, a ratio always of two runs of the same repeat. viscy's loop is its `HCSDataModule` on an OME-Zarr
plate made with iohub, with the normalisation that `preprocess` wrote and transforms that do what the recipe's
augmentation does; its `VSUNet`, whose network is ours behind an adapter of one plane; its `VisCyTrainer`.
The network `none` stands for what feeds the network alone. `DIFFERENCES` says what differs.

Not part of training.py, since viscy needs packages that livestain does without. Results go to
results/training-viscy.json.
"""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from livestain.training.augment import Augment
from livestain.training.module import build_from_recipe
from livestain.training.order import Order
from livestain.training.ranks import Ranks
from livestain.training.schedule import autocast_dtype
from training import (
    RESULTS,
    SKIPPED,
    Clock,
    Loop,
    a_recipe,
    about,
    begin,
    livestain_loop,
    make_data,
    measure,
    parser,
    ratios,
    told,
    write,
)

if TYPE_CHECKING:
    import argparse

    from livestain.training.recipe import Recipe
    from livestain.training.sampling import Crops

VISCY = "0.4.1"
SOURCE, TARGET = "brightfield", "mitochondria"

NO_NETWORK = "none"
"""Stands for batches alone: loaded, cropped, augmented, given to nobody."""

DIFFERENCES = """
viscy's epoch is longer than the run, by time points that repeat the pixels: what its end costs (validation, a
grid of images, a checkpoint) is not counted. livestain's counted steps include the running average of the
weights, and its log every tenth step.
viscy reads a whole plane of each channel from the plate for every `patches_per_stack` patches, and normalises
it before it crops. livestain keeps planes in memory, up to 1 GiB, and draws a plane for every patch.
viscy draws patches by the target's intensity (RandWeightedCropd, as in its examples), livestain evenly. viscy
mirrors in y and x; livestain also transposes. Gain and noise are alike.
livestain clips the gradient and its AdamW is fused; viscy does neither, as it comes.
livestain holds weights and planes in channels_last. VSUNet does not; `viscy, channels last` is its loop with
a network that does so by itself.
viscy is without progress bar, checkpoints and the graph in TensorBoard; its loss goes to TensorBoard every
tenth step, as in its examples. float32 throughout.
"""


def main() -> None:
    arguments = parse()
    need_viscy()
    result = {
        "differences": " ".join(DIFFERENCES.split()),
        "remarks": arguments.remark,
        "cases": [],
    }
    if arguments.add:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    for side in arguments.sides:
        with tempfile.TemporaryDirectory(prefix="livestain-bench-") as scratch:
            data, plate = Path(scratch) / "data", Path(scratch) / "plate.zarr"
            make_data(data, side)
            make_plate(data, plate, stacks=stacks_needed(arguments))
            for network, loaders in product(arguments.networks, arguments.loaders):
                case = {"network": network, "side_of_the_images": side, "loaders": loaders}
                if network != NO_NETWORK:
                    arguments.network = network
                recipe = a_recipe(arguments).model_copy(
                    update={"name": network, "loaders": loaders}
                )
                case |= compare(recipe, plate, data, arguments)
                result["cases"].append(case)
                write(result, arguments.out)


def compare(
    recipe: Recipe, plate: Path, data: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Run livestain's loop and viscy's, or what feeds them alone."""
    device = begin(arguments)
    patches = arguments.patches_per_stack
    ways: dict[str, Loop]
    if recipe.name == NO_NETWORK:
        ways = {"livestain": livestain_batches, "viscy": partial(viscy_batches, plate, patches)}
    else:
        loop = partial(viscy_loop, plate, patches)
        ways = {
            "livestain": livestain_loop,
            "viscy": partial(loop, channels_last=False),
            "viscy, channels last": partial(loop, channels_last=True),
        }
    runs = measure(recipe, ways, data, device, arguments)
    found = {f"livestain / {way}": ratios(runs, way) for way in list(ways)[1:]}
    print(recipe.name, json.dumps(found, indent=2), flush=True)
    return {
        **found,
        **about(device),
        "viscy": {p: version(p) for p in ("viscy", "monai", "iohub", "zarr")},
        "threads": torch.get_num_threads(),
        "steps": arguments.steps,
        "skipped_steps": SKIPPED,
        "patches_per_stack": patches,
        "recipe": told(recipe),
        "runs": runs,
    }


def parse() -> argparse.Namespace:
    own = parser()
    own.description = (__doc__ or "").splitlines()[0]
    own.set_defaults(out=RESULTS / "training-viscy.json")
    own.add_argument("--networks", nargs="+", default=["unet2d", "slim2d", NO_NETWORK])
    own.add_argument("--sides", nargs="+", type=int, default=[256, 1024])
    own.add_argument("--loaders", nargs="+", type=int, default=[0])
    own.add_argument("--patches-per-stack", type=int, default=4)
    own.add_argument("--add", action="store_true", help="to the cases in the file")
    own.add_argument("--remark", action="append", default=[], help="goes into the results")
    return own.parse_args()


def need_viscy() -> None:
    """Say what is missing, and in what environment to look for it."""
    try:
        import_module("viscy.trainer")
        import_module("viscy.translation.engine")
        found = version("viscy")
    except ImportError as error:
        raise SystemExit(
            f"This benchmark measures against viscy {VISCY}, which cannot be imported here: {error}. Run "
            f"`pip install viscy=={VISCY} umap-learn` in an environment of its own, beside livestain[train], "
            "and call this script with that environment's python."
        ) from error
    if found != VISCY:
        warnings.warn(f"written for viscy {VISCY}; this is {found}", stacklevel=2)


def stacks_needed(arguments: argparse.Namespace) -> int:
    """Return how many stacks make an epoch longer than a run, with what loaders read ahead."""
    patches = (arguments.steps + 10) * arguments.batch_size
    return int(-(-patches // arguments.patches_per_stack))


def make_plate(data: Path, plate: Path, stacks: int) -> None:
    """Write the pairs of a folder as an HCS plate: a well for each movie, a field of view for each pair.

    Each field of view repeats its planes over time, so that an epoch has enough stacks.
    """
    iohub: Any = import_module("iohub")
    pairs = [
        (movie, path)
        for movie in sorted(data.iterdir())
        for path in sorted((movie / SOURCE).iterdir())
    ]
    # One field of view is left to the validation data that HCSDataModule insists on.
    times = math.ceil(stacks / (len(pairs) - 1))
    with iohub.open_ome_zarr(
        plate, layout="hcs", mode="w", channel_names=[SOURCE, TARGET]
    ) as store:
        for number, (movie, path) in enumerate(pairs):
            planes = [np.asarray(Image.open(movie / c / path.name)) for c in (SOURCE, TARGET)]
            image = np.stack(planes)[None, :, None].repeat(times, axis=0)
            place = store.create_position("A", movie.name[-1], str(number))
            place.create_image("0", image)
    trainer: Any = import_module("viscy.trainer")
    trainer.VisCyTrainer(logger=False, enable_checkpointing=False).preprocess(plate)


def viscy_loop(
    plate: Path,
    patches: int,
    recipe: Recipe,
    crops: Crops,
    out: Path,
    clock: Clock,
    *,
    channels_last: bool,
) -> None:
    """Make the steps with viscy's data module, Lightning module and trainer; `crops` are not used."""
    engine: Any = import_module("viscy.translation.engine")
    trainers: Any = import_module("viscy.trainer")
    torch.manual_seed(recipe.seed)
    module = engine.VSUNet(architecture="2D", lr=recipe.optimiser.learning_rate)
    module.model = OnePlane(build_from_recipe(recipe), channels_last=channels_last)
    precisions = {None: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}
    trainer = trainers.VisCyTrainer(
        accelerator="gpu" if clock.device.type == "cuda" else "cpu",
        devices=1,
        precision=precisions[autocast_dtype(recipe, clock.device)],
        logger=TensorBoardLogger(save_dir=out, log_graph=False),
        log_every_n_steps=10,
        callbacks=[clock],
        max_epochs=1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule=viscy_data(plate, patches, recipe, clock.device))


def viscy_data(plate: Path, patches: int, recipe: Recipe, device: torch.device) -> Any:
    """Return viscy's data module, with transforms that do what the recipe says."""
    hcs: Any = import_module("viscy.data.hcs")
    transforms: Any = import_module("viscy.transforms")
    both, side = [SOURCE, TARGET], recipe.crop
    does = recipe.augmentation
    changes = [
        transforms.RandWeightedCropd(
            keys=both, w_key=TARGET, spatial_size=(1, side, side), num_samples=patches
        )
    ]
    if does.flip:
        changes += [transforms.RandFlipd(keys=both, prob=0.5, spatial_axis=axis) for axis in (1, 2)]
    if does.gain != (1.0, 1.0):
        factors = (does.gain[0] - 1, does.gain[1] - 1)
        changes.append(transforms.RandScaleIntensityd(keys=[SOURCE], factors=factors, prob=1.0))
    if does.noise > 0:
        # As livestain's: its standard deviation is drawn anew for each sample, between 0 and this.
        changes.append(
            transforms.RandGaussianNoised(keys=[SOURCE], prob=1.0, mean=0.0, std=does.noise)
        )
    return hcs.HCSDataModule(
        data_path=str(plate),
        source_channel=SOURCE,
        target_channel=TARGET,
        z_window_size=1,
        split_ratio=0.95,
        batch_size=recipe.batch_size,
        num_workers=recipe.loaders,
        yx_patch_size=(side, side),
        normalizations=[transforms.NormalizeSampled(keys=both, level="fov_statistics")],
        augmentations=changes,
        persistent_workers=recipe.loaders > 0,
        pin_memory=device.type == "cuda",
    )


def livestain_batches(recipe: Recipe, crops: Crops, out: Path, clock: Clock) -> None:
    """Make livestain's batches, as `fit` does, and augment them."""
    loader: DataLoader[Any] = DataLoader(
        crops,
        batch_sampler=Order(0, recipe.steps, recipe.batch_size, Ranks()),
        num_workers=recipe.loaders,
        multiprocessing_context="spawn" if recipe.loaders else None,
    )
    augment = Augment(recipe.augmentation, recipe.seed)
    for step, batch in enumerate(loader, start=1):
        augment(batch, (step - 1) * recipe.batch_size)
        if step == SKIPPED:
            clock.begin()
        if step == clock.steps:
            clock.end()
            break


def viscy_batches(
    plate: Path, patches: int, recipe: Recipe, crops: Crops, out: Path, clock: Clock
) -> None:
    """Make viscy's batches; its transforms are in the data set."""
    module = viscy_data(plate, patches, recipe, clock.device)
    module.setup("fit")
    for step, _ in enumerate(module.train_dataloader(), start=1):
        if step == SKIPPED:
            clock.begin()
        if step == clock.steps:
            clock.end()
            break


class OnePlane(nn.Module):
    """A network of planes as viscy calls it, with planes of a stack of one: (n, c, 1, y, x)."""

    def __init__(self, network: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        movable: Any = network
        self.network: nn.Module = movable.to(memory_format=self.format)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict (n, c, 1, y, x)."""
        y: torch.Tensor = self.network(x[:, :, 0].contiguous(memory_format=self.format))
        return y[:, :, None]


if __name__ == "__main__":
    main()

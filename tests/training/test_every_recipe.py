"""Every recipe of ours trains, is exported and stains live; docs/recipes.md says which data it takes.

The table is what this test found, not what somebody believes: ``LIVESTAIN_WRITE_DOCS=1 pytest
tests/training/test_every_recipe.py`` writes it again.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
import useq
from scipy.ndimage import gaussian_filter
from torch.utils.data import default_collate

from livestain.errors import SettingsError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.networks import build_network
from livestain.planes import PlaneIndex
from livestain.store import open_store
from livestain.training import Recipe, export_run, find_pairs, recipe_names, train
from livestain.training.losses.total import RecipeLoss
from livestain.training.module import build_from_recipe
from livestain.training.pair import PairSpec
from livestain.training.recipe import find_recipe
from livestain.training.sampling import Crops

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = Path(__file__).parents[2] / "docs" / "recipes.md"

CHANNELS = ("brightfield", "mitochondria", "dna", "label-1", "label-2")

SMALL: dict[str, dict[str, Any]] = {
    "care2d": {"width": 4, "depth": 1},
    "care3d": {"width": 4, "depth": 1},
    "fnet2d": {"width": 4, "depth": 2},
    "fnet3d": {"width": 4, "depth": 2},
    "gvtnet2d": {"width": 4, "depth": 2},
    "gvtnet3d": {"width": 4, "depth": 2},
    "hsu_unet": {"width": 4, "depth": 2},
    "pix2pix_unet256": {"width": 4, "depth": 4},
    "resnet9": {"width": 4, "blocks": 1},
    "slim2d": {"width": 8, "depth": 1},
    "unet2d": {"width": 4, "depth": 2},
    "unet3d": {"width": 4, "depth": 2},
    "unext2": {"width": 8, "depths": [1, 1, 1, 1], "head_width": 8},
}
"""The same architectures, small enough for a test."""

KINDS: dict[str, dict[str, Any]] = {
    "2-D": {"window": {"z": 1}, "depth_axis": "z"},
    "2.5-D": {"window": {"z": 3}, "depth_axis": "z", "z_step_um": 0.5},
    "3-D": {"window": {"z": "all"}, "depth_axis": "z", "z_step_um": 0.5},
    "XYT": {"window": {"past": 1, "future": 1}, "depth_axis": "t"},
}
"""Single planes, a few planes for one, whole stacks, time beside or as the third dimension."""


def in_small(name: str, teacher: Path) -> Recipe:
    """Return a recipe of ours with a small network, small crops and two steps; else as it is."""
    values = Recipe.from_yaml(find_recipe(name)).model_dump(mode="json")
    xyt = values["window"]["past"] > 0
    values |= {
        "network": {"name": values["network"]["name"], "kwargs": SMALL[values["network"]["name"]]},
        "window": {"past": 1, "future": 1} if xyt else values["window"],
        "pixel_size_um": 0.1,
        "pixel_size_range_um": [0.08, 0.12],
        "z_step_um": values["z_step_um"] and 0.5,
        "crop": 64,
        "crop_depth": 4,
        "batch_size": 2,
        "steps": 2,
        "precision": "fp32",
        "start": None,
    }
    values["card"]["licence"] = "BSD-3-Clause"
    values["checks"]["registration"] = "off"
    values["loss"]["ssim"]["scales"] = 2
    if values["loss"]["teacher"]:
        values["loss"]["teacher"] = str(teacher)
    for rival in (values["adversarial"], (values["cycle"] or {}).get("adversarial")):
        if rival:
            rival["discriminator"]["kwargs"] = {"width": 4}
    if values["split"]["validation"]:
        values["split"]["validation"] = 0.25
    return Recipe.parse(values, where=name)


def needs(recipe: Recipe) -> str:
    """Return the kind of data that a recipe is written for."""
    window = recipe.window
    if window.z == "all":
        return "3-D"
    if window.past or window.future:
        return "XYT"
    return "2.5-D" if window.n_z > 1 else "2-D"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two movies of every channel: 3 time points, 5 planes."""
    folder = tmp_path_factory.mktemp("every") / "data"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name in ("one", "two"):
        blobs = gaussian_filter(rng.normal(size=(3, 5, 1, 72, 76)), (0, 1, 0, 2, 2))
        each = blobs * rng.uniform(0.5, 1.5, (1, 1, len(CHANNELS), 1, 1))
        counts = 3000 + 20000 * each + rng.normal(scale=30, size=each.shape)
        tifffile.imwrite(
            folder / f"{name}.tif",
            counts.clip(0, 65535).astype(np.uint16),
            imagej=True,
            metadata={"axes": "TZCYX"},
        )
        (folder / f"{name}.movie.yaml").write_text(
            f"pixel_size_um: 0.1\nz_step_um: 0.5\nchannels: [{', '.join(CHANNELS)}]\n"
        )
    return folder


@pytest.fixture(scope="module")
def bundle_of_recipe(data, tiny_bundle, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that trains and exports a recipe, once."""
    folder = tmp_path_factory.mktemp("every-run")

    @cache
    def make(name: str) -> Path:
        recipe = in_small(name, tiny_bundle)
        run = train(recipe, data, folder / name, device="cpu", progress=False)
        return export_run(run, folder / f"{name}-bundle", name=name, onnx=False).path

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_trains_and_is_exported(name, bundle_of_recipe):
    folder = bundle_of_recipe(name)
    losses = [
        float(row.split(",")[1])
        for row in (folder.parent / name / "logs" / "metrics.csv").read_text().splitlines()[1:]
        if row.split(",")[1]
    ]
    assert losses
    assert np.isfinite(losses).all()
    assert (folder / "rdf.yaml").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_them_stain_one_live_run(bundle_of_recipe, tmp_path):
    names = recipe_names()
    fluorescence = {
        name
        for name in names
        if Recipe.from_yaml(find_recipe(name)).sources[0].kind == "fluorescence"
    }
    raw = ("Brightfield", "Mitochondria")
    sequence = useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": 2},
        z_plan={"range": 2.0, "step": 0.5},
        channels=[{"group": "Channel", "config": config, "exposure": 5} for config in raw]
        + [{"group": "Virtual", "config": name} for name in names],
        metadata={
            "livestain": {
                "channels": {
                    name: {
                        "bundle": str(bundle_of_recipe(name)),
                        "source": raw[name in fluorescence],
                        "source_kind": "fluorescence" if name in fluorescence else "brightfield",
                        "output": Recipe.from_yaml(find_recipe(name)).targets[0].output.name,
                    }
                    for name in names
                }
            }
        },
    )
    core = simulated_core(8, shape=(64, 72))
    out = tmp_path / "run.ome.zarr"
    report = Session(core, sequence, out, device="cpu").run()
    core.unloadAllDevices()
    assert (report.planes_acquired, report.planes_missing) == (20, 0)
    assert report.planes_stained == 10 * len(names)
    with open_store(out) as store:
        for name in names:
            plane = store.read_decoded(PlaneIndex(0, 1, store.plan.c_of(name), 2))
            assert np.isfinite(plane).all(), name


def takes(recipe: Recipe, data: Path) -> bool:
    """Return whether a recipe can learn from its data: a batch, a loss, a gradient for every weight."""
    try:
        network = build_from_recipe(recipe)
    except SettingsError:
        return False
    with find_pairs(data, PairSpec.of_recipe(recipe)) as pairs:
        crops = Crops(pairs, recipe)
        batch = default_collate([crops[0], crops[1]])
    prediction = network(batch["source"])
    total, _ = RecipeLoss(recipe)(prediction, batch["target"], batch["mask"], batch["target"])
    total.backward()
    with torch.no_grad():
        return all(
            p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters()
        )


def count(recipe: Recipe) -> int:
    with torch.device("meta"):
        spec = recipe.network_spec()
        return sum(p.numel() for p in build_network(spec.name, **spec.kwargs).parameters())


@pytest.mark.slow
def test_the_table_in_docs_is_what_is_found_here(data, tiny_bundle):
    rows = []
    known: dict[str, dict[str, bool]] = {}
    for name in recipe_names():
        recipe, small = Recipe.from_yaml(find_recipe(name)), in_small(name, tiny_bundle)
        own = needs(recipe)
        # What a batch, a network and a loss depend on; recipes that differ in the rest need no second try.
        told = small.model_dump_json(include={"network", "sources", "targets", "pairing", "loss"})
        if told not in known:
            known[told] = {
                kind: takes(Recipe.parse(small.model_dump() | changes, where=name), data)
                for kind, changes in KINDS.items()
            }
        found = known[told]
        assert found[own], f"{name} does not take the data it is written for"
        marks = [("**yes**" if kind == own else "yes") if ok else "-" for kind, ok in found.items()]
        network = f"{recipe.network.name}, {count(recipe) / 1e6:.2f} M"
        rows.append(f"| `{name}` | {recipe.about} | {network} | {' | '.join(marks)} |")
    text = "\n".join(
        [
            "# Recipes and the data they take",
            "",
            "Written by `tests/training/test_every_recipe.py`, which trains, exports and stains live with",
            "each of them (small), and tries every kind of data. **yes**: what the recipe is written for;",
            "yes: with that `window` in a variant; -: refused in a sentence. 2-D: single planes. 2.5-D: some",
            "z-planes for the middle one. 3-D: whole stacks. XYT: time points before and after, as channels",
            "of a 2-D network or as the depth of a 3-D one.",
            "",
            f"| recipe | what it is | network, parameters | {' | '.join(KINDS)} |",
            f"|---|---|---|{'---|' * len(KINDS)}",
            *rows,
            "",
        ]
    )
    if os.environ.get("LIVESTAIN_WRITE_DOCS"):
        TABLE.write_text(text, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == text

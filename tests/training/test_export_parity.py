"""What runs live is what the training validated: every window, sources, spreads, 2-D and 3-D."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from livestain.inference import Stainer
from livestain.inference.padded import stain_padded
from livestain.training import export_run, find_pairs, train
from livestain.training.module import build_from_recipe, stain_module
from livestain.training.pair import PairSpec
from livestain.training.run_folder import read_run
from livestain.training.sampling import WholePairs

UNET = {"network": {"name": "unet2d", "kwargs": {"width": 4, "depth": 2}}}
CARE = {"network": {"name": "care3d", "kwargs": {"width": 4, "depth": 1}}, "crop_depth": 2}
STACK = {"window": {"z": "all"}, "z_step_um": 0.5}
MATRIX = {
    "2-D": UNET,
    "2.5-D": {**UNET, "window": {"z": 3}, "z_step_um": 0.5},
    "2-D and past": {**UNET, "window": {"past": 2}},
    "running": {**UNET, "window": {"past": 2}, "normalisation": {"kind": "running"}},
    "running percentiles": {
        **UNET,
        "window": {"z": 3, "past": 3, "future": 1},
        "z_step_um": 0.5,
        "normalisation": {
            "kind": "running",
            "statistic": "percentile",
            "scope": "window",
            "sees_past": 1,
        },
    },
    "percentiles of a stack": {
        **CARE,
        **STACK,
        "normalisation": {"statistic": "percentile", "scope": "window"},
    },
    "spread": {**UNET, "loss": {"gaussian": 1.0}},
    "two sources": {
        **UNET,
        "sources": [{"channel": "brightfield"}, {"channel": "phase", "kind": "phase"}],
        "window": {"z": 3},
        "z_step_um": 0.5,
        "normalisation": {"scope": "window"},
    },
    "3-D": {**CARE, **STACK},
    "3-D fnet with spread": {
        "network": {"name": "fnet3d", "kwargs": {"width": 8, "depth": 1}},
        "crop_depth": 4,
        "loss": {"laplace": 1.0},
        **STACK,
    },
    "XYT": {**CARE, "window": {"past": 1, "future": 1}, "depth_axis": "t"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One movie (t 4, z 5) of 45 by 51 pixels: no side and no depth is a multiple of a divisor."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(2)
    blobs = gaussian_filter(rng.normal(size=(4, 5, 3, 45, 51)), (0, 1, 0, 2, 2))
    counts = (3000 + 20000 * blobs + rng.normal(scale=30, size=blobs.shape)).clip(0, 65535)
    tifffile.imwrite(
        folder / "dish.tif",
        counts.astype(np.uint16),
        imagej=True,
        metadata={"axes": "TZCYX"},
    )
    (folder / "dish.movie.yaml").write_text(
        "pixel_size_um: 0.1\nz_step_um: 0.5\nchannels: [brightfield, phase, mitochondria]\n"
    )
    return folder


@pytest.mark.parametrize("case", MATRIX)
def test_live_equals_the_validation_of_the_training(case, data, recipe_of, tmp_path):
    recipe = recipe_of(
        **{
            "crop": 16,
            "batch_size": 2,
            "steps": 2,
            "precision": "fp32",
            "loss": {"mse": 1.0},
            "checks": {"registration": "off"},
            **MATRIX[case],
        }
    )
    run = read_run(train(recipe, data, tmp_path / "run", device="cpu", progress=False))
    bundle = export_run(run.path, tmp_path / "bundle", onnx=False)
    network = build_from_recipe(run.recipe)
    network.load_state_dict(run.weights())
    module = stain_module(run.recipe, network)
    with (
        find_pairs(data, PairSpec.of_recipe(run.recipe)) as pairs,
        Stainer(bundle, device="cpu", backend="eager") as stainer,
        torch.inference_mode(),
    ):
        counts = WholePairs(pairs, run.recipe)[1]["counts"]
        assert counts.shape[1:] == (45, 51)
        # As the trainer looks at its validation data.
        expected = stain_padded(module, counts[None])[0].numpy()
        found = stainer.stain(counts.numpy().astype(np.uint16))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * expected.std()
        # And the bare module, where nothing needs padding.
        even = counts[..., :44, :48]
        even = even[:4] if module.whole_stack else even
        expected = module(even[None])[0].numpy()
        found = stainer.stain(even.numpy().astype(np.uint16))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * expected.std()
    spreads = [o.spread_of for o in bundle.description.outputs]
    assert spreads == ([None, "mitochondria"] if "spread" in case else [None])
    if "spread" in case:
        assert found[1].min() > 0
    card = (bundle.path / "README.md").read_text()
    parameters = sum(weight.numel() for weight in network.parameters())
    assert f"{recipe.network.name} (" in card
    assert f"{recipe.dims}-D, {parameters:,} parameters" in card
    assert ("spread" in card) == ("spread" in case)

"""A training that begins with the weights of a bundle."""

from __future__ import annotations

import pytest
import torch

from livestain.bundle import read_bundle
from livestain.errors import SettingsError
from livestain.training import export_run, train
from livestain.training.run_folder import read_run

STILL = {"learning_rate": 1e-12, "weight_decay": 0.0, "warmup_steps": 0, "schedule": "constant"}


def test_begins_where_the_other_ended_and_says_so(data, recipe_of, tmp_path):
    first = train(recipe_of(steps=3), data, tmp_path / "first", device="cpu", progress=False)
    bundle = export_run(first, tmp_path / "bundle", onnx=False)
    # Another seed, and steps too small to go anywhere.
    again = recipe_of(start=str(bundle.path), seed=5, steps=1, ema_decay=0.0, optimiser=STILL)
    second = train(again, data, tmp_path / "second", device="cpu", progress=False)
    begun = read_run(first).weights()
    for key, value in read_run(second).weights().items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(value, begun[key], rtol=0, atol=1e-9)
    card = (export_run(second, tmp_path / "tuned", onnx=False).path / "README.md").read_text()
    assert f"Began with the weights of `{bundle.name}`" in card
    assert read_bundle(bundle.path).sha256 in card


def test_another_network_is_refused_before_anything_is_written(
    data, recipe_of, tmp_path, bundle_of
):
    other = bundle_of(width=8)
    with pytest.raises(SettingsError, match=r"cannot start from.*'width': 8.*'width': 4"):
        train(recipe_of(start=str(other)), data, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()

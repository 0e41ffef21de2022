"""Running normalisation: by hand, its window's planes alone, and what it refuses."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from livestain.bundle import (
    BundleDescription,
    NormalisationSettings,
    Normalise,
    WindowSpec,
    write_bundle,
)
from livestain.networks import build_network

WINDOW = WindowSpec(z=3, past=2, future=1)


@pytest.fixture(scope="module")
def counts():
    """(2, 2 sources * 4 time points * 3 depths, 20, 30): each plane of another level and spread."""
    rng = np.random.default_rng(5)
    level = rng.uniform(500, 5000, (2, 24, 1, 1))
    return rng.normal(level, level / 20, (2, 24, 20, 30)).astype(np.uint16)


@pytest.mark.parametrize("scope", ["plane", "window"])
@pytest.mark.parametrize("statistic", ["mean_std", "percentile"])
@pytest.mark.parametrize("sees_past", [0, 1, 2])
def test_time_points_up_to_the_planes_own_are_averaged(counts, scope, statistic, sees_past):
    how = {"kind": "running", "scope": scope, "statistic": statistic, "sees_past": sees_past}
    found = Normalise(NormalisationSettings(**how), 2, WINDOW)(torch.from_numpy(counts))
    x = counts.reshape(2, 2, 4, 3, 20, 30).astype(np.float64)
    if statistic == "mean_std":
        centre, spread = x.mean((4, 5)), x.std((4, 5))
    else:
        low, high = np.percentile(x, (1, 99.8), axis=(4, 5), method="inverted_cdf")
        centre, spread = low, high - low
    # The time points are t-2, t-1, t and t+1; the last may not be there yet for t's neighbours.
    axes = 2 if scope == "plane" else (2, 3)
    centre, spread = (
        one[:, :, :3].mean(axes, keepdims=True)[..., None, None] for one in (centre, spread)
    )
    if scope == "window":
        assert centre.shape == (2, 2, 1, 1, 1, 1)
    wanted = ((x - centre) / spread)[:, :, 2 - sees_past :].clip(-10, 10)
    np.testing.assert_allclose(found.numpy(), wanted.reshape(2, -1, 20, 30), atol=1e-4)


def test_a_later_plane_changes_nothing_of_the_earlier_ones(counts):
    normalise = Normalise(NormalisationSettings(kind="running"), 2, WINDOW)
    later = counts.copy().reshape(2, 2, 4, 3, 20, 30)
    later[:, :, 3] = 60000
    before, after = (
        normalise(torch.from_numpy(given.reshape(counts.shape))).reshape(2, 2, 2, 3, 20, 30)
        for given in (counts, later)
    )
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])


def test_a_crop_is_normalised_by_the_statistics_of_whole_planes(counts):
    normalise = Normalise(NormalisationSettings(kind="running", sees_past=1), 2, WINDOW)
    given = torch.from_numpy(counts)
    part = normalise.apply(normalise.seen(given[..., 3:9, 4:11]), *normalise.statistics(given))
    assert torch.equal(part, normalise(given)[..., 3:9, 4:11])


@pytest.fixture(scope="module")
def running(tmp_path_factory, description, words):
    """A bundle with ONNX that reads 2 earlier time points and whose network sees one of them."""
    kwargs = {"in_channels": 6, "out_channels": 2, "width": 4, "depth": 2}
    torch.manual_seed(3)
    changed = description.model_copy(
        update={
            "input": description.input.model_copy(update={"window": WindowSpec(z=3, past=2)}),
            "normalisation": NormalisationSettings(kind="running", sees_past=1),
            "network": description.network.model_copy(update={"kwargs": kwargs}),
        }
    )
    rng = np.random.default_rng(4)
    planes = rng.normal(rng.uniform(2000, 4000, (9, 1, 1)), 200, (9, 48, 64)).astype(np.uint16)
    return write_bundle(
        tmp_path_factory.mktemp("running") / "running",
        network=build_network("unet2d", **kwargs),
        description=changed,
        test_input=planes,
        **words,
    )


def test_the_whole_graph_takes_the_planes_of_the_window_and_no_statistics(running):
    counts, expected = running.test_tensors()
    session = onnxruntime.InferenceSession(
        running.path / "weights.onnx", providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    assert (given.name, given.shape[1]) == ("counts", 9)
    (found,) = session.run(None, {"counts": counts.astype(np.float32)})
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def test_bioimageio_gives_the_same_output(running):
    from bioimageio.core import test_model

    for weights in ("pytorch_state_dict", "onnx"):
        summary = test_model(running.path / "rdf.yaml", weight_format=weights)
        assert summary.status == "passed", summary.format()


def test_it_is_read_back_as_it_was_written(running):
    told = json.loads(running.description.model_dump_json())
    again = BundleDescription.parse(told, where="test")
    assert again.normalisation == NormalisationSettings(kind="running", sees_past=1)
    assert again.module_options()["window"] == {"z": 3, "past": 2, "future": 0, "depth": None}


@pytest.mark.parametrize(
    ("window", "sees_past", "network"),
    [
        ({}, 0, "unet2d"),
        ({"future": 1}, 0, "unet2d"),
        ({"past": 1}, 2, "unet2d"),
        ({"past": 1}, 0, "care3d"),
        ({"z": "all"}, 0, "care3d"),
    ],
)
def test_a_bundle_that_cannot_have_it_is_refused(description, window, sees_past, network):
    told = description.model_dump(mode="json")
    told["input"]["window"] = window
    told["network"] = {"name": network, "kwargs": {}}
    told["normalisation"] = {"kind": "running", "sees_past": sees_past}
    with pytest.raises(ValidationError, match="normalisation 'running'"):
        BundleDescription.model_validate(told)

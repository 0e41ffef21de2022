"""The demo as a new user runs it: the installed command, another folder, no argument."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from PIL import Image

from livestain.bundle import find_bundle
from livestain.cli import demo as demo_room
from livestain.cli.demo import DEMO_SEED, demo_sequence
from livestain.inference import Stainer
from livestain.metrics import pearson
from livestain.simulate import Dish, Profile
from livestain.store import open_store

COMMAND = Path(sys.executable).with_name("livestain")


def demo(folder, *options):
    return subprocess.run(
        [str(COMMAND), "demo", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    return folder, demo(folder, "--json")


@pytest.mark.slow
def test_the_demo_stains_every_plane_better_than_the_control(done):
    folder, process = done
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["planes_acquired"] == 34
    assert result["planes_stained"] == 30
    assert result["planes_missing"] == 0
    assert result["pearson"] >= 0.75
    assert result["pearson"] >= result["pearson_control"] + 0.2
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p95"]
    assert (folder / result["store"]).is_dir()
    assert result["light"]["spared_planes"] == 30


@pytest.mark.slow
def test_the_demos_store_says_that_its_cells_are_simulated_and_makes_them_again(done):
    folder, _ = done
    with open_store(folder / "demo.ome.zarr") as store:
        assert store.attributes["simulated"] is True
        made = store.attributes["simulation"]
    dish = Dish(
        made["seed"],
        Profile.model_validate(made["profile"]),
        shape=tuple(made["shape"]),
        pixel_size_um=made["pixel_size_um"],
    )
    assert made["faults"] == {}
    np.testing.assert_array_equal(dish.truth(5.0), Dish(DEMO_SEED).truth(5.0))


@pytest.mark.slow
def test_what_the_demo_leaves_opens_elsewhere(done):
    folder, _ = done
    yaozarrs.validate_zarr_store(folder / "demo.ome.zarr")
    array = zarr.open(folder / "demo.ome.zarr", mode="r")["0"]
    assert array.shape == (10, 3, 3, 256, 256)
    assert (np.asarray(array[:, 0]).std(axis=(-1, -2)) > 10).all()
    for name, least in (("demo.png", 800), ("latest.png", 600)):
        with Image.open(folder / name) as picture:
            assert picture.width > least
            assert np.asarray(picture).std() > 10


@pytest.mark.slow
def test_a_second_demo_replaces_the_first_but_never_a_run_of_the_users(
    done, livestain, tmp_path, monkeypatch
):
    folder, _ = done
    shutil.copytree(folder / "demo.ome.zarr", tmp_path / "demo.ome.zarr")
    # Of one time point: nobody need wait for ten seconds of another dish.
    once = demo_sequence().replace(time_plan={"interval": 0, "loops": 1})
    monkeypatch.setattr(demo_room, "demo_sequence", lambda: once)
    again = livestain("demo", "--out", tmp_path, "--seed", "3", "--json")
    assert again.code == 0, again.err
    assert zarr.open(tmp_path / "demo.ome.zarr", mode="r")["0"].shape[0] == 1
    about = json.loads((tmp_path / "demo.ome.zarr" / "zarr.json").read_text())
    about["attributes"]["livestain"]["sequence"]["metadata"] = {"somebody": "else's"}
    (tmp_path / "demo.ome.zarr" / "zarr.json").write_text(json.dumps(about))
    refused = livestain("demo", "--out", tmp_path)
    assert refused.code == 2
    assert "exists already" in refused.err
    assert "Traceback" not in refused.err


def test_the_demo_shows_another_dish_than_the_model_was_trained_on():
    card = find_bundle("demo-mitochondria").read_file("README.md").decode()
    assert f"| {DEMO_SEED} |" not in card
    assert "| 1001 |" in card


def test_brightfield_of_another_field_predicts_nothing():
    """What scores high must come from the plane that was shown, and from nothing else."""
    here, elsewhere = Dish(DEMO_SEED), Dish(DEMO_SEED + 1)
    own, other = [], []
    with Stainer(find_bundle("demo-mitochondria"), device="cpu") as stainer:
        for t in (0.0, 20.0):
            for z in (-0.5, 0.0, 0.5):
                truth = here.truth(t, z)
                own.append(pearson(stainer.stain(here.brightfield(t, z)[None])[0], truth))
                other.append(pearson(stainer.stain(elsewhere.brightfield(t, z)[None])[0], truth))
    assert np.mean(own) >= 0.75
    assert np.mean(other) < 0.2


def test_the_demo_asks_for_no_exposure_of_the_virtual_channel():
    virtual = [c for c in demo_sequence().channels if c.group == "Virtual"]
    assert [c.exposure for c in virtual] == [None]


@pytest.mark.slow
def test_the_store_of_the_demo_is_marked_as_predicted(done):
    folder, _ = done
    with open_store(folder / "demo.ome.zarr") as store:
        assert store.plan.channels[2].virtual.bundle == "demo-mitochondria"
    labels = json.loads((folder / "demo.ome.zarr" / "zarr.json").read_text())
    names = [c["label"] for c in labels["attributes"]["ome"]["omero"]["channels"]]
    assert names == ["Brightfield", "Mitochondria", "mitochondria (predicted)"]

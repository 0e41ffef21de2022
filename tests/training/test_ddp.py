"""Two processes that share every batch train as one does."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest
import torch
from training_cases import make_movie

from livestain.errors import SettingsError
from livestain.training import train
from livestain.training.order import Order
from livestain.training.ranks import Ranks


def rows_of(run):
    with (run / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def with_torchrun(*arguments, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*started, "--nproc-per-node", "2", "-m", "livestain", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's gloo is not built for Windows")
def test_two_processes_train_as_one_with_the_same_batches(data, recipe_of, tmp_path):
    # A network without batch normalisation or dropout; all augmentation; some targets are missing, unequally
    # many in the two halves of a batch; and validation is shared too.
    make_movie(data, "v", n=3, seed=9)
    for movie in ("a", "b"):
        for path in sorted((data / f"movie-{movie}" / "mitochondria").iterdir())[1:]:
            other = data / f"movie-{movie}" / "other" / path.name
            other.parent.mkdir(exist_ok=True)
            other.write_bytes(path.read_bytes())
    output = {"unit": "sd", "display": [0, 1]}
    recipe = recipe_of(
        network={"name": "care2d", "kwargs": {"width": 4, "kernel": 3}},
        targets=[
            {"channel": "mitochondria", "output": output | {"name": "m"}},
            {"channel": "other", "required": False, "output": output | {"name": "o"}},
        ],
        split={"validation": ["v"]},
        checks={"registration": "off"},
        precision="fp32",
        steps=10,
    )
    (tmp_path / "tiny.yaml").write_text(recipe.to_yaml())
    one = train(recipe, data, tmp_path / "one", device="cpu", progress=False)
    arguments = ["train", "tiny.yaml", "--data", data, "--out", "two", "--device", "cpu"]
    ended = with_torchrun(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    two = tmp_path / "two"
    rows = list(zip(rows_of(one), rows_of(two), strict=True))
    assert len(rows) == 20
    for alone, shared in rows:
        assert alone.keys() == shared.keys()
        for key, value in alone.items():
            if value:
                assert float(shared[key]) == pytest.approx(float(value), rel=1e-4, abs=1e-5), key
    a, b = (torch.load(run / "weights.pt", weights_only=True) for run in (one, two))
    assert all(torch.allclose(a[key], b[key], atol=1e-4) for key in a)
    # Only one process wrote and told.
    assert ended.stdout.count("Trained:") == 1
    assert len(list((two / "logs").glob("events*"))) == 1


def test_each_process_takes_its_share_of_every_batch():
    orders = [list(Order(2, 4, 6, Ranks(rank=rank, world=3))) for rank in range(3)]
    assert orders == [[[12, 13], [18, 19]], [[14, 15], [20, 21]], [[16, 17], [22, 23]]]
    assert len(Order(2, 4, 6, Ranks())) == 2
    with pytest.raises(SettingsError, match="batch_size of 6 cannot be shared by 4"):
        Ranks(world=4).share(6)


def test_what_torchrun_says_is_understood(monkeypatch):
    assert Ranks.of_environment() == Ranks()
    said = {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}
    for name, value in {"TORCHELASTIC_RUN_ID": "x", **said}.items():
        monkeypatch.setenv(name, str(value))
    ranks = Ranks.of_environment()
    assert (ranks.rank, ranks.world, ranks.local, ranks.local_world) == (3, 4, 1, 2)
    assert not ranks.first

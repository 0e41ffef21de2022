"""A run that ends at any moment goes on to the same weights; what is written is whole."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from livestain.cli.app import run as run_command
from livestain.errors import DataError
from livestain.training import train
from livestain.training.checkpoint import load_checkpoint, save_checkpoint
from livestain.training.modes import StainTraining
from livestain.training.modes.pool import ImagePool
from livestain.training.run_folder import CHECKPOINT, read_run

JUDGE = {"discriminator": {"name": "patchgan70", "kwargs": {"width": 4, "layers": 1}}}
MODES = {
    "adversarial": {"adversarial": JUDGE | {"learning_rate": 0.002}},
    "cycle": {
        "pairing": "unpaired",
        "network": {"name": "resnet9", "kwargs": {"width": 2, "blocks": 1}},
        "cycle": {"pool": 3, "adversarial": JUDGE},
        "batch_size": 2,
    },
    "chosen": {
        "selection": {"weights": "best", "every_steps": 2, "patience": 3},
        "split": {"validation": ["c"]},
        "optimiser": {
            "kind": "adam",
            "learning_rate": 0.05,
            "schedule": "plateau",
            "plateau_patience": 0,
            "warmup_steps": 0,
        },
    },
}


pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(run):
    with (run / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def same(one, other):
    a, b = (torch.load(run / "weights.pt", weights_only=True) for run in (one, other))
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_training_resumes_to_the_same_weights(
    data, recipe_of, tmp_path, monkeypatch, mode
):
    recipe = recipe_of(steps=10, precision="fp32", **MODES[mode])
    whole = train(recipe, data, tmp_path / "whole", device="cpu", progress=False)
    real = StainTraining.training_step

    def dies(self, batch, batch_idx):
        if self.done == 6:
            raise RuntimeError("the power is gone")
        return real(self, batch, batch_idx)

    killed = tmp_path / "killed"
    monkeypatch.setattr(StainTraining, "training_step", dies)
    with pytest.raises(RuntimeError, match="power"):
        train(recipe, data, killed, device="cpu", progress=False)
    monkeypatch.undo()
    train(recipe, data, killed, device="cpu", progress=False, resume=True)
    assert read_run(killed).finished["resumed_at"] == 6
    assert same(whole, killed)
    # The table goes on too: no step is missing, none is there twice.
    assert rows_of(killed) == rows_of(whole)
    assert (killed / "panels" / "latest.png").is_file()
    if mode == "chosen":
        finished = [json.loads((run / "finished.json").read_text()) for run in (whole, killed)]
        assert finished[0]["weights_of_step"] == finished[1]["weights_of_step"]
        rates = [float(row["learning_rate"]) for row in rows_of(whole) if row["learning_rate"]]
        assert set(rates) >= {0.05, 0.025}  # the loss rose at least once: halved


_DIES_WHILE_WRITING = """
import os, signal, sys
from livestain import files
writes = []
def fsync(descriptor):
    writes.append(descriptor)
    if len(writes) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
files.os.fsync = fsync
from livestain.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_killed_while_it_writes_a_checkpoint_keeps_the_one_before(data, recipe_of, tmp_path):
    recipe = recipe_of(steps=10, precision="fp32")
    (tmp_path / "tiny.yaml").write_text(recipe.to_yaml())
    run = tmp_path / "run"
    arguments = ["train", "tiny.yaml", "--data", str(data), "--out", "run", "--threads", "1"]
    ended = subprocess.run(
        [sys.executable, "-c", _DIES_WHILE_WRITING, *arguments, "--device", "cpu"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert load_checkpoint(run / CHECKPOINT)["step"] == 3
    train(recipe, data, run, device="cpu", progress=False, resume=True)
    assert read_run(run).finished["resumed_at"] == 3
    whole = train(recipe, data, tmp_path / "whole", device="cpu", progress=False)
    assert same(whole, run)
    assert not list(run.rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="only POSIX limits the size of files")
def test_a_full_disk_at_a_checkpoint_is_one_sentence_and_loses_nothing(
    data, recipe_of, tmp_path, monkeypatch, capsys
):
    import resource

    recipe = recipe_of(steps=10, precision="fp32")
    (tmp_path / "tiny.yaml").write_text(recipe.to_yaml())
    run = tmp_path / "run"
    arguments = ["train", str(tmp_path / "tiny.yaml"), "--data", str(data), "--device", "cpu"]
    real = StainTraining.training_step
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def disk_fills(self, batch, batch_idx):
        if self.done == 5:
            size = (run / CHECKPOINT).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, limits[1]))
        return real(self, batch, batch_idx)

    monkeypatch.setattr(StainTraining, "training_step", disk_fills)
    try:
        assert run_command([*arguments, "--out", str(run)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"livestain: Cannot write to {run}")
    assert "checkpoint of step 5 is as it was" in line
    assert "--resume" in line
    assert load_checkpoint(run / CHECKPOINT)["step"] == 5
    assert not list(run.rglob("*.part"))
    assert run_command([*arguments, "--out", str(run), "--resume"]) == 0
    whole = train(recipe, data, tmp_path / "whole", device="cpu", progress=False)
    assert same(whole, run)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a" / "last.ckpt"
    save_checkpoint({"step": 1}, path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint({"step": 2}, path)
    assert load_checkpoint(path) == {"step": 1}
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match="no checkpoint that can be read"):
        load_checkpoint(path)


def test_the_pool_gives_former_images_and_can_be_empty():
    pool = ImagePool(4)
    images = torch.arange(40.0).reshape(40, 1, 1, 1)
    first = pool.exchange(images[:4], [0, 0])
    assert torch.equal(first, images[:4])
    former = sum(
        float(pool.exchange(images[i : i + 1], [0, i])) != float(images[i]) for i in range(4, 40)
    )
    assert 10 <= former <= 26  # about every second
    assert len(pool.images) == 4
    again = ImagePool(4)
    again.load_state_dict(pool.state_dict(), torch.device("cpu"))
    assert torch.equal(again.exchange(images[:2], [7]), pool.exchange(images[:2], [7]))
    assert torch.equal(ImagePool(0).exchange(images, [0]), images)
    ImagePool(2).load_state_dict(ImagePool(2).state_dict(), torch.device("cpu"))

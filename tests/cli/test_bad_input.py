"""Bad input: one clear sentence, exit code 2, and nothing touched."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mm_test_adapters
import numpy as np
import pytest
import torch
from PIL import Image

from livestain.store import open_store

BRIGHTFIELD = {"group": "Channel", "config": "Brightfield"}
VIRTUAL = {"group": "Virtual", "config": "mitochondria"}
STACK = {"range": 1.0, "step": 0.5}


def everything(folder):
    """All files below a folder, and what is in them."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(livestain, tmp_path):
    """Run a command that must be refused; return its sentence."""

    def call(*arguments, words):
        before = everything(tmp_path)
        ended = livestain(*arguments)
        assert ended.code == 2, ended
        lines = [line for line in ended.err.splitlines() if line.strip()]
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("livestain: ")
        assert ended.out == ""
        for word in words:
            assert word in lines[0]
        assert everything(tmp_path) == before
        return lines[0]

    return call


def demo_config(tmp_path, *lines, without=r"$^"):
    """Micro-Manager's demo configuration, changed."""
    libs = Path(mm_test_adapters.device_adapter_path())
    text = (libs / "MMConfig_demo.cfg").read_text()
    kept = [line for line in text.splitlines() if not re.search(without, line)]
    path = tmp_path / "microscope.cfg"
    path.write_text("\n".join([*kept, *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": [VIRTUAL]}, ["'mitochondria'", "no channel that it could be predicted from"]),
        ({"channels": [{**BRIGHTFIELD, "config": "BF"}, VIRTUAL]}, ["'Channel'", "no preset 'BF'"]),
        ({"axis_order": "gptcz", "grid_plan": {"rows": 1, "columns": 2}}, ["Put g right after p"]),
        ({"time_plan": {"interval": 5, "duration": 0}}, ["no end that can be counted"]),
        ({"time_plan": {"interval": "soon", "loops": 3}}, ["time_plan", "'soon'"]),
        ({"chanels": []}, ["unknown key chanels"]),
        ({"time_plan": {"interval": 1, "loops": 2, "foo": 2}}, ["time_plan", "unknown key foo"]),
        ({"channels": [{**BRIGHTFIELD, "do_stak": False}]}, ["did you mean 'do_stack'"]),
        ({"time_plan": {"interval": -1, "loops": 3}}, ["interval -1 s"]),
        ({"z_plan": {"range": 1.0, "step": 0}}, ["step 0 um", "greater than 0"]),
        ({"metadata": {"livestain": {"pixel_size_um": 2.0}}}, ["2 um", "trained at 0.1 um"]),
        (
            {"metadata": {"livestain": {"channels": {"mitochondria": {"source": "DIC"}}}}},
            ["'DIC'", "not a channel of the sequence"],
        ),
    ],
    ids=str,
)
def test_sequences(refused, sequence_file, tiny_bundle, tmp_path, changes, words):
    sequence = sequence_file(**changes)
    model = f"mitochondria={tiny_bundle}"
    out = tmp_path / "run.ome.zarr"
    refused("run", sequence, "--out", out, "--model", model, words=words)


def test_a_sequence_that_is_not_there(refused, tmp_path):
    out = tmp_path / "run.ome.zarr"
    refused("run", tmp_path / "no.yaml", "--out", out, words=["Cannot read", "no.yaml"])
    refused("run", tmp_path, "--out", out, words=["Cannot read"])
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    refused("run", tmp_path / "binary.yaml", "--out", out, words=["Cannot read"])


def test_models(refused, sequence_file, tiny_bundle, bundle_of, tmp_path, monkeypatch):
    sequence = sequence_file()
    run = ("run", sequence, "--out", tmp_path / "run.ome.zarr")
    refused(*run, "--model", "mitochondria=nowhere", words=["No model is called 'nowhere'"])
    refused(*run, "--model", "nuclei=nowhere", words=["'nuclei'", "it has: mitochondria"])
    refused(*run, "--model", "nowhere", words=["'nowhere' is not NAME=BUNDLE"])
    refused(*run, "--model", "a=b", "--model", "a=c", words=["given twice for 'a'"])
    phase = bundle_of(kind="phase")
    refused(*run, "--model", f"mitochondria={phase}", words=["brightfield", "trained on phase"])
    deep = bundle_of(z=3)
    refused(*run, "--model", f"mitochondria={deep}", words=["no z-stack", "z-window of 3"])

    several = bundle_of(output="vacuoles"), bundle_of(output="vacuoles", width=6)
    monkeypatch.setenv("LIVESTAIN_MODELS", str(several[0].parent))
    sequence_file(channels=[BRIGHTFIELD, {**VIRTUAL, "config": "vacuoles"}])
    refused(*run, words=["Several models", *(b.name for b in several), "--model vacuoles="])
    sequence_file(channels=[BRIGHTFIELD, {**VIRTUAL, "config": "peroxisomes"}])
    refused(*run, words=["No model predicts 'peroxisomes'"])


@pytest.mark.parametrize("part", ["weights.pt", "rdf.yaml", "test_input.npy"])
def test_a_damaged_bundle(refused, sequence_file, tiny_bundle, tmp_path, part):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    data = bytearray((damaged / part).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (damaged / part).write_bytes(data)
    refused(
        *("run", sequence_file(), "--out", tmp_path / "run.ome.zarr"),
        *("--model", f"mitochondria={damaged}"),
        words=["damaged"],
    )
    (damaged / part).unlink()
    refused(
        *("run", sequence_file(), "--out", tmp_path / "run.ome.zarr"),
        *("--model", f"mitochondria={damaged}"),
        words=["damaged"],
    )


def test_an_output_that_exists(refused, livestain, sequence_file, tmp_path):
    out = tmp_path / "run.ome.zarr"
    run = ("run", sequence_file(channels=[BRIGHTFIELD]), "--out", out)
    assert livestain(*run).code == 0
    refused(*run, words=["exists already", "--overwrite"])
    # What cannot run does not replace it either, however late that is found out.
    sequence_file(channels=[BRIGHTFIELD, VIRTUAL])
    refused(*run, "--overwrite", "--model", "mitochondria=nowhere", words=["No model"])
    folder = tmp_path / "mine.ome.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    sequence_file(channels=[BRIGHTFIELD])
    refused(*run[:3], folder, "--overwrite", words=["not a livestain store", "not overwritten"])
    (tmp_path / "file").write_text("")
    refused(*run[:3], tmp_path / "file" / "run.ome.zarr", words=["run.ome.zarr"])
    refused(*run[:3], tmp_path / "run", words=["does not end in .ome.zarr"])


def test_an_unknown_device_leaves_the_earlier_run(
    refused, livestain, sequence_file, tiny_bundle, tmp_path
):
    out = tmp_path / "run.ome.zarr"
    run = (
        "run",
        sequence_file(),
        "--out",
        out,
        "--overwrite",
        "--model",
        f"mitochondria={tiny_bundle}",
    )
    assert (
        livestain("run", sequence_file(name="raw.yaml", channels=[BRIGHTFIELD]), "--out", out).code
        == 0
    )
    # Only the worker, which alone loads torch, can find this out.
    wrong = ("gpu", "'gpu'") if torch.cuda.is_available() else ("cuda", "CUDA")
    refused(*run, "--device", wrong[0], words=[wrong[1], "cpu"])
    with open_store(out) as store:
        assert store.present(0).all()


def test_a_recording_is_not_replaced_by_its_own_replay(refused, livestain, sequence_file, tmp_path):
    out = tmp_path / "run.ome.zarr"
    run = ("run", sequence_file(channels=[BRIGHTFIELD]), "--out", out)
    assert livestain(*run).code == 0
    refused(*run, "--replay", out, "--overwrite", words=["run.ome.zarr", "--replay"])


@pytest.mark.parametrize(
    ("pixel_type", "words"), [("32bitRGB", ["colour images"]), ("32bit", ["32-bit images"])]
)
def test_a_camera_of_colour_or_32_bits(refused, sequence_file, tmp_path, pixel_type, words):
    config = demo_config(tmp_path, f"ConfigGroup,System,Startup,Camera,PixelType,{pixel_type}")
    sequence = sequence_file(channels=["Cy5"])
    refused(
        *("run", sequence, "--out", tmp_path / "run.ome.zarr", "--config", config),
        words=[*words, "8bit or 16bit"],
    )


def test_configurations(refused, sequence_file, tmp_path):
    run = ("run", sequence_file(channels=["Cy5"]), "--out", tmp_path / "run.ome.zarr")
    refused(*run, "--config", tmp_path / "no.cfg", words=["There is no configuration", "no.cfg"])
    refused(*run, "--config", tmp_path, words=["There is no configuration"])
    (tmp_path / "bad.cfg").write_text("Device,Camera,NoSuchAdapter,DCam\n")
    refused(*run, "--config", tmp_path / "bad.cfg", words=["could not load", "NoSuchAdapter"])
    (tmp_path / "noise.cfg").write_bytes(bytes(range(256)))
    refused(*run, "--config", tmp_path / "noise.cfg", words=["no camera"])
    config = demo_config(tmp_path, without="PixelSize")
    refused(*run, "--config", config, words=["not calibrated", "--pixel-size"])
    refused(*run, "--config", config, "--replay", tmp_path, words=["--config and --replay"])


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "0"])
def test_pixel_sizes_that_are_none(livestain, sequence_file, tiny_bundle, tmp_path, size):
    out = tmp_path / "run.ome.zarr"
    ended = livestain(
        *("run", sequence_file(), "--out", out, "--model", f"mitochondria={tiny_bundle}"),
        *("--pixel-size", size),
    )
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert not out.exists()


def test_recordings(refused, sequence_file, png_movie, tmp_path):
    run = ("run", sequence_file(channels=[BRIGHTFIELD]), "--out", tmp_path / "run.ome.zarr")
    refused(*run, "--replay", tmp_path / "no", words=["There is no folder", "no to replay"])
    (tmp_path / "empty").mkdir()
    refused(*run, "--replay", tmp_path / "empty", words=["holds no PNG or TIFF"])
    movie = png_movie(t=1)
    refused(*run, "--replay", movie, words=["pixel size", "--pixel-size UM"])
    refused(*run, "--replay", movie, "--pixel-size", 0.1, words=["has 2 time points", "Shorten"])
    strange = sequence_file(name="strange.yaml", channels=["DAPI"])
    refused(
        *("run", strange, "--out", tmp_path / "run.ome.zarr"),
        *("--replay", movie, "--pixel-size", 0.1),
        words=["no channel 'DAPI'", "it has: Brightfield, Mitochondria"],
    )
    colour = tmp_path / "colour"
    colour.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(colour / "1.png")
    refused(
        *run, "--replay", colour, "--pixel-size", 0.1, words=["is a colour image", "one grey plane"]
    )
    uneven = png_movie(t=2, name="uneven")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(uneven / "brightfield" / "t009.png")
    refused(*run, "--replay", uneven, "--pixel-size", 0.1, words=["equal names", "t009.png"])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(uneven / "mitochondria" / "t009.png")
    refused(*run, "--replay", uneven, "--pixel-size", 0.1, words=["same size", "9 x 9"])


def test_status_of_no_store(refused, tmp_path):
    refused("status", tmp_path / "no.ome.zarr", words=["no.ome.zarr"])
    refused("status", tmp_path, words=[str(tmp_path)])


def test_in_a_process_of_its_own(livestain_process, sequence_file, tmp_path):
    before = everything(tmp_path)
    ended = livestain_process(
        "run", sequence_file(channels=[VIRTUAL]), "--out", tmp_path / "run.ome.zarr"
    )
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("livestain: The sequence has the virtual channel 'mitochondria'")
    assert set(everything(tmp_path)) - set(before) == {tmp_path / "sequence.yaml"}

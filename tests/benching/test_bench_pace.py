"""What a run with a camera may still owe, and what its answer is about."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from livestain.benching import BenchSettings
from livestain.benching.machine import names_of_folders, scrubbed
from livestain.bundle import read_bundle
from livestain.bundle.description import WindowSpec
from livestain.cli.bench import _command, _models
from livestain.errors import BundleError
from livestain.live.pace import held_back, least_planes, measure_pace, pace_sequence
from livestain.planes import PlaneIndex


def of_window(tiny_bundle, **window):
    """The tiny bundle as if it had another window; it is not run."""
    bundle = read_bundle(tiny_bundle)
    spec = bundle.description.input.model_copy(update={"window": WindowSpec(**window)})
    description = bundle.description.model_copy(update={"input": spec})
    return dataclasses.replace(bundle, description=description)


@pytest.mark.parametrize(
    "window",
    [{}, {"z": 3}, {"z": 9}, {"past": 4}, {"future": 2}, {"z": 3, "future": 1}, {"z": "all"}],
    ids=str,
)
def test_what_waits_for_the_last_frame_is_counted(tiny_bundle, window):
    """By hand: of the planes of a run of three time points, those whose window has its last frame."""
    bundle = of_window(tiny_bundle, **window)
    spec = bundle.description.input.window
    n_z = 16 if spec.whole_stack else spec.n_z
    last = PlaneIndex(0, 4, 0, n_z - 1)
    waiting = sum(
        last in spec.window().sources(PlaneIndex(0, t, 1, z), 0, n_t=5, n_z=n_z)
        for t in range(5)
        for z in range(n_z)
    )
    assert waiting <= held_back(bundle)
    assert least_planes(bundle) >= 2 * (3 + waiting)
    assert least_planes(bundle) % n_z == 0
    frames = len(list(pace_sequence(bundle, interval_ms=1.0, planes=least_planes(bundle))))
    assert frames >= least_planes(bundle)


def test_too_few_frames_say_nothing(tiny_bundle, tmp_path):
    bundle = of_window(tiny_bundle, z="all")
    with pytest.raises(BundleError, match=r"16 frames are too few.*--planes 48"):
        measure_pace(bundle, tmp_path / "run.zarr", size=64, interval_ms=1.0, planes=16)


def test_a_folder_given_as_a_dot_takes_no_dots_out(tiny_bundle, monkeypatch):
    monkeypatch.chdir(tiny_bundle)
    bundle = dataclasses.replace(read_bundle("."), path=type(tiny_bundle)())
    told = scrubbed(
        {"torch": "2.13.0", "at": f"in {tiny_bundle.resolve()}"}, names_of_folders([bundle])
    )
    assert told == {"torch": "2.13.0", "at": f"in {bundle.name}"}


def test_all_goes_on_without_a_bad_one_and_names_are_found_again(
    tiny_bundle, tmp_path, monkeypatch
):
    here = tmp_path / "models"
    monkeypatch.setattr("livestain.bundle.find.search_path", lambda: [here])
    for name in ("good", "bad"):
        shutil.copytree(tiny_bundle, here / name)
    (here / "bad" / "rdf.yaml").write_text("a: 1\n")
    found, left_out = _models([], every=True)
    assert [bundle.path.name for bundle in found] == ["good"]
    assert len(left_out) == 1
    assert left_out[0].startswith("bad was left out: ")
    assert str(tmp_path) not in left_out[0]
    assert _command(found, BenchSettings()).startswith("livestain bench good ")
    shutil.rmtree(here / "good")
    with pytest.raises(BundleError, match="bad was left out"):
        _models([], every=True)

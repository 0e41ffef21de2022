"""What a run's store and journal say of its dish: its planes are computed again, and it goes on over it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import useq

from livestain.errors import LivestainError, StoreError
from livestain.live.microscope import replay_core, simulated_core
from livestain.live.same_dish import check_same_dish, same_dish_core
from livestain.live.session import Session
from livestain.live.simulation import Simulation
from livestain.planes import PlaneIndex
from livestain.simulate import Dish, find_profile
from livestain.simulate.faults import Bubble, Faults, LampDrop
from livestain.simulate.light_dose import unbleached_from
from livestain.simulate.optics import Optics
from livestain.store import journal_path, open_store, read_journal

SHAPE = (48, 64)
FAULTS = Faults(
    seed=3,
    focus_drift_um_per_min=6.0,
    stage_jitter_um=4.0,  # beyond the margin of the lit field: the label bleaches unevenly
    flicker=0.1,
    lamp_drop=LampDrop(frame=9, remaining=0.5),
    bubble=Bubble(frame=4, frames=9),
    dropped_frames=(2,),
)


def a_sequence(*channels, t=3, z=2, **more):
    return useq.MDASequence(
        axis_order="tpcz",
        time_plan={"interval": 0, "loops": t} if t else None,
        channels=[
            {"group": "Channel", "config": name, "exposure": 40}
            for name in channels or ("Brightfield", "Mitochondria")
        ],
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        **more,
    )


@pytest.fixture
def new_core():
    cores = []

    def new(**settings):
        cores.append(simulated_core(**{"seed": 5, "shape": SHAPE, **settings}))
        return cores[-1]

    yield new
    while cores:
        cores.pop().unloadAllDevices()


def plane_lines(out):
    return [line for line in read_journal(journal_path(out)) if line["kind"] == "plane"]


def plane_again(core, line):
    """Compute a stored plane with the store's dish, from its journal line alone."""
    said, camera = line["shown"], core.camera
    for name, prop in {
        "bit_depth": "BitDepth",
        "gain": "Gain",
        "offset": "Offset",
        "read_noise": "ReadNoise",
    }.items():
        if name in said:
            core.setProperty("Dish", prop, int(said[name]) if name == "bit_depth" else said[name])
    dish = camera.through(said["objective"])
    assert dish.pixel_size_um == said["pixel_size_um"]
    how = {
        "frame": int(said["frame"]),
        "exposure_ms": line["exposure_ms"],
        "binning": int(said.get("binning", 1)),
    }
    lamp = said["lamp"]
    if "bubble" in said:
        seed, first, frames = map(int, said["bubble"].split(":"))
        bubble = Faults(seed=seed, bubble=Bubble(frame=first, frames=frames))
        lamp = bubble.shadow(how["frame"], dish.shape) * np.float32(lamp)
    place = said["time_s"], said["z_um"], (said["x_um"], said["y_um"])
    if said["channel"] == "brightfield":
        image = dish.brightfield(*place, lamp=lamp, **how)
    else:
        share = unbleached_from(str(said["unbleached"]), dish.shape)
        image = dish.fluorescence(*place, lamp=lamp, label=said["label"], unbleached=share, **how)
    if "roi" in said:
        x, y, width, height = map(int, said["roi"].split(","))
        image = image[y : y + height, x : x + width]
    return image


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"Dish.Binning": 2, "roi": (4, 8, 16, 12), "Objective.Label": "Simulated 100x"},
        {"Dish.BitDepth": 12, "Dish.Gain": 0.2, "Dish.Offset": 50, "Dish.ReadNoise": 3.0},
    ],
    ids=["plain", "binned", "sensor"],
)
def test_every_stored_plane_is_computed_again(new_core, tmp_path, properties):
    out = tmp_path / "run.ome.zarr"
    core = new_core(seed=6, faults=FAULTS)
    for name, value in properties.items():
        if "." in name:
            core.setProperty(*name.split("."), value)
    if "roi" in properties:
        core.setROI(*properties["roi"])
    report = Session(core, a_sequence(), out).run()
    assert report.planes_acquired == 3 * 2 * 2 - 1
    lines = plane_lines(out)
    assert {"bubble" in line["shown"] for line in lines} == {True, False}
    other = same_dish_core(out)
    with open_store(out) as store:
        for line in lines:
            index = PlaneIndex(*line["index"])
            np.testing.assert_array_equal(store.read(index), plane_again(other, line))
    other.unloadAllDevices()


def test_a_dish_of_ones_own_is_told_whole(new_core):
    own = find_profile("h9c2-60x")
    optics = Optics(numerical_aperture=1.1)
    sensor = own.sensor.model_copy(update={"gain": 0.5})
    dish = Dish(9, own, shape=SHAPE, pixel_size_um=0.09, optics=optics, sensor=sensor)
    core = new_core(dish=dish, faults=Faults(dropped_frames=1.0), seconds_per_timepoint=None)
    core.setProperty("Dish", "Gain", 0.1)  # of the run, told with its planes
    told = json.loads(json.dumps(core.simulation()["simulation"]))
    made = Simulation.parse(told, where="here")
    assert made == Simulation.of_camera(core.camera)
    assert (made.optics, made.sensor, made.seconds_per_timepoint) == (optics, sensor, None)
    assert made.faults == Faults(dropped_frames=1.0)
    np.testing.assert_array_equal(made.dish().fluorescence(7.0), dish.fluorescence(7.0))
    plain = Simulation.of_camera(new_core().camera).to_dict()
    assert "optics" not in plain
    assert plain["faults"] == {}


def test_a_run_goes_on_over_its_own_dish(new_core, tmp_path, livestain_resume):
    """By the command alone, which knows neither seed nor profile nor faults but from the store."""
    out, whole = tmp_path / "run.ome.zarr", tmp_path / "whole.ome.zarr"
    faults = Faults(dropped_frames=(1,), stage_jitter_um=0.3)
    sequence = a_sequence("Mitochondria", t=6, z=1)
    Session(new_core(seed=8, faults=faults), sequence, whole).run()
    core = new_core(seed=8, faults=faults)
    core.mda.engine.use_hardware_sequencing = False
    session = Session(core, sequence, out)
    session.plane_acquired.connect(lambda plane: plane.index.t == 2 and session.cancel())
    taken = session.run().planes_acquired
    assert 2 <= taken < 5
    dose = core.light_report()
    again = same_dish_core(out)
    assert again.light_report().excitation_j_cm2 == pytest.approx(
        dose.excitation_j_cm2 * taken / (taken + 1), rel=0.2
    ), "but for the frame that was lost"
    again.unloadAllDevices()
    result = livestain_resume(out, code=1)  # one was lost
    assert (result["planes_acquired"], result["planes_missing"]) == (5 - taken, 1)
    lines = {tuple(line["index"]): line["shown"] for line in plane_lines(out)}
    assert sorted(i[1] for i in lines) == [0, 2, 3, 4, 5]
    assert sorted(said["frame"] for said in lines.values()) == [0, 2, 3, 4, 5]
    shares = [said["unbleached"] for _, said in sorted(lines.items())]
    assert shares == sorted(shares, reverse=True)
    expected = {tuple(line["index"]): line["shown"] for line in plane_lines(whole)}
    for index, said in lines.items():
        for key in ("time_s", "z_um", "x_um", "y_um", "frame"):
            assert said[key] == expected[index][key]


@pytest.fixture
def livestain_resume(capfd):
    from livestain.cli.app import run

    def call(*arguments, code=0):
        capfd.readouterr()
        ended = run(["resume", *map(str, arguments), "--json"])
        told = capfd.readouterr()
        assert ended == code, told.err
        return json.loads(told.out.splitlines()[-1]) if code < 2 else told.err

    return call


def test_another_dish_is_refused(new_core, tmp_path, livestain_resume):
    out = tmp_path / "run.ome.zarr"
    core = new_core()
    core.mda.engine.use_hardware_sequencing = False
    session = Session(core, a_sequence("Brightfield", t=4, z=1), out)
    session.plane_acquired.connect(lambda plane: session.cancel())
    session.run()
    was = journal_path(out).read_bytes()
    changed = find_profile("hela-60x").model_copy(update={"glow": 0.5})
    for settings, words in (
        ({"seed": 6}, "a dish of seed 5, and the microscope's has seed 6"),
        ({"profile": "hela-60x-dic"}, "a dish of profile hela-60x, and the microscope's has hela-"),
        ({"profile": changed}, "has hela-60x with other settings"),
    ):
        with pytest.raises(StoreError, match=words):
            Session.resume(new_core(**settings), out).start()
    # A run that is not known to be simulated is never mixed with simulated cells.
    with open_store(out, mode="r+") as store:
        store.update_attributes({"simulation": None})
    with pytest.raises(LivestainError, match="does not say that it was recorded on a simulated"):
        Session.resume(new_core(), out).start()
    err = livestain_resume(out, code=2)
    assert "was not recorded on the simulated microscope" in " ".join(err.split())
    assert "Traceback" not in err
    assert journal_path(out).read_bytes() == was


def test_a_microscope_does_not_go_on_with_a_simulated_run(new_core, tmp_path):
    out = tmp_path / "run.ome.zarr"
    core = new_core()
    Session(core, a_sequence("Brightfield", t=1, z=1), out).run()
    replay = replay_core(out)
    with pytest.raises(StoreError, match=r"simulated dish \(seed 5, hela-60x\), and this micro"):
        check_same_dish(core.simulation()["simulation"], replay, out)
    check_same_dish(None, replay, out)
    replay.source.close()
    replay.unloadAllDevices()


def run(core, sequence):
    """Run a sequence; return (image, camera's metadata) by channel's name and z."""
    frames = {}

    def keep(image, event, meta):
        frames[event.channel.config, event.index.get("z", 0)] = (
            image.copy(),
            meta["camera_metadata"],
        )

    core.mda.events.frameReady.connect(keep)
    try:
        core.mda.run(sequence)
    finally:
        core.mda.events.frameReady.disconnect(keep)
    return frames


@pytest.mark.parametrize("triggered", [True, False])
def test_a_run_without_a_time_plan_stands_still(new_core, triggered):
    """Planes of a stack and its channels show the same cells at one place; the same run the same pixels."""
    given = []
    for _ in range(2):
        core = new_core(faults=Faults(stage_jitter_um=0.4))
        core.mda.engine.use_hardware_sequencing = triggered
        given.append(run(core, a_sequence(t=0)))
    places = {
        tuple(camera[f"Dish-{name}"] for name in ("time_s", "x_um", "y_um"))
        for _, camera in given[0].values()
    }
    assert len(given[0]) == 4
    assert len(places) == 1
    for key, (image, _) in given[0].items():
        np.testing.assert_array_equal(image, given[1][key][0])


def test_truth_is_of_the_newest_run_also_without_time_and_depth(new_core):
    core = new_core()
    run(core, a_sequence("Brightfield", t=2, z=2))
    assert core.truth("mitochondria", PlaneIndex(0, 1, 0, 1)) is not None
    run(core, a_sequence("Brightfield", t=0, z=1, stage_positions=[(0, 0, 0), (9, 0, 0)]))
    assert core.truth("mitochondria", PlaneIndex(0, 1, 0, 1)) is None
    first, second = (core.truth("mitochondria", PlaneIndex(p, 0, 0, 0)) for p in (0, 1))
    np.testing.assert_array_equal(first, core.dish.truth())
    np.testing.assert_allclose(second, core.dish.truth(xy_um=(9.0, 0.0)), rtol=1e-5, atol=1e-5)


def test_every_objective_looks_into_the_same_medium(new_core):
    """Oil is spherically aberrated on cells in water, whoever put it in."""
    core = new_core()
    for preset, immersion in (("60X", 1.333), ("100X", 1.518), ("20X", 1.333)):
        core.setConfig("Objective", preset)
        optics = core.dish.optics
        assert (optics.medium, optics.refractive_index) == (1.333, immersion)

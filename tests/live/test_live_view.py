"""Live views and bursts of the showing camera: paced, stopped at any time, and never taken for snaps."""

from __future__ import annotations

import threading
import time

import pytest
import useq

from livestain.errors import MicroscopeError
from livestain.live.microscope import simulated_core
from livestain.simulate import Dish
from livestain.simulate.faults import Faults

SHAPE = (32, 32)


@pytest.fixture(scope="module")
def dish():
    return Dish(5, shape=SHAPE)


@pytest.fixture
def new_core(dish):
    cores = []

    def new(**settings):
        cores.append(simulated_core(dish=dish, **settings))
        cores[-1].setConfig("Channel", "Mitochondria")
        return cores[-1]

    yield new
    while cores:
        cores.pop().unloadAllDevices()


def wait_until(true, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.002)


def ended(core):
    """Stop a live view; return whether its thread has ended with it."""
    thread = core._acquisition_thread
    core.stopSequenceAcquisition()
    thread.join(20)  # the core's own patience is 2 s
    return not thread.is_alive()


@pytest.mark.parametrize("lost", [0.0, 1.0])
def test_a_live_view_lights_the_cells_no_longer_than_it_runs(new_core, lost):
    core = new_core(faults=Faults(dropped_frames=lost))
    core.setExposure(20)
    began = time.perf_counter()
    core.startContinuousSequenceAcquisition(0)
    wait_until(lambda: core.light_report().exposures.get("mitochondria", 0) >= 5)
    assert ended(core)
    ran_ms = 1e3 * (time.perf_counter() - began)
    exposures = core.light_report().exposures["mitochondria"]
    assert 20 * (exposures - 1) <= ran_ms
    assert not core.isSequenceRunning()


@pytest.mark.parametrize(
    "faults",
    [
        Faults(dropped_frames=1.0),
        Faults(slow_readout_ms=60_000.0),
        Faults(dropped_frames=1.0, slow_readout_ms=60_000.0),
    ],
    ids=["lost", "slow", "both"],
)
@pytest.mark.parametrize("frames", [None, 1_000_000], ids=["live", "burst"])
def test_what_gives_no_frame_is_stopped_all_the_same(new_core, faults, frames):
    core = new_core(faults=faults)
    core.setShutterOpen(False)
    if frames is None:
        core.startContinuousSequenceAcquisition(0)
    else:
        core.startSequenceAcquisition(frames, 0, True)
    assert core.isSequenceRunning()
    assert ended(core)
    assert core.getRemainingImageCount() == 0
    assert not core.getShutterOpen()


def test_a_camera_that_is_unloaded_stops(new_core):
    core = new_core(faults=Faults(slow_readout_ms=60_000.0))
    core.startContinuousSequenceAcquisition(0)
    thread = core._acquisition_thread
    core.unloadDevice("Dish")
    thread.join(20)
    assert not thread.is_alive()


def test_a_burst_of_one_frame_is_no_snap(new_core, monkeypatch):
    """What goes wrong on the core's own thread is never printed there, but kept."""
    core = new_core(faults=Faults(dropped_frames=(0,), failed_snaps=(1,)))

    def burst_of_one():
        core.startSequenceAcquisition(1, 0, True)
        wait_until(lambda: not core.isSequenceRunning())
        return core.getRemainingImageCount()

    assert burst_of_one() == 0, "lost"
    assert burst_of_one() == 1, "only snaps fail"
    assert core.camera.error is None
    core.camera.faults = Faults(failed_snaps=(2,))
    with pytest.raises(MicroscopeError, match="failed to take the frame"):
        core.snapImage()

    def broken(scene):
        raise ValueError("no picture")

    monkeypatch.setattr(core.camera, "show", broken)
    assert burst_of_one() == 0
    assert isinstance(core.camera.error, ValueError)
    with pytest.raises(ValueError, match="no picture"):
        core.snapImage()


def test_no_frame_number_comes_twice_where_the_buffer_overflows(new_core):
    core = new_core()
    core.setCircularBufferMemoryFootprint(1)
    numbers = []
    show = core.camera.show

    def watch(scene):
        numbers.append(scene.number)
        return show(scene)

    core.camera.show = watch
    frame = 2 * SHAPE[0] * SHAPE[1]
    core.startSequenceAcquisition(2 * 2**20 // frame, 0, True)
    wait_until(lambda: not core.isSequenceRunning())
    assert core.isBufferOverflowed()
    core.snapImage()
    assert numbers == list(range(len(numbers)))


def test_what_comes_between_two_looks_is_not_left_in_the_buffer(new_core, monkeypatch):
    """The engine looks whether a frame is there, then whether more will come; the last came in between."""
    core = new_core()
    count = core.getRemainingImageCount

    def looked():
        n, thread = count(), core._acquisition_thread
        if n == 0 and thread is not None:
            thread.join(20)
        return n

    monkeypatch.setattr(core, "getRemainingImageCount", looked)
    frames = []
    core.mda.events.frameReady.connect(lambda image, event, meta: frames.append(image))
    core.mda.run(useq.MDASequence(channels=["Mitochondria"], time_plan={"interval": 0, "loops": 5}))
    assert len(frames) == 5
    assert not core.isSequenceRunning()

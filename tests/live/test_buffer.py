"""A burst that fits into memory loses no frame, however long a frame is held up."""

import time

import pytest
import useq
from pymmcore_plus import CMMCorePlus

from livestain.live import buffer
from livestain.live.buffer import burst_buffer, free_memory
from livestain.live.leaving import leave_quietly
from livestain.live.session import Session
from livestain.store import store_status


@pytest.fixture
def demo_core():
    """Micro-Manager's own demo camera at its default of half a megabyte a plane, and a 2 MB buffer."""
    core = CMMCorePlus()
    leave_quietly(core)
    core.loadSystemConfiguration()
    camera = core.getCameraDevice()
    core.setProperty(camera, "PixelType", "16bit")
    core.setProperty(camera, "FastImage", "1")
    core.setCircularBufferMemoryFootprint(2)
    yield core
    core.unloadAllDevices()
    del core


def burst(n):
    return useq.MDASequence(
        time_plan={"interval": 0, "loops": n},
        channels=[{"group": "Channel", "config": "DAPI", "exposure": 1}],
    )


def test_the_buffer_holds_the_longest_burst_and_is_put_back(demo_core):
    with burst_buffer(demo_core, burst(20)) as megabytes:
        assert (
            megabytes == demo_core.getCircularBufferMemoryFootprint() == 11
        )  # 21 planes, rounded up
        demo_core.initializeCircularBuffer()
        assert demo_core.getBufferTotalCapacity() >= 20
    assert demo_core.getCircularBufferMemoryFootprint() == 2


def test_a_buffer_that_is_large_enough_is_not_touched(demo_core):
    demo_core.setCircularBufferMemoryFootprint(32)
    with burst_buffer(demo_core, burst(20)) as megabytes:
        assert megabytes == demo_core.getCircularBufferMemoryFootprint() == 32
    assert demo_core.getCircularBufferMemoryFootprint() == 32


def test_snaps_need_no_buffer(demo_core):
    demo_core.mda.engine.use_hardware_sequencing = False
    with burst_buffer(demo_core, burst(20)) as megabytes:
        assert megabytes == 2


def test_the_buffer_leaves_memory_to_others(demo_core, monkeypatch):
    monkeypatch.setattr(buffer, "free_memory", lambda: 8 * 5 * 2**20)
    with burst_buffer(demo_core, burst(20)) as megabytes:
        assert megabytes == 5


def test_the_buffer_is_put_back_after_a_failure(demo_core):
    with pytest.raises(ValueError, match="inside"), burst_buffer(demo_core, burst(20)):
        raise ValueError("inside")
    assert demo_core.getCircularBufferMemoryFootprint() == 2


def test_there_is_free_memory():
    assert 2**24 < free_memory() < 2**50


def test_a_frame_held_up_for_a_whole_burst_costs_none(demo_core, tmp_path):
    """Without room for the burst this ends with "Buffer overflowed" and 4 of 24 planes."""
    held = []

    def hold_until_the_camera_is_done(*_):
        if not held:
            deadline = time.monotonic() + 30
            while demo_core.isSequenceRunning() and time.monotonic() < deadline:
                pass
            held.append(demo_core.isSequenceRunning())

    demo_core.mda.events.frameReady.connect(hold_until_the_camera_is_done)
    out = tmp_path / "run.ome.zarr"
    report = Session(demo_core, burst(24), out, pixel_size_um=0.1).run()
    assert held == [False]
    assert report.planes_acquired == 24
    assert store_status(out).missing == 0

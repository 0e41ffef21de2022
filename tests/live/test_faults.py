"""Faults of disk and memory through the real runner: each ends in the state that is described.

Elsewhere: frames that the camera loses and snaps that fail (test_lost_frames), a slow model by each lag
policy (test_lag, test_virtual), workers killed, hung and restarted and a raising slot (test_session,
tests/stain/test_worker_process), a worker of several (tests/stain/test_team).
"""

from __future__ import annotations

import struct
import sys
import threading
import time

import numpy as np
import pytest
import useq
from pymmcore_plus import CMMCorePlus

from livestain.bundle import read_bundle
from livestain.cli.devices import model_words
from livestain.cli.driving import drive
from livestain.errors import StoreError
from livestain.inference import Stainer, backends
from livestain.inference.backends import Folded
from livestain.live import buffer, recorder
from livestain.live.leaving import leave_quietly
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.store import journal_path, open_store, read_journal, store_status
from livestain.store.chunks import chunk_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="locks files as Linux does")


def a_sequence(t, z=1, virtual=False, exposure=5):
    return useq.MDASequence(
        axis_order="tpgcz",
        time_plan={"interval": 0, "loops": t},
        z_plan={"range": 0.5 * (z - 1), "step": 0.5} if z > 1 else None,
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": exposure},
            *([{"group": "Virtual", "config": "mitochondria"}] if virtual else []),
        ],
    )


@pytest.fixture
def new_core():
    cores = []

    def new(shape=(64, 80)):
        cores.append(simulated_core(5, shape=shape))
        return cores[-1]

    yield new
    while cores:
        cores.pop().unloadAllDevices()


def faults(out):
    return [line for line in read_journal(journal_path(out)) if line["kind"] == "fault"]


class SlowDisk:
    """Holds up the writes of a run's raw planes by locks on their files, which the writer must take first.

    Locks of an open file (Linux), since a process does not wait for its own locks of the other kind.
    """

    def __init__(self, session):
        self._session = session
        self._files = {}
        self.most_waiting = 0
        session.core.mda.events.sequenceStarted.connect(self._lock)

    def _lock(self, *_):
        import fcntl

        store = self._session.store
        for index in store.plan.planned_indices(0):
            chunk = chunk_file(store.path / "0", index.t, index.c, index.z)
            file = chunk.with_name(chunk.name + ".__lock").open("w")
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
            self._files[index] = file

    def let_one_go(self):
        """Let the oldest plane be written; False if none is held any more."""
        self.most_waiting = max(self.most_waiting, self._session._recorder._bytes)
        if self._files:
            self._files.pop(min(self._files)).close()
        return bool(self._files)

    def recover(self):
        while self.let_one_go():
            pass


@pytest.fixture
def waited(monkeypatch):
    """Return a function that returns when the acquisition has waited for the disk for a whole look at it.

    It looks once before it waits, once when it begins to, and then again after each `_LOOK_S`; so the time
    that it has waited by then is worth a note, however busy this machine is.
    """
    full = threading.Semaphore(0)
    has_room = recorder.Recorder._has_room

    def look(self, nbytes):
        room = has_room(self, nbytes)
        if not room:
            full.release()
        return room

    def wait():
        for _ in range(3):
            assert full.acquire(timeout=60), "the acquisition never had to wait for the disk"

    assert recorder._LOOK_S > recorder._NOTEWORTHY_S
    monkeypatch.setattr(recorder.Recorder, "_has_room", look)
    return wait


@linux
def test_a_disk_slower_than_the_camera_slows_the_run_and_loses_nothing(new_core, tmp_path, waited):
    out = tmp_path / "run.ome.zarr"
    plane = 64 * 80 * 2
    core = new_core()
    core.mda.engine.use_hardware_sequencing = False
    session = Session(core, a_sequence(t=10), out, max_bytes_in_flight=3 * plane)
    disk = SlowDisk(session)
    over = threading.Event()
    core.mda.events.sequenceFinished.connect(lambda *_: over.set())
    with session:
        waited()
        while not over.wait(0.03):
            disk.let_one_go()
        disk.recover()
    report = session.report
    assert (report.planes_acquired, report.planes_missing) == (10, 0)
    assert store_status(out).missing == 0
    assert disk.most_waiting == 3 * plane, "never more than the bound"
    (note,) = report.notes
    assert "is slower than the camera: the acquisition waited for it" in note
    assert [fault["why"] for fault in faults(out)] == [note]


@linux
def test_a_burst_that_a_slow_disk_makes_overflow_ends_naming_the_disk(
    tmp_path, monkeypatch, waited
):
    monkeypatch.setattr(buffer, "free_memory", lambda: 0)  # the buffer cannot hold the burst
    core = CMMCorePlus()
    leave_quietly(core)
    core.loadSystemConfiguration()
    camera = core.getCameraDevice()
    core.setProperty(camera, "PixelType", "16bit")
    core.setProperty(camera, "FastImage", "1")
    core.setCircularBufferMemoryFootprint(2)
    out = tmp_path / "run.ome.zarr"
    sequence = useq.MDASequence(
        time_plan={"interval": 0, "loops": 40},
        channels=[{"group": "Channel", "config": "DAPI", "exposure": 2}],
    )
    session = Session(core, sequence, out, pixel_size_um=0.1, max_bytes_in_flight=2 * 512 * 512 * 2)
    disk = SlowDisk(session)
    over = threading.Event()
    session.failed.connect(lambda _: over.set())
    session.start()
    try:
        deadline = time.monotonic() + 30
        while not core.isBufferOverflowed() and time.monotonic() < deadline:
            pass
        waited()
        while not over.wait(0.03):
            disk.let_one_go()
        disk.recover()
        with pytest.raises(StoreError, match="slower than the camera") as caught:
            session.wait()
    finally:
        session.abort()
        core.unloadAllDevices()
    assert "Meanwhile the camera's buffer overflowed" in str(caught.value)
    assert isinstance(caught.value.__cause__, MemoryError)
    report, status = session.report, store_status(out)
    assert 2 <= report.planes_acquired < 40
    assert (status.present, status.impossible) == (report.planes_acquired, report.planes_missing)
    assert read_journal(journal_path(out))[-1]["failed"]


@linux
def test_a_disk_that_takes_nothing_ends_the_run_naming_it(new_core, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "_STUCK_S", 0.4)
    out = tmp_path / "run.ome.zarr"
    plane = 64 * 80 * 2
    session = Session(new_core(), a_sequence(t=3, z=4), out, max_bytes_in_flight=4 * plane)
    disk = SlowDisk(session)
    core = session.core
    core.mda.events.sequenceStarted.connect(lambda *_: [disk.let_one_go() for _ in range(3)])
    try:
        with pytest.raises(StoreError, match=r"has written nothing for 0 s while 0 MB wait"):
            session.run()
    finally:
        disk.recover()
    status = store_status(out)
    assert 3 <= status.present < 12, "what was written stays"
    assert status.present + status.missing == 12


LIMIT = """
import ctypes, resource
ctypes.CDLL(None).mallopt(-3, 2**20)  # M_MMAP_THRESHOLD: what is freed is no address of ours any more
import livestain.inference.stainer, livestain.store.store  # what a worker has before it has a model
import torch
torch.set_num_threads(1)
torch.nn.Conv2d(8, 8, 3)(torch.zeros(1, 8, 64, 64))  # libraries that come with the first use
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + {more}, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_worker_without_memory_for_whole_planes_goes_on_in_tiles(
    new_core, bundle_of, tmp_path, monkeypatch
):
    """A real limit of the worker's process, while it warms up: what it finds then it keeps for the run."""
    import resource

    (tmp_path / "sitecustomize.py").write_text(LIMIT.format(more=105 * 2**20))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # each thread's arena is addresses alone, and 64 MB
    out = tmp_path / "run.ome.zarr"
    bundle = bundle_of(width=16)
    session = Session(
        new_core((512, 512)),
        a_sequence(t=2, virtual=True),
        out,
        models={"mitochondria": str(bundle)},
        device="cpu",
        threads=1,
    )
    tell = session._on_worker

    def free_memory(kind, message):
        if kind == "ready":
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(message["pid"], resource.RLIMIT_AS, unlimited)
        tell(kind, message)

    session._on_worker = free_memory
    report = session.run()
    assert (report.planes_stained, report.planes_missing, report.worker_deaths) == (2, 0, 0)
    told = faults(out)
    assert told
    assert all("lacks memory on cpu for" in fault["why"] for fault in told)
    assert [fault["why"] for fault in told] == list(session.notes) == report.notes
    (model,) = report.models
    assert model["bundle"] == bundle.name
    assert model["tile"] == told[-1]["tile"]
    assert model["tile"][0] * model["tile"][1] < 512 * 512
    (line,) = [x for x in read_journal(journal_path(out)) if x["kind"] == "worker"]
    assert line["models"][0]["tile"] == model["tile"]
    with open_store(out) as store, Stainer(read_bundle(bundle), device="cpu") as whole:
        for place in store.plan.planned_indices(1):
            wanted = whole.stain(store.read(place.at(c=0))[None])[0]
            np.testing.assert_allclose(store.read_decoded(place), wanted, atol=0.0011)


class Filling(Folded):
    """A device whose memory somebody else fills while the run goes on."""

    def __init__(self):
        import torch

        super().__init__("folded", "fp32")
        self.full = threading.Event()
        self._error = torch.OutOfMemoryError

    def load(self, network, device):
        predict = super().load(network, device)

        def or_not(x):
            if self.full.is_set() and x.shape[-1] > 300:
                raise self._error("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
            return predict(x)

        return or_not


def test_memory_that_runs_out_in_mid_run_costs_no_plane(
    new_core, tiny_bundle, tmp_path, monkeypatch, capsys
):
    """With a worker in a thread, since nothing else can fill up a process at a given moment."""
    filling = Filling()
    monkeypatch.setattr(backends, "_BACKENDS", {**backends._BACKENDS, "folded": filling})
    out = tmp_path / "run.ome.zarr"
    session = Session(
        new_core((64, 400)),
        a_sequence(t=6, virtual=True),
        out,
        models={"mitochondria": str(tiny_bundle)},
        device="cpu",
        worker="thread",
    )
    session.plane_stained.connect(lambda stained: filling.full.set())
    report, code = drive(session, None)
    assert (report.planes_stained, report.planes_missing, code) == (6, 0, 0)
    (fault,) = faults(out)
    assert "lacks memory on cpu for planes of 64 x 400 pixels (2.00 GiB more)" in fault["why"]
    assert report.notes == [fault["why"]]
    assert report.models[0]["tile"] == fault["tile"] == [64, 200]
    on_terminal = " ".join(capsys.readouterr().err.split())
    assert on_terminal.count(f"livestain: {fault['why']}") == 1
    assert model_words(report.models[0]) == "tiny on cpu in tiles of 64 x 200 (folded)"
    kinds = [
        x["kind"] for x in read_journal(journal_path(out)) if x["kind"] in ("fault", "stained")
    ]
    assert kinds.index("fault") > 0
    with open_store(out) as store, Stainer(read_bundle(tiny_bundle), device="cpu") as whole:
        filling.full.clear()
        for place in store.plan.planned_indices(1):
            wanted = whole.stain(store.read(place.at(c=0))[None])[0]
            np.testing.assert_allclose(store.read_decoded(place), wanted, atol=0.0011)

"""Runs that are stopped, and where a session may be used from."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest
import useq

from livestain.errors import MicroscopeError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import journal_path, open_store, read_journal, store_status


def a_sequence(t=3, virtual=True):
    channels = [{"group": "Channel", "config": "Brightfield", "exposure": 5}]
    if virtual:
        channels.append({"group": "Virtual", "config": "mitochondria"})
    return useq.MDASequence(
        axis_order="tpgcz", time_plan={"interval": 0, "loops": t}, channels=channels
    )


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 80))
    yield core
    core.unloadAllDevices()
    del core


@pytest.fixture
def session(core, tiny_bundle, tmp_path):
    def make(**options):
        wanted = a_sequence(**options)
        models = {"mitochondria": str(tiny_bundle)} if len(wanted.channels) > 1 else None
        return Session(core, wanted, tmp_path / "run.ome.zarr", models=models, device="cpu")

    return make


def raw_and_virtual(path):
    with open_store(path) as store:
        return store.present(0)[0], store.present(1)[0]


@pytest.mark.parametrize("moment", ["before the runner", "before the first event", "at an event"])
def test_a_cancel_is_never_forgotten(session, moment):
    """The runner forgets one that meets it before its first event or between two."""
    one = session(t=1500, virtual=False)
    one.core.mda.engine.use_hardware_sequencing = False
    runner = one.core.mda
    if moment == "before the runner":
        run = runner.run

        def cancel_then_run(*args, **kwargs):
            one.cancel()
            return run(*args, **kwargs)

        runner.run = cancel_then_run
    elif moment == "before the first event":
        # The state that `cancel` sets here is overwritten when the event begins.
        waited = runner._wait_until_event

        def cancel_late(event):
            stop = waited(event)
            one.cancel()
            return stop

        runner._wait_until_event = cancel_late
    else:
        one.plane_acquired.connect(lambda a: one.cancel())
    report = one.run()
    assert report.interrupted
    assert report.planes_acquired < 100
    assert report.planes_missing == 1500 - report.planes_acquired


def test_ctrl_c_once_stops_acquiring_and_stains_what_is_owed(session):
    one = session(t=1500)
    one.plane_stained.connect(lambda s: one.cancelled or _thread.interrupt_main())
    report = one.run()
    assert report.interrupted
    assert 0 < report.planes_stained == report.planes_acquired < 1500
    raw, virtual = raw_and_virtual(one.out)
    np.testing.assert_array_equal(raw, virtual)


@pytest.mark.parametrize("use", ["run", "with"])
def test_ctrl_c_twice_stops_at_once_even_a_worker_that_hangs(session, use):
    one = session(t=1500)
    tell = one._on_worker
    stopped = threading.Event()

    def stop_worker(kind, message):
        tell(kind, message)
        if kind == "stained" and not stopped.is_set():
            os.kill(message["pid"], signal.SIGSTOP)
            stopped.set()
            _thread.interrupt_main()

    one._on_worker = stop_worker
    missing = one._ledger.missing
    again = []

    def then_again(*told):
        missing(*told)
        again.append(time.monotonic())
        _thread.interrupt_main()

    one._ledger.missing = then_again
    if use == "run":
        report = one.run()
    else:
        with one:
            pass
        report = one.wait()
    assert report.interrupted
    # A worker that is asked to leave, and hangs, is waited for 10 s; one that is killed is not.
    assert time.monotonic() - again[0] < 8
    assert report.planes_acquired > report.planes_stained > 0
    status = store_status(one.out)
    assert status.owed == report.planes_acquired - report.planes_stained
    assert status.present + status.missing == status.planned
    assert read_journal(journal_path(one.out))[-1]["interrupted"]


def test_an_error_within_the_block_stops_the_run(session):
    one = session(t=1500)
    with pytest.raises(ZeroDivisionError), one:
        raise ZeroDivisionError
    assert store_status(one.out).present < 1500
    assert one.cancelled


def test_a_block_waits_for_the_end(session):
    with session() as one:
        assert one.progress.planned_virtual == 3
        with pytest.raises(RuntimeError, match="runs once"):
            one.start()
    assert one.wait().planes_missing == 0
    assert one.read(PlaneIndex(0, 2, 1, 0)).dtype == np.float32
    assert one.read(PlaneIndex(0, 2, 0, 0)).dtype == np.uint16


def test_another_thread_may_run_it(session):
    one = session()
    reports = []
    thread = threading.Thread(target=lambda: reports.append(one.run()))
    thread.start()
    thread.join(60)
    assert reports[0].planes_stained == 3


def test_a_notebooks_loop_may_start_it_and_await_its_end(session):
    one = session()
    heard = []
    one.plane_stained.connect(heard.append)

    async def cell():
        one.start()
        return await asyncio.to_thread(one.wait)

    report = asyncio.run(cell())
    assert report.planes_missing == 0
    assert sorted(s.index.t for s in heard) == [0, 1, 2]


def test_waiting_has_an_end(session):
    with pytest.raises(RuntimeError, match="not started"):
        session().wait()
    one = session(t=1500)
    one.start()
    with pytest.raises(TimeoutError, match=r"not over after 0\.01 s"):
        one.wait(0.01)
    one.abort()
    assert one.wait(60).interrupted


def test_a_microscope_that_is_in_use_is_refused(session, tmp_path):
    one = session(t=1500, virtual=False)
    other = Session(one.core, a_sequence(virtual=False), tmp_path / "other.ome.zarr")
    acquiring = threading.Event()
    one.plane_acquired.connect(lambda a: acquiring.set())
    with one:
        assert acquiring.wait(30)
        with pytest.raises(MicroscopeError, match="runs another acquisition"):
            other.start()
        one.cancel()
    one.core.startContinuousSequenceAcquisition(0)
    with pytest.raises(MicroscopeError, match="live view"):
        other.start()
    one.core.stopSequenceAcquisition()
    assert not other.out.exists()
    assert other.run().planes_missing == 0

"""Several workers, one for each device, that look like one."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from livestain.errors import LivestainError, SettingsError
from livestain.stain.host import HostSettings, WorkerHost
from livestain.stain.share import Share

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.planes import PlaneIndex
    from livestain.stain.protocol import WorkerSetup

__all__ = ["WorkerTeam", "devices_of", "make_host"]


def devices_of(device: str) -> list[str]:
    """Return the devices that a choice names, one for each worker.

    Raises
    ------
    SettingsError
        If a name is empty.
    """
    devices = [name.strip() for name in device.split(",")]
    if not all(devices):
        raise SettingsError(
            f"The device is {device!r}; expected auto, cpu, cuda or cuda:N, or several with commas between "
            "them, such as cuda:0,cuda:1. Give one of these, or leave it out."
        )
    return devices


def make_host(
    setup: WorkerSetup,
    report: Callable[[str, dict[str, Any]], None],
    *,
    kind: Literal["process", "thread"] = "process",
    settings: HostSettings | None = None,
) -> WorkerHost | WorkerTeam:
    """Return a host of one worker, or of several where the setup names several devices.

    Parameters
    ----------
    setup, report, kind, settings
        See `WorkerHost`.

    Raises
    ------
    SettingsError
        If a device has no name.
    """
    devices = devices_of(setup.device)
    # Without models there are only pyramids, which need no device.
    if len(devices) == 1 or not setup.models:
        return WorkerHost(setup, report, kind=kind, settings=settings)
    return WorkerTeam(setup, devices, report, kind=kind, settings=settings)


class WorkerTeam:
    """One worker for each device; planes are divided by their places, so that workers need not speak.

    To a session it is what `WorkerHost` is. Each report has the number of its `worker`, and what went wrong
    names it. A worker that is given up for good leaves its share owed; the others go on.

    Parameters
    ----------
    setup, report, kind, settings
        See `WorkerHost`; only one report is made at a time.
    devices : list of str
        One for each worker; the same device may come more than once.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        devices: list[str],
        report: Callable[[str, dict[str, Any]], None],
        *,
        kind: Literal["process", "thread"] = "process",
        settings: HostSettings | None = None,
    ) -> None:
        self._devices = devices
        self._report = report
        self._telling = threading.Lock()
        on_cpu = sum(not device.startswith("cuda") for device in devices)
        threads = setup.threads
        if threads is None and on_cpu > 1 and kind == "process":
            threads = max(1, ((os.cpu_count() or 2) - 1) // on_cpu)
        self._hosts = [
            WorkerHost(
                setup.model_copy(
                    update={
                        "device": device,
                        "share": (worker, len(devices)),
                        "threads": threads,
                    }
                ),
                partial(self._tell, worker),
                kind=kind,
                settings=settings,
            )
            for worker, device in enumerate(devices)
        ]

    def _tell(self, worker: int, kind: str, message: dict[str, Any]) -> None:
        told = {**message, "worker": worker}
        if kind == "fault":
            told["why"] = f"{self._name(worker)}: {message['why']}"
        with self._telling:
            self._report(kind, told)

    def _name(self, worker: int) -> str:
        return f"worker {worker} ({self._devices[worker]})"

    def start(self) -> None:
        """Start all workers and wait until they are warm; see `WorkerHost.start`."""
        for host in self._hosts:
            host.begin()
        for host in self._hosts:
            host.start()

    def open(self, store: str) -> None:
        """Tell the warm workers which store to work on."""
        for host in self._hosts:
            host.open(store)

    def announce(self, index: PlaneIndex, ready_ns: int, committed_ns: int) -> None:
        """Tell all workers that a raw plane is in the store: windows reach over shares."""
        for host in self._hosts:
            host.announce(index, ready_ns, committed_ns)

    @property
    def models(self) -> list[dict[str, Any]]:
        """By worker and virtual channel; see `WorkerHost.models`."""
        return [
            {"worker": worker, **facts}
            for worker, host in enumerate(self._hosts)
            for facts in host.models
        ]

    @property
    def owed(self) -> int:
        """Number of planes the workers last said are owed."""
        return sum(host.owed for host in self._hosts)

    @property
    def deaths(self) -> int:
        """How often workers have died or been killed for hanging."""
        return sum(host.deaths for host in self._hosts)

    @property
    def error(self) -> BaseException | None:
        """Why the first worker that was given up for good was; it is named, and others are in its notes."""
        failed = [(worker, host.error) for worker, host in enumerate(self._hosts)]
        named = [self._named(worker, error) for worker, error in failed if error is not None]
        if not named:
            return None
        for other in named[1:]:
            named[0].add_note(str(other))
        return named[0]

    def _named(self, worker: int, error: BaseException) -> BaseException:
        if isinstance(error, LivestainError):
            return type(error)(f"{self._name(worker)}: {error}").with_traceback(error.__traceback__)
        if not hasattr(error, "__notes__"):
            error.add_note(f"in the thread that keeps {self._name(worker)}")
        return error

    def hopeless(self, target: PlaneIndex) -> bool:
        """Whether a virtual plane will not be stained any more, since its worker was given up."""
        return any(
            host.hopeless(target)
            and Share(worker, len(self._hosts)).has(
                target,
                whole_stack=any(m["whole_stack"] for m in host.models if m["c"] == target.c),
            )
            for worker, host in enumerate(self._hosts)
        )

    def finish(self, cancelled: threading.Event | None = None) -> bool:
        """Wait until nothing is owed but the shares of workers that were given up."""
        for host in self._hosts:
            host.ask_to_finish()
        done = [host.finish(cancelled) for host in self._hosts]
        return all(done)

    def close(self, *, at_once: bool = False) -> None:
        """Let all workers leave; see `WorkerHost.close`."""
        for host in self._hosts:
            host.ask_to_leave(at_once=at_once)
        for host in self._hosts:
            host.close(at_once=at_once)

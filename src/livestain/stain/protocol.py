"""What acquisition and worker say to each other: small JSON objects over one connection.

Pixels never travel here; both sides read and write the store. JSON, and not pickle, so that a message
can be read in a log and nothing that arrives is ever executed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from livestain.planes import PlaneIndex
from livestain.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["ChannelModel", "WorkerSetup", "index_of", "receive", "send"]


class ChannelModel(Settings):
    """Which deployed model fills which virtual channel."""

    c: int
    """The virtual channel's place in the store."""

    bundle: str
    """Folder of the bundle."""

    sha256: str
    """Its identity; a folder that holds another bundle by now is refused."""

    output: str
    """Name of the bundle's output that is stored in this channel."""

    flat_field: str | None = None
    """Path of the image by which planes of the first source are divided."""

    dark_frame: str | None = None
    """Path of the image that is taken from them."""

    device: str | None = None
    """Where it computes, where that is another than the setup's: there was no memory."""

    backend: str | None = None
    """Name of the backend that runs it, where that is another than the setup's."""

    tile_step: int = 0
    """How many times smaller tiles it begins with; 0: with whole planes."""


class WorkerSetup(Settings):
    """All that a worker needs to know before it can find out what is owed."""

    store: str | None = None
    """Path of the store; None: the message `open` will name it, once the models are warm."""

    shape: tuple[int, int]
    """Height and width of a plane, pixels."""

    pixel_size_um: float
    """Of the microscope, micrometres."""

    n_p: int = 1
    """Positions."""

    n_z: int = 1
    """Planes of a stack; models of whole stacks are warmed with as many."""

    z_step_um: float | None = None
    """Distance of the planes of a stack, micrometres; None: one plane, or uneven."""

    models: tuple[ChannelModel, ...] = ()
    """Models by channel; none: the worker only writes pyramid levels."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; several, between commas: a worker for each."""

    backend: str = "auto"
    """Name of the backend that runs the models; `auto`: LIVESTAIN_BACKEND, or else the fastest."""

    threads: int | None = None
    """Number of CPU threads the model may use; None leaves one core to the acquisition."""

    excluded: tuple[tuple[int, int, int, int], ...] = ()
    """Virtual planes that were given up and must not be tried again."""

    share: tuple[int, int] = (0, 1)
    """Which of the workers that divide the planes this is, and how many they are."""

    live: bool = True
    """Whether planes are still coming, so that lag policies count; afterwards all that is owed is done."""


def send(connection: Connection, kind: str, **fields: Any) -> None:
    """Send one message; indices may be given as `PlaneIndex`."""
    connection.send_bytes(json.dumps({"kind": kind, **fields}).encode())


def receive(connection: Connection) -> dict[str, Any]:
    """Wait for one message; EOFError or OSError when the other side is gone."""
    message: dict[str, Any] = json.loads(connection.recv_bytes())
    return message


def index_of(message: dict[str, Any]) -> PlaneIndex:
    """Return the plane that a message is about."""
    return PlaneIndex(*message["index"])

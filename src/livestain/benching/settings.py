"""What is measured, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from livestain.settings import FiniteSettings

__all__ = ["USUAL_DEPTH", "BenchSettings", "Job"]

USUAL_DEPTH = 16
"""Planes of a stack whose depth nobody has said, as `Stainer.warm_up` has it."""

_Side = Annotated[int, Field(ge=1, le=65536)]
_Interval = Annotated[float, Field(gt=0)]


class BenchSettings(FiniteSettings):
    """What `livestain bench` measures."""

    sizes: tuple[_Side, ...] = Field(default=(512, 1024, 2048), min_length=1)
    """Sides of the square frames, in pixels."""

    planes: int | None = Field(default=None, ge=1)
    """Planes of a stack, for models of whole stacks of any depth; none: 16."""

    intervals_ms: tuple[_Interval, ...] = Field(default=(10.0,), min_length=1)
    """Intervals between camera frames for which it is told whether a model keeps up, in milliseconds."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the model; none: as a run's worker takes them, all cores but one."""

    backends: tuple[str, ...] = ()
    """Names of the backends to measure; empty: all."""

    minutes: float | None = Field(default=None, gt=0)
    """Begin nothing that would not end within so many minutes; none: measure everything."""

    seconds: float = Field(default=2.0, gt=0)
    """For how long each backend predicts, after it is warm; at least three times, whatever they take."""


class Job(FiniteSettings):
    """What one child process is asked for; a line of JSON on its standard input."""

    kind: Literal["look", "roof", "store", "auto", "measure"]
    """Which devices and backends there are; the device's limits; reading and writing planes; what `auto`
    takes; one backend."""

    began: float
    """`time.time()` just before the process was started, in seconds."""

    bundle: str = ""
    """The model's folder."""

    backend: str = ""
    """Name of the backend, for `measure`."""

    device: str = "auto"
    """As in `BenchSettings`."""

    threads: int | None = None
    """As in `BenchSettings`."""

    size: int = 512
    """Side of the square frames, in pixels."""

    sizes: tuple[int, ...] = ()
    """For `look`: the sizes at which the work is counted."""

    planes: int | None = None
    """As in `BenchSettings`."""

    seconds: float = 2.0
    """As in `BenchSettings`."""

    precisions: tuple[str, ...] = ()
    """For `roof`: those in which products of matrices are timed."""

    folder: str = ""
    """For `store`: an empty folder on the disk that is measured."""

"""What a run tells while it goes on: a CSV table, TensorBoard, and pictures; a resumed run goes on in them.

All is kept in memory until `flush`, so that nothing waits for a disk in between, and a full one is told there
alone.
"""

from __future__ import annotations

import csv
import io
import os
import time
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from livestain.files import replacing
from livestain.pictures import save_picture, stretched
from livestain.training.extra import needs_train_extra

with needs_train_extra():
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.record_writer import RecordWriter
    from torch.utils.tensorboard.summary import image as image_summary
    from torch.utils.tensorboard.summary import scalar as scalar_summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

__all__ = ["RunLog", "draw_rows"]

_SIDE = 256
"""Largest side of a picture in the panel, in pixels."""

_TITLES = ("source", "prediction", "target")

_LINE = 16
"""Height of their line, in pixels."""

_PATIENCE_S = 30.0
"""Seconds after which a note is brought to the disk, if nothing else did before."""


class RunLog:
    """The logs of one run; opened by the process that writes.

    Parameters
    ----------
    folder : Path
        The run's folder: logs/metrics.csv, logs/events…, panels/latest.png.
    first : int
        Steps that were done before; what the logs hold of later ones is dropped, since it is done again.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self._table = folder / "logs" / "metrics.csv"
        self._panel = folder / "panels" / "latest.png"
        self._rows: list[dict[str, Any]] = []
        self._picture: NDArray[np.uint8] | None = None
        if first and self._table.is_file():
            with self._table.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= first]
        self._table.parent.mkdir(parents=True, exist_ok=True)
        # TensorBoard orders the files of one run by their names, so by the time in them.
        self._events = self._table.parent / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._buffer = io.BytesIO()
        self._records = RecordWriter(self._buffer)
        self._event(file_version="brain.Event:2")
        if first:
            # What comes again is forgotten: TensorBoard's own word for a job that was restarted.
            self._event(step=first + 1, session_log=SessionLog(status=SessionLog.START))
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        """Bring what is left to the disk, unless something worse is on its way."""
        try:
            self.flush()
        except OSError:
            if kind is None:
                raise

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Note values of a step, counted from 1."""
        self._rows.append({"step": step, **values})
        for name, value in values.items():
            self._event(step=step, summary=scalar_summary(name, value))
        if time.monotonic() - self._flushed > _PATIENCE_S:
            self.flush()

    def panel(self, step: int, picture: NDArray[np.uint8]) -> None:
        """Keep a picture, (y, x): in TensorBoard each, as a file the latest."""
        name = " | ".join(_TITLES)
        self._event(step=step, summary=image_summary(name, picture[None], dataformats="CHW"))
        self._picture = picture

    def flush(self) -> None:
        """Bring to the disk what is not yet there.

        Raises
        ------
        OSError
            If that cannot be done; the table is as it was.
        """
        keys = dict.fromkeys(key for row in self._rows for key in row)
        # The whole table, since a new column changes its head; it is small.
        with (
            replacing(self._table) as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, keys)
            writer.writeheader()
            writer.writerows(self._rows)
        with self._events.open("ab") as events:
            events.write(self._buffer.getbuffer())
        self._buffer.seek(0)
        self._buffer.truncate()
        if self._picture is not None:
            from PIL import Image

            self._panel.parent.mkdir(parents=True, exist_ok=True)
            save_picture(Image.fromarray(self._picture), self._panel)
            self._picture = None
        self._flushed = time.monotonic()

    def _event(self, **what: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **what).SerializeToString())


def draw_rows(rows: Sequence[Sequence[torch.Tensor]]) -> NDArray[np.uint8]:
    """Draw planes side by side under their titles, each stretched by itself; large ones are thinned out.

    Parameters
    ----------
    rows : sequences of tensor, (y, x)
        Source, prediction and target of an image, of any real dtype.
    """
    drawn = []
    for row in rows:
        pictures = []
        for plane in row:
            step = -(-max(plane.shape) // _SIDE)
            small = stretched(plane[::step, ::step].float().cpu().numpy())
            pictures.append(np.pad(small, ((1, 1), (1, 1))))
        drawn.append(np.concatenate(pictures, axis=1))
    width = max(row.shape[1] for row in drawn)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in drawn]
    return np.concatenate([_titles(width), *padded], axis=0)


def _titles(width: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("L", (width, _LINE))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(11)
    for n, title in enumerate(_TITLES):
        draw.text((4 + n * width // len(_TITLES), 1), title, fill=230, font=font)
    return np.asarray(strip)

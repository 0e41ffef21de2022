"""What `run` and `demo` share: progress on the terminal, latest.png, the table and the JSON at the end."""

from __future__ import annotations

import json
import os
import threading
import traceback
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from livestain.cli.codes import EXIT_DONE, EXIT_INTERRUPTED, EXIT_MISSING
from livestain.cli.devices import model_words
from livestain.cli.interrupts import Interrupts
from livestain.cli.window import show_news, watch
from livestain.errors import LivestainError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from livestain.live.report import RunReport
    from livestain.live.scoring import ChannelScore
    from livestain.live.session import Session
    from livestain.monitor.viewer import RunViewer

__all__ = [
    "LatestPicture",
    "drive",
    "drive_and_tell",
    "print_json",
    "summary",
]

_REDRAW_S = 0.15


def drive(
    session: Session, latest: Path | None, viewer: RunViewer | None = None
) -> tuple[RunReport, int]:
    """Run a session with a progress display on standard error, and a window if there is one.

    Ctrl-C once stops the acquisition and stains what is owed, twice stops at once. Closing the window
    stops nothing.

    Returns
    -------
    report : RunReport
        How it ended.
    code : int
        Exit code: 0 all done, 1 something is missing or broke (it was told), 130 interrupted.

    Raises
    ------
    LivestainError
        Before anything was touched: the input cannot work.
    typer.Exit
        With code 1, after the error was told, where there is not even a report.
    """
    console = Console(stderr=True)
    ended = threading.Event()
    for end in (session.finished, session.failed):
        end.connect(lambda _: ended.set())
    if viewer is not None:
        show_news(session, viewer)
    with console.status("Checking, allocating the store, warming the model ..."):
        session.start()  # Ctrl-C in here leaves nothing behind
    picture = LatestPicture(session, latest) if latest is not None else None
    progress = Progress(
        TextColumn("[bold]{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    )
    try:
        with progress, Interrupts() as interrupts:
            now = session.progress
            raw = progress.add_task("acquired", total=now.planned_raw, note="")
            virtual = progress.add_task("stained", total=now.planned_virtual, note="")
            told = 0

            def look() -> bool:
                """Tell how far it is, and take Ctrl-C; return whether it is over."""
                nonlocal told
                over = ended.is_set()
                for note in session.notes[told:]:
                    told += 1
                    progress.console.print(f"livestain: {note}", markup=False)
                if interrupts.count and not session.cancelled:
                    session.cancel()
                    progress.console.print(
                        "Stopped acquiring; what is owed is left for livestain restain."
                        if session.leaves_owed
                        else "Stopped acquiring; staining what is owed. Ctrl-C again stops at once."
                    )
                if interrupts.count > 1:
                    session.abort()
                now = session.progress
                late = "" if now.latency_ms is None else f", latency {now.latency_ms:.0f} ms"
                progress.update(raw, completed=now.acquired)
                progress.update(virtual, completed=now.stained, note=f"owed {now.owed}{late}")
                return over

            if viewer is not None:
                watch(viewer, session, look)
            while True:
                try:
                    report = session.wait(_REDRAW_S)
                except TimeoutError:
                    look()
                    continue
                look()
                if viewer is not None and interrupts.count > 1:
                    viewer.close()
                return report, exit_code(report)
    except Exception as error:
        if os.environ.get("LIVESTAIN_DEBUG"):
            traceback.print_exception(error)
        what = "staining was given up" if isinstance(error, WorkerError) else "the run broke off"
        typer.echo(
            f"livestain: {what}: {str(error).rstrip('.')}. What was acquired is kept in {session.out}.",
            err=True,
        )
        for note in getattr(error, "__notes__", ()):
            typer.echo(f"  {note}", err=True)
        if session.report is None:
            raise typer.Exit(EXIT_MISSING) from error
        return session.report, exit_code(session.report) or EXIT_MISSING
    finally:
        if picture is not None:
            picture.close()
            if picture.error is not None:
                typer.echo(f"livestain: {latest} was not drawn: {picture.error}", err=True)


def score(session: Session) -> dict[str, ChannelScore]:
    """Compare a finished run with the truth, where whoever made the planes knows it.

    That is the simulated dish, or the recording; nobody knows it on a real microscope.
    """
    from livestain.live.scoring import frames_of, score_store
    from livestain.store import open_store

    truth = getattr(session.core, "truth", None)
    if truth is None:
        return {}
    try:
        with open_store(session.out) as store:
            return score_store(store, truth, frame_of=frames_of(session.core))
    except LivestainError as error:  # the run is whole, whatever a look at it says
        typer.echo(f"livestain: the predictions were not scored: {error}", err=True)
        return {}


class LatestPicture:
    """Keeps one PNG showing the newest brightfield, its prediction, and both over each other.

    Drawn on a thread of its own from the store; planes that come while it draws are passed over, since
    only the newest matters. A picture that cannot be drawn never disturbs a run: the first reason is
    kept in `error`.
    """

    def __init__(self, session: Session, path: Path) -> None:
        self._session = session
        self._path = path
        self._newest: Any = None
        self._closing = False
        self._news = threading.Condition()
        self.error: Exception | None = None
        session.plane_stained.connect(self._note)
        self._thread = threading.Thread(target=self._draw, name="livestain-latest", daemon=True)
        self._thread.start()

    def _note(self, stained: Any) -> None:
        with self._news:
            if self._newest is None or stained.index.t >= self._newest.index.t:
                self._newest = stained
                self._news.notify()

    def _draw(self) -> None:
        from livestain.monitor.latest import draw_latest

        drawn = None
        while True:
            with self._news:
                while self._newest is drawn:
                    if self._closing:
                        return
                    self._news.wait()
                drawn = self._newest
            try:
                draw_latest(self._session.out, drawn.index, self._path)
            except Exception as error:
                self.error = self.error or error

    def close(self) -> None:
        """Draw what is newest and end the thread."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(30.0)


def drive_and_tell(
    session: Session,
    *,
    view: bool,
    as_json: bool,
    latest: Path | None = None,
    draw: Callable[[], Path] | None = None,
) -> int:
    """Run a session, print how it went, and write its page; return the exit code.

    Parameters
    ----------
    session : Session
        Not started yet.
    view : bool
        Whether to open a window on it, which stays until it is closed.
    as_json : bool
        Whether to print one JSON object in place of tables.
    latest : Path, optional
        Where the newest prediction is drawn; by default beside the store.
    draw : callable, optional
        Draws a picture of the finished run and returns its path.
    """
    from livestain.cli.window import leave_open, make_viewer

    latest = latest or session.out.with_name(
        f"{session.out.name.removesuffix('.ome.zarr')}.latest.png"
    )
    viewer = make_viewer(view, session)
    report, code = drive(session, latest if session.plan.bundles else None, viewer)
    try:
        scores = score(session)
    except KeyboardInterrupt:  # the run is whole; how it went is told all the same
        typer.echo("livestain: interrupted while predictions were scored.", err=True)
        scores, code = {}, EXIT_INTERRUPTED
    with Interrupts() as interrupts:
        result = summary(report, scores)
        light = light_of(session)
        if light:
            result["light"] = light
        if draw is not None:
            result["picture"] = str(draw())
        page = write_page(session, result)
        if as_json:
            print_json(result)
        else:
            print_table(result)
            if draw is not None:
                typer.echo(f"The picture: {result['picture']}")
            if page is not None:
                typer.echo(f"How it went: {page}")
    leave_open(viewer)
    return EXIT_INTERRUPTED if interrupts.count else code


def summary(report: RunReport, scores: dict[str, ChannelScore]) -> dict[str, Any]:
    """Return the report with the scores, as `--json` prints it."""
    result = report.to_dict()
    every = [score for score in scores.values() if score.pearson]
    result["pearson"] = _mean([r for score in every for r in score.pearson])
    result["pearson_control"] = _mean([r for score in every for r in score.control])
    if every:
        result["pearson_by_channel"] = {n: _mean(s.pearson) for n, s in scores.items()}
        result["control_by_channel"] = {n: _mean(s.control) for n, s in scores.items()}
        result["gain_by_channel"] = {n: _gain(s) for n, s in scores.items()}
        result["pearson_by_plane"] = {
            name: [
                {"p": i.p, "t": i.t, "z": i.z, "pearson": round(r, 4), "control": round(k, 4)}
                for i, r, k in zip(s.planes, s.pearson, s.control, strict=True)
            ]
            for name, s in scores.items()
        }
    return result


def light_of(session: Session) -> dict[str, Any]:
    """Return what the cells got of light, and what predicting spared them; empty where nobody knows.

    Only the simulated microscope knows how bright its light is. Predictions of mitochondria count: those of
    other channels would have taken other light.
    """
    from livestain.store import open_store

    told = getattr(session.core, "light_report", None)
    if told is None:
        return {}
    try:
        # All that are there, as the dose is that of all that was taken: a run may have been resumed.
        with open_store(session.out) as store:
            predicted = sum(
                int(store.present(c).sum())
                for c, channel in enumerate(store.plan.channels)
                if channel.virtual is not None and channel.name.lower() == "mitochondria"
            )
            fields = store.plan.n_p
    except LivestainError as error:  # the run is whole, whatever a look at it says
        typer.echo(f"livestain: the light was not told: {error}", err=True)
        return {}
    found: dict[str, Any] = told(predicted, fields).to_dict()
    return found


def _gain(score: ChannelScore) -> dict[str, Any]:
    """Return how much better than the control, with bootstrap intervals over frames."""
    spans = score.intervals()
    gains = [r - c for r, c in zip(score.pearson, score.control, strict=True)]
    return {
        "mean": _mean(gains),
        "interval95": [round(v, 4) for v in spans["gain"]],
        "pearson_interval95": [round(v, 4) for v in spans["pearson"]],
        "n": len(gains),
        "frames": len(set(score.frames)),
    }


def _mean(values: Any) -> float | None:
    return round(float(sum(values) / len(values)), 4) if len(values) else None


def write_page(session: Session, result: dict[str, Any]) -> Path | None:
    """Write the page of a finished run beside its store; None where that cannot be done, which is told."""
    from livestain.monitor.history import run_history
    from livestain.monitor.run_page import write_report

    try:
        return write_report(run_history(session.out), result)[1]
    except (LivestainError, OSError) as error:  # the run is whole, whatever a look at it says
        typer.echo(f"livestain: the report was not written: {error}", err=True)
        return None


def print_table(result: dict[str, Any]) -> None:
    """Print a run's summary for people."""
    table = Table(title=escape(result["store"]), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    latency = result["latency_ms"]
    table.add_row("planes acquired", str(result["planes_acquired"]))
    table.add_row("planes stained", str(result["planes_stained"]))
    table.add_row("planes missing", str(result["planes_missing"]))
    if result["planes_owed"]:
        table.add_row(
            "planes owed", f"{result['planes_owed']}: livestain restain {escape(result['store'])}"
        )
    if result["planes_uncertain"]:
        table.add_row("planes that may be another's", str(result["planes_uncertain"]))
    if result["planes_skipped"]:
        table.add_row("planes skipped by lag policy", str(result["planes_skipped"]))
    if latency["p50"] is not None:
        table.add_row(
            "latency, camera to readable prediction",
            f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms"
            f" ({result['planes_filled_in_later']} filled in later, not counted)",
        )
    if "light" in result:
        add_light(table, result["light"])
    for model in result["models"]:
        table.add_row(
            f"model of {model['channel']}",
            escape(model_words(model)),
        )
    for name, r in result.get("pearson_by_channel", {}).items():
        control, gain = result["control_by_channel"][name], result["gain_by_channel"][name]
        table.add_row(
            f"Pearson of {name} to the truth",
            f"{r:.3f} (no-learning control {control:.3f}; n = {gain['n']}, 95 % interval over "
            f"{gain['frames']} frames {gain['pearson_interval95'][0]:.3f} to "
            f"{gain['pearson_interval95'][1]:.3f})",
        )
    if result["worker_deaths"]:
        table.add_row("worker restarts", str(result["worker_deaths"]))
    for note in result["notes"]:
        table.add_row("note", escape(note))
    Console().print(table)


def add_light(table: Table, light: dict[str, Any]) -> None:
    """Add what the simulated cells got of light to a table."""
    photons = ", ".join(
        f"{n:.2g} {'transmitted' if name == 'transmitted' else f'for {name}'}"
        for name, n in light["photons_per_um2"].items()
    )
    table.add_row("photons on the cells, per um2", photons or "none")
    if light["spared_planes"]:
        table.add_row(
            "photons spared by predicting, per um2",
            f"{light['spared_photons_per_um2']:.2g} ({light['spared_j_cm2']:.2g} J/cm2, which would have "
            f"bleached {100 * light['spared_bleached']:.2g} % of the label)",
        )
    bleached = ", ".join(
        f"{100 * share:.2g} % of {name}" for name, share in light["bleached"].items()
    )
    table.add_row(
        "bleached",
        f"{bleached or 'nothing'}; {light['most_j_cm2']:.2g} J/cm2 of excitation light, "
        f"{100 * light['toxic_share']:.2g} % of a dose that kills",
    )


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object as the last line of standard output."""
    typer.echo(json.dumps(result))


def exit_code(report: RunReport) -> int:
    """Return 130 where the user stopped the run, 1 where planes are missing, else 0."""
    if report.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_MISSING if report.planes_missing else EXIT_DONE

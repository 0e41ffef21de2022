"""What the commands do with a window (`--view`): when it is opened, fed, watched and left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.live.session import Session
    from livestain.monitor.viewer import RunViewer

__all__ = ["ViewOption", "check_view", "leave_open", "make_viewer", "show_news", "watch"]

ViewOption = Annotated[
    bool,
    typer.Option(
        "--view", help="Show the run in a window (ndv) while it goes on, the newest first."
    ),
]


def check_view(view: bool) -> None:
    """Refuse `--view` where no window can be opened, before anything else is looked at.

    Raises
    ------
    LivestainError
        See `livestain.monitor.viewer.check_viewer`.
    """
    if view:
        from livestain.monitor.viewer import check_viewer

        check_viewer()


def make_viewer(view: bool, session: Session) -> RunViewer | None:
    """Return the window for a session that has not begun, not yet shown.

    Raises
    ------
    LivestainError
        What cannot work: the sequence, or the graphics.
    """
    if not view:
        return None
    from livestain.monitor.viewer import RunViewer

    return RunViewer(session.plan.store, session.out.name)


def show_news(session: Session, viewer: RunViewer) -> None:
    """Have a session tell a window which planes there are."""
    session.plane_acquired.connect(lambda acquired: viewer.note(acquired.index))
    session.plane_stained.connect(lambda stained: viewer.note(stained.index))


def watch(viewer: RunViewer, session: Session, look: Callable[[], bool]) -> None:
    """Turn a window's event loop until the run is over or the window is closed.

    What is wrong with the window is told, and the run goes on without it.
    """
    try:
        viewer.open(session.out)
    except Exception as error:
        typer.echo(f"livestain: the window could not be opened: {error}", err=True)
        viewer.close()
        return
    viewer.turn(look)
    if not viewer.is_open and session.report is None:
        typer.echo("The window was closed; the run goes on.", err=True)


def leave_open(viewer: RunViewer | None) -> None:
    """Let the user look, after a run, until the window is closed or Ctrl-C is pressed."""
    if viewer is None:
        return
    if viewer.is_open:
        viewer.over()
        typer.echo(
            "The run is over. The window stays until you close it, or press Ctrl-C.", err=True
        )
        with Interrupts() as interrupts:
            viewer.turn(lambda: interrupts.count > 0)
    viewer.close()
    if viewer.error is not None:
        typer.echo(f"livestain: the window was not kept up to date: {viewer.error}", err=True)

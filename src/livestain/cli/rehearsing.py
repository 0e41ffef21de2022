"""``livestain run --dry-run``: what a run would do, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from livestain.cli.devices import model_words

if TYPE_CHECKING:
    from livestain.live.rehearsal import Rehearsal
    from livestain.live.session import Session

__all__ = ["print_rehearsal", "rehearse_run"]


def rehearse_run(session: Session) -> Rehearsal:
    """Rehearse a run with a word on standard error, since models take a while to load."""
    from livestain.live.rehearsal import rehearse

    console = Console(stderr=True)
    with console.status("Checking, measuring the model ..."):
        return rehearse(session)


def print_rehearsal(found: Rehearsal) -> None:
    """Print what a run would do, for people."""
    table = Table(title=f"{escape(found.out)} (not run)", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    height, width = found.shape
    planes = f"{found.planes_raw} of {width} x {height} pixels"
    if found.planes_virtual:
        planes += f", and {found.planes_virtual} predicted"
    each = " a time point" if found.open_end else ""
    in_all = ""
    if found.most_times is not None:
        in_all = f", {decimal(found.most_times * found.bytes_needed)} in all"
    table.add_row("planes", planes + each)
    if found.open_end:
        table.add_row("time points", _times(found))
    table.add_row(
        "disk",
        f"up to {decimal(found.bytes_needed)}{each}{in_all}, of {decimal(found.bytes_free)} that are free",
    )
    table.add_row(
        "time",
        f"at least {found.seconds:.3g} s{each}: exposures and intervals, without moves and readout",
    )
    for name, dose in found.light.items():
        table.add_row(
            f"light, {escape(name)}",
            f"{dose.exposures} x{each}, in all {dose.seconds:.3g} s"
            + (f"; of the run at most {found.duration_s:.3g} s" if found.duration_s else ""),
        )
    for model in found.models:
        table.add_row(
            f"model of {escape(model['channel'])}",
            escape(f"{model_words(model)}, {model['model_ms']:.3g} ms a prediction"),
        )
    if found.verdict:
        table.add_row("keeps up?", found.verdict)
    Console().print(table)


def _times(found: Rehearsal) -> str:
    """Say what is known of how many time points there will be."""
    if found.duration_s is None:
        return "unknown number: until the run is stopped, or the disk is full"
    most = "" if found.most_times is None else f", at most {found.most_times}"
    return f"unknown number{most}: as fast as it goes for {found.duration_s:.6g} s"

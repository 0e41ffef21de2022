"""`livestain status`: what is in a store, and why the rest is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from livestain.store import PlaneCounts, StoreStatus

__all__ = ["register"]

_COLUMNS = ("planned", "present", "missing", "owed", "skipped", "impossible")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""

    @app.command()
    def status(
        store: Annotated[Path, typer.Argument(help="The store, RUN.ome.zarr.")],
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of output.")
        ] = False,
    ) -> None:
        """Say what is planned, present and missing in a store, also while a run goes on."""
        from livestain.store import store_status

        found = store_status(store)
        if as_json:
            typer.echo(json.dumps(found.to_dict()))
        else:
            _show(found)


def _show(found: StoreStatus) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(found.path))
    table.add_column("channel")
    # Rare, and the table is as wide as a terminal without it.
    columns = (*_COLUMNS, "uncertain") if found.uncertain else _COLUMNS
    for column in columns:
        table.add_column(column, justify="right")

    def add(name: str, counts: PlaneCounts) -> None:
        table.add_row(escape(name), *(str(getattr(counts, column)) for column in columns))

    for name, counts in found.by_channel.items():
        add(name, counts)
    for position, channels in found.by_position.items():
        table.add_section()
        table.add_row(f"[bold]{escape(position)}[/]")
        for name, counts in channels.items():
            add(f"  {name}", counts)
    table.add_section()
    add("all", found.total)
    console = Console()
    console.print(table)
    for why, number in sorted(found.short_reasons().items(), key=lambda item: -item[1]):
        console.print(f"{number} x {escape(why)}", highlight=False)
    if not found.journal:
        console.print("There is no journal beside the store: what is missing counts as owed.")

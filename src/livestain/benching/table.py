"""The numbers as tables: for the terminal, and as Markdown to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.benching.verdict import short, taken

if TYPE_CHECKING:
    from rich.table import Table

    from livestain.benching.results import BenchResult, BundleResult, Measurement, SizeResult

__all__ = ["HEAD", "auto_words", "busy", "left_out", "markdown", "rows", "tables"]

_WIDE = 115
"""Characters that the whole table needs."""

_BUSY = 0.5
"""Load by core from which on others take a part of what is measured."""

HEAD = (
    "backend",
    "cold start s",
    "warm start s",
    "upload",
    "normalise",
    "network",
    "encode",
    "total p50",
    "p95",
    "p99",
    "planes/s",
    "memory MB",
    "error",
    "% of roof",
)
"""Stages and totals in milliseconds a prediction."""

_UNITS = "Stages are medians, in ms a prediction. Memory: above the loaded model{}. Error: RMS from the bundle's test output, relative to its standard deviation. *: what `auto` takes."  # noqa: E501


def rows(result: SizeResult) -> list[tuple[str, ...]]:
    """Return a row for each backend that was measured, the fastest first."""
    order = sorted(result.measured, key=lambda one: one.total.mean)
    return [_row(one, auto=result.auto is not None and one is taken(result)) for one in order]


def _row(one: Measurement, *, auto: bool) -> tuple[str, ...]:
    memory = one.memory_mb if one.cuda_mb is None else one.cuda_mb
    return (
        f"{one.backend}{' *' if auto else ''}",
        short(one.cold.total / 1e3),
        short(one.warm.total / 1e3),
        *(short(one.stages[stage].p50) for stage in HEAD[3:7]),
        short(one.total.p50),
        short(one.total.p95),
        short(one.total.p99),
        short(one.planes_per_second),
        f"{memory:.0f}",
        f"{one.error:.1e}",
        "-" if one.share_of_roof is None else f"{100 * one.share_of_roof:.0f}",
    )


def tables(result: BenchResult, width: int) -> list[Table]:
    """Return a table for each model and frame size; in a narrow terminal the stages in one of their own.

    Parameters
    ----------
    result : BenchResult
        What was measured.
    width : int
        Of the terminal, in characters.
    """
    stages = range(3, 7)
    others = [place for place in range(len(HEAD)) if place not in stages]
    parts = [[*range(len(HEAD))]] if width >= _WIDE else [others, [0, *stages]]
    return [
        _table(_title(bundle, size), rows(size), columns)
        for bundle in result.bundles
        for size in bundle.sizes
        if size.measured
        for columns in parts
    ]


def _table(title: str, cells: list[tuple[str, ...]], columns: list[int]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for place in columns:
        head = HEAD[place].replace(" ", "\n")
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for row in cells:
        table.add_row(*(escape(row[place]) for place in columns))
    return table


def markdown(result: BenchResult) -> str:
    """Return everything that a reader asks for first, as Markdown."""
    hardware = result.hardware
    gpus = ", ".join(f"{g['name']} (driver {g['driver']})" for g in hardware.get("gpus", ()))
    lines = [
        "# How fast models are on this machine",
        "",
        f"`{result.command}`, {result.date[:16].replace('T', ' ')} UTC.",
        "",
        *_told(result),
        "",
        (
            f"- Machine: {hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']:g} GB; "
            f"{gpus or 'no NVIDIA GPU'}; {hardware['system']}, Python {hardware['python']}."
        ),
        f"- CPU capabilities: {' '.join(hardware['flags']) or 'not known'}.",
        (
            f"- Computed on {result.device} with {result.threads} CPU threads. Load average "
            f"{_load(result.load[0])} before, {_load(result.load[1])} after."
        ),
        f"- {', '.join(f'{name} {number}' for name, number in result.versions.items())}.",
    ]
    if result.roof is not None:
        rates = ", ".join(f"{p} {rate:.4g}" for p, rate in result.roof.gemm_gflops.items())
        lines.append(
            f"- Roof: products of matrices {rates} GFLOP/s; copies {result.roof.copy_gb_s:.3g} GB/s."
        )
    for side, store in result.store.items():
        lines.append(
            f"- Store, {side}²: reading a plane {store.read.p50:.3g} ms, writing one "
            f"{store.write.p50:.3g} ms."
        )
    lines += [f"- {note}" for note in (*result.notes, busy(result)) if note]
    lines += ["", _UNITS.format("; on a GPU its own, the model's with it" if gpus else "")]
    for bundle in result.bundles:
        for size in bundle.sizes:
            lines += ["", f"## {_title(bundle, size)}", ""]
            if size.measured:
                lines += [f"| {' | '.join(HEAD)} |", f"|---{'|---:' * (len(HEAD) - 1)}|"]
                lines += [f"| {' | '.join(row)} |" for row in rows(size)]
                lines.append("")
            if auto := auto_words(size):
                lines.append(f"- {auto}")
            lines += [f"- {one.backend}: {note}." for one in size.measured for note in one.notes]
        if without := left_out(bundle):
            lines += ["", f"## {bundle.bundle}: backends without a number", ""]
            lines += [f"- {line}" for line in without]
    return "\n".join([*lines, ""])


def _told(result: BenchResult) -> list[str]:
    several = len(result.bundles) > 1
    return [
        f"- {f'{bundle.bundle}, ' if several else ''}{sentence}"
        for bundle in result.bundles
        for size in bundle.sizes
        for sentence in size.sentences
    ]


def left_out(bundle: BundleResult) -> list[str]:
    """Return why backends have no number, those with one reason together."""
    lines = _grouped("refused", bundle.refused)
    for size in bundle.sizes:
        where = f", {size.size}²"
        lines += _grouped(f"refused{where}", size.refused)
        lines += _grouped(f"not measured{where}", size.not_measured)
    return lines


def _grouped(what: str, reasons: dict[str, str]) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(name)
    return [f"{', '.join(each)} ({what}): {why}" for why, each in names.items()]


def busy(result: BenchResult) -> str:
    """Return a sentence where something else took the processor while it was measured; else ""."""
    before, cores = result.load[0], result.hardware.get("threads") or 1
    if before is None or before < _BUSY * cores:
        return ""
    return (
        f"Something else was running: a load of {before:g} on {cores} processors before the measurement. "
        "Alone, models are faster."
    )


def auto_words(size: SizeResult) -> str:
    """Return what `auto` takes, after how long, and how good that is; "" where it was not asked."""
    if size.auto is None:
        return ""
    told = f"auto takes {size.auto.backend}, after {size.auto.seconds:.3g} s"
    if size.auto.cached:
        told += " (found in its cache)"
    if size.auto.cached_seconds is not None:
        told += f"; {size.auto.cached_seconds:.2g} s when it is known"
    if size.auto_over_fastest is not None and size.auto_over_fastest > 1:
        told += f"; {100 * (size.auto_over_fastest - 1):.0f} % slower than the fastest here"
    return f"{told}."


def _title(bundle: BundleResult, size: SizeResult) -> str:
    work = f", {size.work.macs / 1e9:.3g} GMAC" if size.work is not None else ""
    planes = {one.planes for one in size.measured} - {1}
    stack = f", {planes.pop()} planes" if planes else ""
    return f"{bundle.bundle} ({bundle.network}{work}), {size.size}²{stack}"


def _load(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"

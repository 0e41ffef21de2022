"""``livestain verify``: whether a deployed model is whole, and which backends give what it should give."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livestain.cli.options import JsonOption

if TYPE_CHECKING:
    from livestain.bundle import Bundle

__all__ = ["register"]


@dataclass(frozen=True)
class Verdict:
    """What came of one backend with one bundle."""

    backend: str
    precision: str
    result: str
    """`passed`, `refused` (the output is another, or it failed), or `not here`."""

    difference: float | None = None
    """RMS difference from the test output, relative to its standard deviation; of those that passed."""

    limit: float | None = None
    """The largest that is allowed; None where it is not here."""

    why: str = ""

    decides: bool = False
    """Whether it is the one that the others are held to, and gives another output."""


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("verify")(verify)


def verify(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE…", help="Models: names or folders.")
    ],
    device: Annotated[
        str, typer.Option("--device", help="Where to compute: auto, cpu, cuda or cuda:N.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Check deployed models: every file's hash, the bioimage.io format, and their test tensors.

    The test input is run through every backend that is ready on this device. All are looked at; ends with
    code 2 if one is damaged, or its test output is given by no backend, or not by the plain one that the
    others are held to. Another that is refused is none that a run would use, and no fault of the model.
    """
    from livestain.bundle import find_bundle
    from livestain.bundle.read import verify_bundle
    from livestain.errors import BundleError
    from livestain.inference.device import resolve_device

    where = resolve_device(device)
    told, bad = [], []
    for given in bundles:
        try:
            bundle = verify_bundle(find_bundle(given).path)
            verdicts = _try_backends(bundle, where)
        except BundleError as error:
            bad.append(str(error))
            continue
        told.append(_facts(bundle, where, verdicts))
        if not as_json:
            _show(bundle, where, verdicts)
        passed = any(verdict.result == "passed" for verdict in verdicts)
        if not passed or any(verdict.decides for verdict in verdicts):
            reasons = "; ".join(f"{v.backend}: {v.why}" for v in verdicts if v.result == "refused")
            bad.append(
                f"The bundle {bundle.path} fails its own test tensors on {where}: {reasons}. Export or "
                "download the model again."
            )
    if as_json:
        typer.echo(json.dumps({"bundles": told, "bad": bad}))
    if bad:
        raise BundleError(" ".join(bad))


def _facts(bundle: Bundle, device: str, verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "files": len(bundle.files),
        "device": device,
        "backends": [
            {key: value for key, value in asdict(verdict).items() if key != "decides"}
            for verdict in verdicts
        ],
    }


def _try_backends(bundle: Bundle, device: str) -> list[Verdict]:
    import torch

    from livestain.inference.backends import backend_names, get_backend
    from livestain.inference.memory import is_out_of_memory
    from livestain.inference.proving import Proof, RefusedError, close
    from livestain.inference.upload import Upload

    where = torch.device(device)
    verdicts = []
    with torch.inference_mode():
        proof = Proof(bundle, bundle.load_module(), where, Upload())
        for name in backend_names():
            backend = get_backend(name)
            if why := backend.unready(proof.network, where):
                verdicts.append(Verdict(name, backend.precision, "not here", why=why))
                continue
            limit = proof.limit(name)
            try:
                proven = proof.prove(name)
            except Exception as error:  # of memory each runtime has its own
                if not isinstance(error, RefusedError) and not is_out_of_memory(error):
                    raise
                wrong = isinstance(error, RefusedError)
                verdicts.append(
                    Verdict(
                        name,
                        backend.precision,
                        "refused",
                        limit=limit,
                        why=str(error) if wrong else "it finds no memory here",
                        decides=wrong and name == proof.reference,
                    )
                )
                continue
            close(proven.predict)
            verdicts.append(Verdict(name, backend.precision, "passed", proven.difference, limit))
    return verdicts


def _show(bundle: Bundle, device: str, verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(
        f"{escape(bundle.name)}: {len(bundle.files)} files as rdf.yaml lists them, a valid bioimage.io model "
        f"(SHA-256 {bundle.sha256[:12]}, {escape(str(bundle.path))}).",
        highlight=False,
    )
    table = Table(
        title=f"Test output on {device}, RMS difference relative to its standard deviation"
    )
    for column in ("backend", "result", "difference", "limit", "why"):
        table.add_column(column, overflow="fold")
    for verdict in verdicts:
        table.add_row(
            verdict.backend,
            verdict.result,
            "-" if verdict.difference is None else f"{verdict.difference:.1e}",
            "-" if verdict.limit is None else f"{verdict.limit:.0e}",
            escape(verdict.why),
        )
    console.print(table)

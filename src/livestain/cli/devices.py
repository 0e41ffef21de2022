"""The option that says where to predict, and the words for where it was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BackendOption", "DeviceOption", "model_words"]

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where to predict: auto, cpu, cuda, cuda:N; several with commas between them, for a worker on "
        "each.",
    ),
]

BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What computes: auto times all that are ready and remembers the fastest; or folded, eager, "
        "onnxruntime, openvino … (livestain verify MODEL names them).",
    ),
]


def model_words(model: Mapping[str, Any]) -> str:
    """Return a model of a report in words: bundle, device, tiles if any, backend, worker if several."""
    tile = model.get("tile")
    tiles = f" in tiles of {tile[0]} x {tile[1]}" if tile else ""
    worker = f", worker {model['worker']}" if "worker" in model else ""
    return f"{model['bundle']} on {model['device']}{tiles} ({model['backend']}{worker})"

"""``livestain demo``: the whole of it on a simulated dish; nothing is asked, nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestain.cli.devices import DeviceOption
from livestain.cli.options import FaultOption, JsonOption
from livestain.cli.window import ViewOption, check_view
from livestain.errors import LivestainError, StoreError

if TYPE_CHECKING:
    import useq

    from livestain.store import Store

__all__ = ["DEMO_SEED", "demo_sequence", "register"]

DEMO_SEED = 2026
"""The demo's dish. The shipped model was trained on dishes of other seeds."""

_BUNDLE = "demo-mitochondria"
_FLUORESCENCE_EVERY = 3
_MARK = "livestain-demo"  # in the sequence's metadata: the next demo may replace this store


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where to write; made if missing.")
    ] = Path(),
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another dish of cells.")] = DEMO_SEED,
    fault: FaultOption = None,
    view: ViewOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stain a simulated dish of cells live; writes demo.ome.zarr, latest.png and demo.png.

    Micro-Manager's demo hardware runs a time-lapse of brightfield stacks with a real fluorescence frame
    now and then. The mitochondria channel is predicted from brightfield while the run goes on.
    """
    from livestain.cli.run import parse_faults

    faults = parse_faults(fault or [], simulated=True)
    check_view(view)
    from livestain.cli.driving import drive_and_tell
    from livestain.live.microscope import simulated_core
    from livestain.live.session import Session
    from livestain.store import open_store

    store_path = out / "demo.ome.zarr"
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file; give --out a folder, which is made if it is missing.")
    if store_path.exists() and not _is_demo(store_path):
        raise StoreError(
            f"{store_path} exists already and is not a demo's. Give another folder with --out."
        )
    session = Session(
        simulated_core(seed, faults=faults),
        demo_sequence(),
        store_path,
        models={"mitochondria": _BUNDLE},
        device=device,
        overwrite=True,
    )

    def draw() -> Path:
        with open_store(store_path) as store:
            return _draw(store, out / "demo.png")

    code = drive_and_tell(session, view=view, as_json=as_json, latest=out / "latest.png", draw=draw)
    raise typer.Exit(code)


def demo_sequence() -> useq.MDASequence:
    """Return the demo's sequence: brightfield stacks, sparse fluorescence, predicted mitochondria."""
    import useq

    return useq.MDASequence.model_validate(
        {
            "axis_order": "tpgcz",
            "time_plan": {"interval": 1.0, "loops": 10},
            "z_plan": {"range": 1.0, "step": 0.5},
            "channels": [
                {"group": "Channel", "config": "Brightfield", "exposure": 10},
                {
                    "group": "Channel",
                    "config": "Mitochondria",
                    "exposure": 100,
                    "acquire_every": _FLUORESCENCE_EVERY,
                    "do_stack": False,
                },
                {"group": "Virtual", "config": "mitochondria"},
            ],
            "metadata": {
                _MARK: True,
                "livestain": {"channels": {"mitochondria": {"bundle": _BUNDLE}}},
            },
        }
    )


def _is_demo(path: Path) -> bool:
    """Return whether a store is an earlier demo's, which alone the demo may replace."""
    from livestain.store import open_store

    try:
        with open_store(path) as store:
            sequence = store.attributes.get("sequence", {})
    except LivestainError:
        return False
    return bool(sequence.get("metadata", {}).get(_MARK))


def _draw(store: Store, path: Path) -> Path:
    """Draw brightfield, prediction, true fluorescence and overlay of a few time points."""
    from livestain.pictures import Panel, draw_panels, overlay, save_picture, stretched
    from livestain.planes import PlaneIndex

    plan = store.plan
    bright, real, virtual = (plan.c_of(n) for n in ("Brightfield", "Mitochondria", "mitochondria"))
    measured = [
        i
        for i in plan.planned_indices(real)
        if all(store.is_present(i.at(c=c)) for c in (bright, real, virtual))
    ]
    rows = []
    for index in measured[:: max(1, len(measured) // 3)][:3]:
        place = PlaneIndex(index.p, index.t, 0, index.z)
        grey = stretched(store.read(place.at(c=bright)))
        predicted = stretched(store.read_decoded(place.at(c=virtual)), 50.0, 99.8)
        true = stretched(store.read(place.at(c=real)), 50.0, 99.8)
        rows.append(
            [
                Panel(f"brightfield, t = {index.t}", grey),
                Panel("mitochondria (predicted)", predicted),
                Panel("mitochondria (fluorescence)", true),
                Panel(
                    "overlay of the prediction",
                    overlay(grey, predicted, plan.channels[virtual].color),
                ),
            ]
        )
    if rows:
        caption = "Simulated dish. Second column: predicted from the first, not measured."
        save_picture(draw_panels(rows, pixel_size_um=plan.pixel_size_um, caption=caption), path)
    return path

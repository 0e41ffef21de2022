"""A new store: whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.errors import StoreError
from livestain.store.arrays import open_array, plane_layout
from livestain.store.group import FORMAT, read_group, refuse_reserved
from livestain.store.journal import journal_path
from livestain.store.layout import ome_image, own_attributes, position_name, run_name
from livestain.store.ome_xml import ome_xml
from livestain.store.pyramid import level_shapes
from livestain.store.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livestain.store.plan import StorePlan

__all__ = ["check_place", "create_store"]


def create_store(
    path: Path | str,
    plan: StorePlan,
    *,
    overwrite: bool = False,
    attributes: dict[str, Any] | None = None,
) -> Store:
    """Create a store with the place of every plane, and open it for writing.

    It is made beside its place and then moved there, so that nobody sees half a store and a
    failure leaves what was there.

    Parameters
    ----------
    path : Path
        Where, such as RUN.ome.zarr; folders above it are made.
    plan : StorePlan
        What it will hold.
    overwrite : bool
        Remove a livestain store that is there, with its journal. Anything else is never removed.
    attributes : dict, optional
        More for the attributes under `livestain`: the sequence, the system's state, versions.

    Returns
    -------
    Store
        Open for writing.

    Raises
    ------
    StoreError
        If there is something already (an earlier run's journal, too), or it cannot be made.
    """
    path = Path(path).resolve()
    refuse_reserved(attributes or {}, path)
    check_place(path, overwrite=overwrite)
    building = path.with_name(f".{path.name}.{os.getpid()}.creating")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _build(building, run_name(path), plan, attributes or {})
        if overwrite:
            _remove(path)
        building.rename(path)
    except OSError as error:
        raise StoreError(
            f"Cannot create the store {path}: {error.strerror or error}. "
            "Expected a folder that can be written to, on a disk with space."
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return open_store(path, mode="r+")


def check_place(path: Path | str, *, overwrite: bool) -> None:
    """Refuse a place where a store may not be created; touches nothing.

    Raises
    ------
    StoreError
        If there is something already, and it is not a livestain store that may be replaced.
    """
    path = Path(path).resolve()
    journal = journal_path(path)
    for folder in path.parents:
        if any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs")):
            raise StoreError(
                f"{path} would lie inside {folder}, which is a Zarr store itself. Give a place beside it."
            )
    if path.exists():
        if not overwrite:
            raise StoreError(
                f"{path} exists already. Give another name, or --overwrite to replace it."
            )
        try:
            read_group(path)
        except StoreError as error:
            raise StoreError(
                f"{path} exists and is not a livestain store, so it is not overwritten. "
                "Give another name, or remove it yourself."
            ) from error
    elif journal.exists() and not overwrite:
        # A new run would go on writing in it, and its words would be taken for this run's.
        raise StoreError(
            f"The journal of an earlier run lies at {journal}, without its store. "
            "Give another name, or --overwrite to replace it."
        )


def _remove(path: Path) -> None:
    # Out of the way first: removing 100,000 planes takes a while, and may be cut short.
    if path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.removed")
        path.rename(old)
        journal_path(path).unlink(missing_ok=True)
        # From here on the new store stands, whether or not all of the old one can be removed.
        shutil.rmtree(old, ignore_errors=True)
    else:
        journal_path(path).unlink(missing_ok=True)


def _build(building: Path, name: str, plan: StorePlan, attributes: dict[str, Any]) -> None:
    """Write the groups and empty arrays of one image, of a plate, or of a run of positions."""
    from yaozarrs.write.v05 import Bf2RawBuilder, PlateBuilder, prepare_image

    def create_array(path: Path, *, shape: Sequence[int], **_: Any) -> Any:
        # yaozarrs has words of its own for chunks and compression; ours are settled by the plan.
        return open_array(Path(path), mode="r+", create=plane_layout(shape, plan.codec))

    # Its protocol for writers wants every argument by name; ours looks at the two that matter.
    writer: Any = create_array
    levels: list[Any] = [
        ((plan.n_t, len(plan.channels) - plan.first_c, plan.n_z, y, x), "uint16")
        for y, x in level_shapes(plan.height, plan.width)
    ]
    own = {"livestain": {**own_attributes(plan), **attributes}}
    if not plan.positions[0].path:
        prepare_image(building, ome_image(plan, name), levels, extra_attributes=own, writer=writer)
        return
    if plan.is_plate:
        plate = PlateBuilder(building, extra_attributes=own, writer=writer)
        wells: dict[tuple[str, str], dict[str, Any]] = {}
        for p, position in enumerate(plan.positions):
            row, column, field = position.path.split("/")
            image = ome_image(plan, position_name(plan, p))
            wells.setdefault((row, column), {})[field] = (image, levels)
        for (row, column), images in wells.items():
            plate.add_well(row=row, col=column, images=images)
        plate.prepare()
        _name_positions(building, plan)
        return
    builder = Bf2RawBuilder(
        building, ome_xml=ome_xml(plan, name), extra_attributes=own, writer=writer
    )
    for p, position in enumerate(plan.positions):
        builder.add_series(position.path, ome_image(plan, position_name(plan, p)), levels)
    builder.prepare()
    _name_positions(building, plan)


def _name_positions(building: Path, plan: StorePlan) -> None:
    """Let each image say which position it is, for those who open, or copy, it alone."""
    for p, position in enumerate(plan.positions):
        file = building / position.path / "zarr.json"
        group = json.loads(file.read_text(encoding="utf-8"))
        group["attributes"]["livestain"] = {"format": FORMAT, "p": p, **position.model_dump()}
        file.write_text(json.dumps(group), encoding="utf-8")

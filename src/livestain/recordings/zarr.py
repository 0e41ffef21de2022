"""OME-Zarr of other programs, 0.4 and 0.5: one image, a collection of bioformats2raw, or a plate."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.recordings.base import (
    Place,
    Recording,
    check_dtype,
    movie_name,
    one_channel,
    read_notes,
)
from livestain.recordings.units import length_um, seconds_of, square_um, um_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ZarrRecording", "is_zarr"]

_AXES = "tczyx"


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr group, whoever wrote it."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))


@dataclass(frozen=True, slots=True)
class _Image:
    """One multiscale image: where it is in the group, and its axes."""

    array: str
    name: str
    axes: str
    sizes: dict[str, int]
    channels: tuple[str, ...]
    pixel_size_um: float | None
    z_step_um: float | None
    interval_s: float | None
    stage_um: dict[str, float]
    version: str


class ZarrRecording(Recording):
    """The full-resolution level of a foreign OME-Zarr; each of its images is a position.

    Other programs do not say which planes were never written: one of whose chunks there is no file at all
    counts as absent. Some programs leave out chunks of nothing but zeros, so that a black plane counts as
    absent too.

    Parameters
    ----------
    path : Path
        The group's folder.

    Raises
    ------
    DataError
        If there is no image in it, or one that cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = movie_name(path.name)
        notes = read_notes(path)
        images = [self._read_image(place) for place in self._images()]
        if not images:
            raise DataError(
                f"{path} is a Zarr group without images. Expected an OME-Zarr image (multiscales), a "
                "plate, or a collection as bioformats2raw makes them."
            )
        self._arrays = tuple(image.array for image in images)
        self._axes = tuple(image.axes for image in images)
        first = images[0]
        for other in images[1:]:
            if other.channels != first.channels:
                raise DataError(
                    f"The images {first.name} and {other.name} of {path} have different channels: "
                    f"{', '.join(first.channels)} and {', '.join(other.channels)}. Make a movie of each."
                )
            if (other.pixel_size_um, other.z_step_um) != (first.pixel_size_um, first.z_step_um):
                raise DataError(
                    f"The images {first.name} and {other.name} of {path} have different voxel sizes. "
                    "Make a movie of each."
                )
        self.channels = one_channel(first.channels, notes.channels, path)
        self.kind = f"OME-Zarr {first.version}"
        self.interval_s = first.interval_s
        self._sizes = tuple(image.sizes for image in images)
        alone = len(images) == 1
        self.places = tuple(
            Place(
                "" if alone else image.name.replace("/", "-"),
                image.name if not alone else "0",
                "" if alone else image.name.replace("/", "-"),
                image.sizes.get("t", 1),
                image.sizes.get("z", 1),
                label=image.name if not alone else None,
                x_um=image.stage_um.get("x"),
                y_um=image.stage_um.get("y"),
                z_um=image.stage_um.get("z"),
            )
            for image in images
        )
        self.pixel_size_um = notes.pixel_size_um or first.pixel_size_um
        self.z_step_um = notes.z_step_um or first.z_step_um

    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""
        found = self._opened()
        axes, sizes = self._axes[place], self._sizes[place]
        array = found.array(self._arrays[place])
        n_t, n_z = self.places[place].n_t, self.places[place].n_z
        steps = dict(zip(axes, array.shards or array.chunks, strict=True))
        frame = [
            range(-(-sizes[axis] // steps[axis])) for axis in axes if axis in "yx"
        ]  # y and x come last
        known: dict[tuple[int, ...], bool] = {}
        there = np.zeros((n_t, n_z), dtype=bool)
        for t, z in np.ndindex(n_t, n_z):
            at = {"t": t, "c": c, "z": z}
            lead = tuple(at[axis] // steps[axis] for axis in axes if axis not in "yx")
            if lead not in known:
                known[lead] = any(
                    (self.path / found.chunk(self._arrays[place], (*lead, y, x))).is_file()
                    for y, x in product(*frame)
                )
            there[t, z] = known[lead]
        return there

    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes, (y, x) each."""
        array = self._opened().array(self._arrays[place])
        axes = self._axes[place]
        found: list[NDArray[Any]] = []
        try:
            for t, zs in _runs(at):
                whole = {"t": t, "c": c, "z": zs, "y": slice(None), "x": slice(None)}
                block = np.asarray(array[tuple(whole[axis] for axis in axes)])
                found.extend(block if "z" in axes else [block] * (zs.stop - zs.start))
        except (OSError, ValueError, RuntimeError, zlib.error) as error:
            raise DataError(
                f"Cannot read {self.where(place, c, *at[0])}: {error}. Restore it from a copy, or "
                "leave the movie out."
            ) from error
        return [plane.astype(plane.dtype.newbyteorder("="), copy=False) for plane in found]

    def frame_format(self, place: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size (y, x) and data type of a place's planes."""
        array = self._opened().array(self._arrays[place])
        height, width = array.shape[-2:]
        return (int(height), int(width)), array.dtype.newbyteorder("=")

    def _open(self) -> _Group:
        return _Group(self.path)

    def _images(self) -> list[str]:
        """Return the groups of all images, relative to the path; empty for the group itself."""
        group = self._opened()
        attributes = group.attributes("")
        if "multiscales" in attributes:
            return [""]
        if "plate" in attributes:
            wells = [well["path"] for well in attributes["plate"].get("wells", [])]
            return [
                f"{well}/{image['path']}"
                for well in wells
                for image in group.attributes(well).get("well", {}).get("images", [])
            ]
        return [name for name in group.names() if "multiscales" in group.attributes(name)]

    def _read_image(self, place: str) -> _Image:
        where = self.path / place if place else self.path
        group = self._opened()
        attributes = group.attributes(place)
        try:
            multiscale = attributes["multiscales"][0]
            dataset = multiscale["datasets"][0]
            name = f"{place}/{dataset['path']}" if place else str(dataset["path"])
            array = group.array(name)
            axes, units = _axes_of(multiscale, array.ndim)
            scale, shift = np.ones(array.ndim), np.zeros(array.ndim)
            moved = False
            for holder in (dataset, multiscale):
                for step in holder.get("coordinateTransformations", []):
                    if step["type"] == "scale":
                        factor = np.asarray(step["scale"], dtype=np.float64)
                        scale, shift = scale * factor, shift * factor
                    elif step["type"] == "translation" and "translation" in step:
                        shift = shift + np.asarray(step["translation"], dtype=np.float64)
                        moved = True
            labels = [
                str(channel.get("label", number))
                for number, channel in enumerate(attributes.get("omero", {}).get("channels", []))
            ]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{where} is not an OME-Zarr image that can be read: {type(error).__name__}: {error}. "
                "Expected multiscales of version 0.4 or 0.5."
            ) from error
        if any(axis not in _AXES for axis in axes) or not axes.endswith("yx"):
            raise DataError(
                f"{where} has the axes {', '.join(axes)}; expected t, c, z, y, x, or some of them in any "
                "order that ends with y, x."
            )
        check_dtype(array.dtype, where)
        sizes = dict(zip(axes, (int(n) for n in array.shape), strict=True))
        n_c = sizes.get("c", 1)
        um = {
            axis: um_of(float(step), unit)
            for axis, step, unit in zip(axes, scale, units, strict=True)
            if axis in "zyx"
        }
        return _Image(
            array=name,
            name=place or "0",
            axes=axes,
            sizes=sizes,
            channels=tuple(labels if len(labels) == n_c else map(str, range(n_c))),
            pixel_size_um=square_um(um["y"], um["x"], where),
            z_step_um=um.get("z") if sizes.get("z", 1) > 1 else None,
            interval_s=next(
                (
                    seconds_of(float(step), unit)
                    for axis, step, unit in zip(axes, scale, units, strict=True)
                    if axis == "t"
                ),
                None,
            ),
            stage_um={
                axis: where_um
                for axis, at, unit in zip(axes, shift, units, strict=True)
                if moved
                and axis in "zyx"
                and (where_um := length_um(float(at), unit or "micrometer")) is not None
            },
            version=str(
                multiscale.get("version")
                or attributes.get("version")
                or ("0.4" if array.metadata.zarr_format == 2 else "0.5")
            ),
        )


class _Group:
    """An open Zarr group, with the attributes of 0.4 and 0.5 in one place."""

    def __init__(self, path: Path) -> None:
        import zarr

        try:
            self._root = zarr.open_group(str(path), mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path} cannot be opened as OME-Zarr: {error}. Expected a Zarr group of version 2 or 3."
            ) from error
        self._found: dict[str, Any] = {}

    def attributes(self, place: str) -> dict[str, Any]:
        node: Any = self._root[place] if place else self._root
        found = dict(node.attrs)
        return dict(found.get("ome", found))

    def names(self) -> list[str]:
        numbers = [name for name in self._root.group_keys() if name.isdecimal()]
        return sorted(numbers, key=int)

    def array(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._root[name]
        return self._found[name]

    def chunk(self, name: str, at: tuple[int, ...]) -> str:
        """Return the file of a chunk, or of the shard in its place, relative to the group."""
        return f"{name}/{self.array(name).metadata.encode_chunk_key(at)}"

    def close(self) -> None:
        self._found.clear()


def _axes_of(multiscale: dict[str, Any], ndim: int) -> tuple[str, list[str | None]]:
    """Return the axes' letters and units; the versions before 0.3 had none, and 0.3 had names alone."""
    axes = multiscale.get("axes") or list(_AXES[-ndim:])
    names = [axis if isinstance(axis, str) else axis["name"] for axis in axes]
    units = [None if isinstance(axis, str) else axis.get("unit") for axis in axes]
    if any(len(name) != 1 for name in names):
        raise ValueError(f"the axes are called {', '.join(names)}")
    return "".join(names).lower(), units


def _runs(at: Sequence[tuple[int, int]]) -> list[tuple[int, slice]]:
    """Put neighbouring z of one time point together, since a chunk may hold several."""
    runs: list[tuple[int, slice]] = []
    for t, z in at:
        if runs and runs[-1][0] == t and runs[-1][1].stop == z:
            runs[-1] = (t, slice(runs[-1][1].start, z + 1))
        else:
            runs.append((t, slice(z, z + 1)))
    return runs

"""TIFF files with more than a plane: OME-TIFF, ImageJ hyperstacks, plain stacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import DataError
from livestain.images import TIFF_SUFFIXES
from livestain.recordings.base import (
    Place,
    Recording,
    check_dtype,
    movie_name,
    one_channel,
    read_notes,
)
from livestain.recordings.tiff_errors import tiff_errors
from livestain.recordings.units import length_um, seconds_of, square_um, um_of
from livestain.store.ome_xml import SIMULATED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import tifffile
    from numpy.typing import NDArray

__all__ = ["TiffRecording", "TiffSeries", "TiffVolume", "master_of", "read_header"]


@dataclass(frozen=True, slots=True)
class TiffSeries:
    """One series of a file: its axes but y and x, and what is said of it.

    Attributes
    ----------
    name : str
        Empty where it has none.
    axes : str
        Of T, C, Z, in the file's order; those of length 1 are left out.
    sizes : dict of str to int
        By axis; 1 where it is left out.
    channels : tuple of str
    present : array of bool, in the order of `axes`
        Which planes are there; OME-TIFF may have holes.
    pixel_size_um, z_step_um, interval_s : float or None
    format : tuple
        Size (y, x) and data type.
    label, x_um, y_um, z_um : str or float, or None
        Of the position, by OME-XML.
    simulated : bool
        Whether an annotation of the file says that the cells are simulated.
    """

    name: str
    axes: str
    sizes: dict[str, int]
    channels: tuple[str, ...]
    present: NDArray[np.bool_]
    pixel_size_um: float | None
    z_step_um: float | None
    interval_s: float | None
    format: tuple[tuple[int, int], np.dtype[Any]]
    label: str | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    simulated: bool = False

    def index(self, t: int, c: int, z: int) -> tuple[int, ...]:
        """Return the place of a plane along `axes`."""
        at = {"T": t, "C": c, "Z": z}
        return tuple(at[axis] for axis in self.axes)


class TiffVolume:
    """An open file: planes of its series, each read by itself; contiguous ones are mapped."""

    def __init__(self, path: Path) -> None:
        import tifffile

        with tiff_errors(path):
            self._file = tifffile.TiffFile(path)
            self._series = self._file.series
        self._path = path
        self._arrays: dict[int, NDArray[Any]] = {}

    def close(self) -> None:
        """Close the file."""
        self._arrays.clear()
        self._file.close()

    def plane(self, series: int, index: tuple[int, ...]) -> NDArray[Any]:
        """Return one plane, (y, x).

        Raises
        ------
        DataError
            If it cannot be read.
        """
        found = self._series[series]
        lead = found.shape[:-2]
        with tiff_errors(self._path):
            if found.dataoffset is None and len(found.pages) == int(np.prod(lead)):
                page = found.pages[int(np.ravel_multi_index(index, lead)) if lead else 0]
                assert page is not None  # noqa: S101 - asked for those alone that are there
                if page.parent.filehandle.closed:
                    # Another file of the set; it is closed with this one.
                    page.parent.filehandle.open()
                plane = page.asarray().reshape(found.shape[-2:])
            else:
                plane = self._whole(series)[index]
        return np.asarray(plane).astype(plane.dtype.newbyteorder("="), copy=False)

    def _whole(self, series: int) -> NDArray[Any]:
        """Return a contiguous series as it lies on the disk; one compressed as a whole is unpacked."""
        if series not in self._arrays:
            found = self._series[series]
            if found.dataoffset is None:
                self._arrays[series] = found.asarray()
            else:
                # ImageJ writes stacks beyond 4 GB as one page with the rest behind it.
                self._arrays[series] = np.memmap(
                    self._path,
                    dtype=f"{self._file.byteorder}{found.dtype.char}",
                    mode="r",
                    offset=found.dataoffset,
                    shape=found.shape,
                )
        return self._arrays[series]


def master_of(path: Path) -> Path:
    """Return the file of a set that describes it: this one, or the one to which it leaves that.

    Raises
    ------
    DataError
        If it cannot be read, or that other file is not there or no TIFF file.
    """
    import tifffile

    with tiff_errors(path), tifffile.TiffFile(path) as file:
        text = file.pages.first.description
    if "<BinaryOnly" not in text:
        return path
    told = tifffile.xml2dict(text).get("OME", {}).get("BinaryOnly")
    name = str(told.get("MetadataFile", "")) if isinstance(told, dict) else ""
    master = path.parent / name
    if not name or not master.is_file() or master.suffix.lower() not in TIFF_SUFFIXES:
        raise DataError(
            f"{path} leaves it to {name or 'another file'} to say what its planes are; expected that TIFF "
            "file beside it. Copy all files of the set, or save it as one OME-TIFF."
        )
    return master


def read_header(path: Path) -> tuple[tuple[TiffSeries, ...], tuple[str, ...], str]:
    """Return what a file's headers say: its series, the names of all files of its set, and its kind.

    Raises
    ------
    DataError
        If it cannot be read, holds colour images, or has axes that mean nothing here.
    """
    import tifffile

    with tiff_errors(path), tifffile.TiffFile(path) as file:
        told = _ome(file)
        ome = _listed(told.get("Image"))
        images = ome or [{}] * len(file.series)
        simulated = _is_simulated(told)
        found = tuple(
            replace(_series(path, file, one, image), simulated=simulated)
            for one, image in zip(file.series, images, strict=False)
        )
        names = {
            str(data["UUID"]["FileName"])
            for image in ome
            for data in _listed(_listed(image["Pixels"])[0].get("TiffData"))
            if isinstance(data.get("UUID"), dict) and "FileName" in data["UUID"]
        }
        kind = "OME-TIFF" if ome else "ImageJ hyperstack" if file.is_imagej else "TIFF stack"
    if not found:
        raise DataError(f"{path} holds no images. Replace or remove it.")
    lacking = sorted(name for name in names if not (path.parent / name).is_file())
    if lacking and len(names) > 1:  # a file by itself may have been given another name
        raise DataError(
            f"{path.parent / lacking[0]} is not there, and {path.name} names it as one of its set. Copy all "
            "files of the set."
        )
    return found, tuple(sorted(names | {path.name})), kind


def _series(
    path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, image: dict[str, Any]
) -> TiffSeries:
    axes = series.axes
    if "S" in axes:
        raise DataError(
            f"{path} is a colour image; expected grey planes of 8 or 16 bits. Save the camera's own "
            "planes, not pictures of them."
        )
    check_dtype(series.dtype, path)
    shape = tuple(int(n) for n in series.shape)
    lead = axes[:-2]
    # Plain stacks have axes that nobody named: planes of a z-stack.
    unnamed = [axis for axis in lead if axis not in "TCZ"]
    if len(unnamed) == 1 and "Z" not in lead:
        lead = lead.replace(unnamed[0], "Z")
    if not axes.endswith("YX") or any(axis not in "TCZ" for axis in lead) or 0 in shape:
        raise DataError(
            f"{path} has the axes {axes} of the shape {shape}; expected planes (y, x) along time, "
            "channel and z. Save it as OME-TIFF."
        )
    sizes = {"T": 1, "C": 1, "Z": 1} | dict(zip(lead, shape[:-2], strict=True))
    present = np.ones(shape[:-2], dtype=bool)
    if image and series.dataoffset is None:
        there = [page is not None for page in series.pages]
        if len(there) == present.size:
            present = np.array(there, dtype=bool).reshape(present.shape)
    pixels = _listed(image.get("Pixels"))[0] if image else {}
    pixel_size_um, z_step_um = _voxel(path, file, pixels)
    names = [
        str(channel.get("Name") or number)
        for number, channel in enumerate(_listed(pixels.get("Channel")))
    ]
    return TiffSeries(
        name=str(image.get("Name") or ""),
        axes=lead,
        sizes=sizes,
        channels=tuple(names if len(names) == sizes["C"] else map(str, range(sizes["C"]))),
        present=present,
        pixel_size_um=pixel_size_um,
        z_step_um=z_step_um,
        interval_s=_interval(file, pixels),
        format=((shape[-2], shape[-1]), series.dtype.newbyteorder("=")),
        **_stage(image, pixels),
    )


def _interval(file: tifffile.TiffFile, pixels: dict[str, Any]) -> float | None:
    """Return the time from one time point to the next, in seconds."""
    if pixels:
        return seconds_of(
            float(pixels.get("TimeIncrement", 0)), pixels.get("TimeIncrementUnit", "s")
        )
    told = file.imagej_metadata or {}
    try:
        return seconds_of(float(told.get("finterval", 0)), "s")
    except (TypeError, ValueError):
        return None


def _stage(image: dict[str, Any], pixels: dict[str, Any]) -> dict[str, Any]:
    """Return label and coordinates of the stage: those of the image, else of its first plane."""
    label = _listed(image.get("StageLabel"))
    plane = _listed(pixels.get("Plane"))
    stage = label[0] if label and isinstance(label[0], dict) else {}
    first = plane[0] if plane and isinstance(plane[0], dict) else {}
    found: dict[str, Any] = {"label": str(stage["Name"]) if stage.get("Name") else None}
    for axis in "XYZ":
        told = [
            length_um(holder[key], holder.get(f"{key}Unit", "reference frame"))
            for holder, key in ((stage, axis), (first, f"Position{axis}"))
            if key in holder
        ]
        found[f"{axis.lower()}_um"] = next((um for um in told if um is not None), None)
    return found


def _voxel(
    path: Path, file: tifffile.TiffFile, pixels: dict[str, Any]
) -> tuple[float | None, float | None]:
    """Return pixel size and z-step by OME-XML or ImageJ; resolutions of other TIFF files are of print."""
    if pixels:
        y, x, z = (
            um_of(
                float(pixels.get(f"PhysicalSize{a}", 0)), pixels.get(f"PhysicalSize{a}Unit", "um")
            )
            for a in "YXZ"
        )
        return square_um(y, x, path), z
    told = file.imagej_metadata
    if told is None or "unit" not in told:
        return None, None
    tags = file.pages.first.tags
    y, x = (
        um_of(tags[name].value[1] / tags[name].value[0], told["unit"])
        if name in tags and tags[name].value[0]
        else None
        for name in ("YResolution", "XResolution")
    )
    return square_um(y, x, path), um_of(float(told.get("spacing", 0)), told["unit"])


def _ome(file: tifffile.TiffFile) -> dict[str, Any]:
    """Return what a file's OME-XML says; nothing where there is none."""
    if not file.is_ome or file.ome_metadata is None:
        return {}
    import tifffile

    told = tifffile.xml2dict(file.ome_metadata).get("OME")
    return told if isinstance(told, dict) else {}


def _is_simulated(ome: dict[str, Any]) -> bool:
    """Return whether our annotation of simulated cells is there, on whatever: programs drop references."""
    holders = [h for h in _listed(ome.get("StructuredAnnotations")) if isinstance(h, dict)]
    notes = [note for holder in holders for note in _listed(holder.get("MapAnnotation"))]
    return any(isinstance(note, dict) and note.get("Namespace") == SIMULATED for note in notes)


def _listed(found: Any) -> list[Any]:
    """Return what XML may hold once or several times as a list."""
    if found is None:
        return []
    return list(found) if isinstance(found, list | tuple) else [found]


class TiffRecording(Recording):
    """One OME-TIFF (or a set of files) or hyperstack as a movie; each of its series is a position.

    Parameters
    ----------
    path : Path
        The file, or one of its set.

    Attributes
    ----------
    files : tuple of str
        Names of all files of the set.
    kind : str
        "OME-TIFF", "ImageJ hyperstack" or "TIFF stack".

    Raises
    ------
    DataError
        If it cannot be read or used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = movie_name(path.name)
        notes = read_notes(path)
        self._series, self.files, self.kind = read_header(path)
        first = self._series[0]
        for other in self._series[1:]:
            if (other.channels, other.pixel_size_um, other.z_step_um) != (
                first.channels,
                first.pixel_size_um,
                first.z_step_um,
            ):
                raise DataError(
                    f"The images of {path} differ in channels or voxel size. Save each in a file of "
                    "its own."
                )
        self.channels = one_channel(first.channels, notes.channels, path)
        self.pixel_size_um = notes.pixel_size_um or first.pixel_size_um
        self.z_step_um = notes.z_step_um or first.z_step_um
        self.interval_s = first.interval_s
        self.simulated = first.simulated
        names = [series.name for series in self._series]
        if len(set(names)) < len(names) or "" in names:
            names = [f"p{number}" for number in range(len(names))]
        alone = len(names) == 1
        self.places = tuple(
            Place(
                "" if alone else name,
                "0" if alone else name,
                "" if alone else name,
                series.sizes["T"],
                series.sizes["Z"],
                label=series.label or (None if alone else series.name or None),
                x_um=series.x_um,
                y_um=series.y_um,
                z_um=series.z_um,
            )
            for name, series in zip(names, self._series, strict=True)
        )

    @property
    def one_plane(self) -> bool:
        """Whether it is a mere picture, which can be no movie of several channels or time points."""
        return sum(series.present.size for series in self._series) == 1

    def present(self, place: int, c: int) -> NDArray[np.bool_]:
        """Return which planes of a channel are there: bool, (n_t, n_z)."""
        series = self._series[place]
        n_t, n_z = series.sizes["T"], series.sizes["Z"]
        there = [[series.present[series.index(t, c, z)] for z in range(n_z)] for t in range(n_t)]
        return np.array(there, dtype=bool)

    def planes(self, place: int, c: int, at: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Return planes that are there, (y, x) each."""
        volume: TiffVolume = self._opened()
        series = self._series[place]
        return [volume.plane(place, series.index(t, c, z)) for t, z in at]

    def frame_format(self, place: int) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Return size (y, x) and data type of a place's planes."""
        return self._series[place].format

    def _open(self) -> TiffVolume:
        return TiffVolume(self.path)

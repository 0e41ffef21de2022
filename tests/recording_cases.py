"""Recordings as other programs write them, with known pixels."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr

from livestain.errors import DataError
from livestain.recordings import open_recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

NAMES = ("Brightfield", "Mitochondria", "Nuclei")


def volume(seed: int = 0, shape=(2, 3, 4, 40, 48), dtype=np.uint16) -> np.ndarray:
    """Random pixels, (t, c, z, y, x)."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def refused(path: Path) -> str:
    """Return the one sentence by which a recording is refused."""
    with pytest.raises(DataError) as caught:
        open_recording(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def image_attributes(axes: str, *, um=(0.5, 0.1), names=NAMES, version: str) -> dict[str, Any]:
    step = {"t": 1.0, "c": 1.0, "z": um[0], "y": um[1], "x": um[1]}
    kind = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kind.get(a, "space")} | ({"unit": "micrometer"} if a in "zyx" else {})
        for a in axes
    ]
    scale = {"type": "scale", "scale": [step[a] for a in axes]}
    return {
        "multiscales": [
            {
                "version": version,
                "name": "image",
                "axes": described,
                "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
            }
        ],
        "omero": {
            "channels": [
                {
                    "label": n,
                    "color": "FFFFFF",
                    "window": {"min": 0, "max": 1, "start": 0, "end": 1},
                }
                for n in names
            ]
        },
    }


def write_image_group(group: zarr.Group, pixels: np.ndarray, version: str, **how: Any) -> None:
    """Write (t, c, z, y, x) into a group as one multiscale image of one level."""
    axes = how.pop("axes", "tczyx")
    kept = pixels[tuple(slice(None) if a in axes else 0 for a in "tczyx")]
    # Several planes a chunk, as many programs have it.
    chunks = tuple(3 if a == "z" else 64 if a in "yx" else 1 for a in axes)
    group.create_array(
        "0",
        data=kept,
        chunks=chunks,
        dimension_names=None if version == "0.4" else list(axes),
        chunk_key_encoding={"name": "v2" if version == "0.4" else "default", "separator": "/"},
    )
    put(group, image_attributes(axes, version=version, **how), version)


def put(group: zarr.Group, attributes: dict[str, Any], version: str) -> None:
    group.attrs.update(
        attributes if version == "0.4" else {"ome": {"version": version, **attributes}}
    )


def new_group(path: Path, version: str) -> zarr.Group:
    return zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)


def write_zarr(path: Path, pixels: np.ndarray, version: str = "0.5", **how: Any) -> None:
    write_image_group(new_group(path, version), pixels, version, **how)


def write_plate(path: Path, wells: dict[str, np.ndarray], version: str, **how: Any) -> None:
    """Write one image a well."""
    plate = new_group(path, version)
    rows, columns = zip(*(name.split("/") for name in wells), strict=True)
    described = {
        "columns": [{"name": n} for n in sorted(set(columns))],
        "rows": [{"name": n} for n in sorted(set(rows))],
        "version": version,
        "wells": [
            {
                "path": n,
                "rowIndex": sorted(set(rows)).index(r),
                "columnIndex": sorted(set(columns)).index(c),
            }
            for n, r, c in zip(wells, rows, columns, strict=True)
        ],
    }
    put(plate, {"plate": described}, version)
    for name, pixels in wells.items():
        well = plate.create_group(name)
        put(well, {"well": {"images": [{"path": "0"}], "version": version}}, version)
        write_image_group(well.create_group("0"), pixels, version, **how)


def write_bioformats2raw(path: Path, images: list[np.ndarray], version: str, **how: Any) -> None:
    group = new_group(path, version)
    put(group, {"bioformats2raw.layout": 3}, version)
    for number, pixels in enumerate(images):
        write_image_group(group.create_group(str(number)), pixels, version, **how)


def write_ome_tiff(path: Path, pixels: np.ndarray, *, um=(0.5, 0.1), names=NAMES, **how) -> None:
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        metadata={
            "axes": "TCZYX",
            "Channel": {"Name": list(names)},
            "PhysicalSizeX": um[1] * 1e3,
            "PhysicalSizeY": um[1] * 1e3,
            "PhysicalSizeZ": um[0] * 1e3,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeYUnit": "nm",
            "PhysicalSizeZUnit": "nm",
        },
        **how,
    )


def write_imagej(path: Path, pixels: np.ndarray, *, um=(0.5, 0.1)) -> None:
    tifffile.imwrite(
        path,
        np.ascontiguousarray(pixels.swapaxes(1, 2)),
        imagej=True,
        resolution=(1 / um[1], 1 / um[1]),
        metadata={"axes": "TZCYX", "spacing": um[0], "unit": "um"},
    )


def write_ndtiff(
    folder: Path,
    planes: Iterable[tuple[dict[str, Any], np.ndarray]],
    summary: dict[str, Any] | None = None,
    metadata: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    file_bytes: int = 2**24,
) -> Path:
    """Write (axes, pixels) by the reference writer; return the folder of the data set."""
    import ndstorage

    with pytest.MonkeyPatch.context() as patch:
        # It reserves 4 GB a file, which not every file system gives for nothing, and leaves 5 MB free.
        patch.setattr(ndstorage.ndtiff_file, "MAX_FILE_SIZE", 5_000_000 + file_bytes)
        data = ndstorage.NDTiffDataset(
            str(folder), name="cells", summary_metadata=summary or {}, writable=True
        )
        writers = set()
        for axes, pixels in planes:
            data.put_image(axes, pixels, metadata(axes) if metadata else {})
            writers.add(data.current_writer)
        for writer in writers:
            writer.reader.close()  # it leaves these open
        data.finish()
        data.close()
    (made,) = folder.glob("cells_*")
    return made


def write_sparse_set(
    folder: Path, pixels: np.ndarray, targets_at=(0, 2), *, one_master: bool = False
) -> tuple[Path, Path]:
    """Write brightfield and mitochondria, (t, 2, 1, y, x), as OME-TIFF of two files, with holes.

    With `one_master` the second file leaves it to the first to describe the set.
    """
    n_t, _, _, height, width = pixels.shape
    planes = ([(t, 0) for t in range(n_t)], [(t, 1) for t in targets_at])
    files = [(folder / f"run_{n}.ome.tif", f"urn:uuid:{uuid.uuid4()}") for n in range(2)]
    data = "".join(
        f'<TiffData IFD="{ifd}" PlaneCount="1" FirstT="{t}" FirstC="{c}" FirstZ="0">'
        f'<UUID FileName="{file.name}">{name}</UUID></TiffData>'
        for (file, name), own in zip(files, planes, strict=True)
        for ifd, (t, c) in enumerate(own)
    )
    for (file, name), own in zip(files, planes, strict=True):
        told = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{name}"><Image ID="Image:0" Name="run"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYZCT" Type="uint16" SizeX="{width}" SizeY="{height}" SizeZ="1" '
            f'SizeC="2" SizeT="{n_t}" PhysicalSizeX="0.1" PhysicalSizeY="0.1">'
            '<Channel ID="Channel:0:0" Name="Brightfield" SamplesPerPixel="1"/>'
            '<Channel ID="Channel:0:1" Name="Mitochondria" SamplesPerPixel="1"/>'
            f"{data}</Pixels></Image></OME>"
        )
        if one_master and file != files[0][0]:
            told = (
                '<?xml version="1.0" encoding="UTF-8"?>'
                '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
                f'<BinaryOnly MetadataFile="{files[0][0].name}" UUID="{files[0][1]}"/></OME>'
            )
        with tifffile.TiffWriter(file) as writer:
            for number, (t, c) in enumerate(own):
                writer.write(
                    pixels[t, c, 0],
                    description=told if number == 0 else None,
                    metadata=None,
                    contiguous=False,
                    photometric="minisblack",
                )
    return files[0][0], files[1][0]

"""What other programs' readers show of a store, in one form; and what each of them is known not to do."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass
class Seen:
    """One image, as a reader shows it.

    Attributes
    ----------
    path : str or None
        Its folder inside what was opened; None where the reader does not tell.
    name : str
    labels, colors, windows
        Of each channel; colours as RRGGBB, windows as (start, end) in counts.
    scales : list of tuple
        Seconds, and micrometres in z, y, x, of each level of which the reader tells them.
    levels : list of array, (t, c, z, y, x)
    """

    path: str | None
    name: str
    labels: list[str]
    colors: list[str]
    windows: list[tuple[float, float]]
    scales: list[tuple[float, ...]]
    levels: Sequence[Any]


@dataclass(frozen=True)
class Cannot:
    """A layout that a reader does not open, as measured; the test fails when the reader has learnt it.

    Attributes
    ----------
    why : str
    raises : str
        Name of the error's class; "" = no error, and no image either.
    match : str
        Part of its message.
    instead : function, optional
        Opens it all the same, for those who know more of the reader. Else each position is opened alone.
    """

    why: str
    raises: str = ""
    match: str = ""
    instead: Callable[[Path], list[Seen]] | None = None


@dataclass(frozen=True)
class Reader:
    """A reader of another program.

    Attributes
    ----------
    read : function
        Opens a folder and gives the images that it finds in it.
    cannot : mapping
        By the layout's kind, what the reader does not open.
    mosaic : str
        Why it shows a plate as one image of the first fields; "" = it shows each field.
    scales : "all" or "first"
        Whether it tells the pixel size of every level, or of the first alone.
    ignore : tuple of str
        Warnings of its own, that say nothing of our store.
    needs : str
        Module that is not among the packages for developers; without it the reader's tests are skipped.
    """

    read: Callable[[Path], list[Seen]]
    cannot: Mapping[str, Cannot] = field(default_factory=dict)
    mosaic: str = ""
    scales: str = "all"
    ignore: tuple[str, ...] = ()
    needs: str = ""


def seen_in_attributes(path: str | None, ome: Mapping[str, Any], arrays: Sequence[Any]) -> Seen:
    """Return an image by its attributes `ome`, for readers that hand them out as they are."""
    (multiscale,) = ome["multiscales"]
    channels = ome["omero"]["channels"]
    assert len(multiscale["datasets"]) == len(arrays)
    return Seen(
        path=path,
        name=multiscale["name"],
        labels=[channel["label"] for channel in channels],
        colors=[channel["color"] for channel in channels],
        windows=[(channel["window"]["start"], channel["window"]["end"]) for channel in channels],
        scales=[
            without_c(dataset["coordinateTransformations"][0]["scale"])
            for dataset in multiscale["datasets"]
        ],
        levels=arrays,
    )


def without_c(scale: Sequence[float]) -> tuple[float, ...]:
    t, _, z, y, x = scale
    return t, z, y, x


def paths_in(ome: Mapping[str, Any], well: Callable[[str], Mapping[str, Any]]) -> Iterator[str]:
    """Yield the images of a plate, well by well."""
    for place in ome["plate"]["wells"]:
        for image in well(place["path"])["well"]["images"]:
            yield f"{place['path']}/{image['path']}"


def read_by_hand(path: Path) -> list[Seen]:
    """Follow the specification's own words, with zarr alone."""
    import zarr

    root = zarr.open_group(path, mode="r")

    def ome(where: str) -> Mapping[str, Any]:
        return root[where].attrs["ome"] if where else root.attrs["ome"]

    top = ome("")
    if "plate" in top:
        images = list(paths_in(top, ome))
    elif "bioformats2raw.layout" in top:
        images = ome("OME")["series"]
    else:
        images = [""]

    def arrays(image: str) -> list[Any]:
        names = [dataset["path"] for dataset in ome(image)["multiscales"][0]["datasets"]]
        return [root[f"{image}/{name}".lstrip("/")] for name in names]

    return [seen_in_attributes(image, ome(image), arrays(image)) for image in images]


def read_yaozarrs(path: Path) -> list[Seen]:
    """Validate everything below the folder, then read by yaozarrs' own models."""
    import yaozarrs

    root = yaozarrs.validate_zarr_store(str(path))

    def ome(where: str) -> Mapping[str, Any]:
        return (root[where] if where else root).ome_metadata().model_dump(by_alias=True)

    top = ome("")
    if "plate" in top:
        images = list(paths_in(top, ome))
    elif "bioformats2raw.layout" in top:
        images = ome("OME")["series"]
    else:
        images = [""]

    def arrays(image: str) -> list[Any]:
        group = root[image] if image else root
        names = [dataset["path"] for dataset in ome(image)["multiscales"][0]["datasets"]]
        return [group[name].to_zarr_python() for name in names]

    return [seen_in_attributes(image, ome(image), arrays(image)) for image in images]


def read_ome_zarr_models(path: Path) -> list[Seen]:
    """Let it guess what lies in the folder, then read by its models."""
    import ome_zarr_models
    import zarr

    root = zarr.open_group(path, mode="r")
    found = ome_zarr_models.open_ome_zarr(root, version="0.5")
    if not hasattr(found, "well_groups"):
        return [_of_models(root, "", found)]
    return [
        _of_models(root, f"{place.path}/{name}", image)
        for place, well in zip(found.ome_attributes.plate.wells, found.well_groups, strict=True)
        for name, image in _images_of(well)
    ]


def read_ome_zarr_models_of_positions(path: Path) -> list[Seen]:
    """Tell it that the folder holds positions, which it does not guess."""
    import zarr
    from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw

    root = zarr.open_group(path, mode="r")
    images = BioFormats2Raw.from_zarr(root).images
    return [_of_models(root, name, image) for name, image in images.items()]


def _images_of(well: Any) -> Iterator[tuple[str, Any]]:
    from ome_zarr_models.v05.image import Image

    for image in well.ome_attributes.well.images:
        yield image.path, Image.model_validate(well.members[image.path].model_dump())


def _of_models(root: Any, path: str, image: Any) -> Seen:
    ome = image.ome_attributes.model_dump(by_alias=True)
    names = [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]]
    arrays = [root[f"{path}/{name}".lstrip("/")] for name in names]
    assert [image.members[name].shape for name in names] == [array.shape for array in arrays]
    return seen_in_attributes(path, ome, arrays)


def read_ome_zarr(path: Path) -> list[Seen]:
    """Walk ome-zarr-py's nodes."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader as Nodes

    return [
        Seen(
            path=None,
            name=node.metadata["name"],
            labels=node.metadata["channel_names"],
            colors=[as_hex(rgb) for _, rgb in node.metadata["colormap"]],
            windows=[tuple(limits) for limits in node.metadata["contrast_limits"]],
            scales=[
                without_c(level[0]["scale"]) for level in node.metadata["coordinateTransformations"]
            ],
            levels=node.data,
        )
        for node in Nodes(parse_url(path))()
    ]


def read_napari(path: Path) -> list[Seen]:
    """Take the layers that napari-ome-zarr would hand to a viewer, channels put together again."""
    reader = importlib.import_module("napari_ome_zarr").napari_get_reader(str(path))
    seen: list[Seen] = []
    for data, settings, kind in reader(str(path)):
        assert kind == "image"
        for layer in _channels_of(data, settings):
            # It puts the image's name before each channel's.
            name, _, label = layer["name"].partition(": ")
            if not seen or seen[-1].name != name or label in seen[-1].labels:
                scales = [tuple(layer["scale"])]
                seen.append(Seen(None, name, [], [], [], scales, levels=[[] for _ in data]))
            image = seen[-1]
            assert image.scales == [tuple(layer["scale"])]
            image.labels.append(label)
            image.colors.append(as_hex(layer["colormap"].colors[-1][:3]))
            image.windows.append(tuple(layer["contrast_limits"]))
            for level, channel in zip(image.levels, layer["data"], strict=True):
                level.append(channel)
    for image in seen:
        image.levels = [np.stack(level, axis=1) for level in image.levels]
    return seen


def _channels_of(data: Sequence[Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the layers of what the reader gives: from 0.11 on it is one already."""
    if "channel_axis" not in settings:
        yield {**settings, "data": data}
        return
    assert settings["channel_axis"] == 1
    for c in range(data[0].shape[1]):
        own = {key: settings[key][c] for key in ("name", "colormap", "contrast_limits")}
        yield {**own, "scale": settings["scale"], "data": [level[:, c] for level in data]}


def read_ngio(path: Path) -> list[Seen]:
    """Open a plate as a plate, and anything else as an image, as its users have to."""
    import ngio

    def seen(where: str, container: Any) -> Seen:
        images = [container.get_image(path=name) for name in container.level_paths]
        shown = [channel.channel_visualisation for channel in images[0].channels_meta.channels]
        sizes = [image.pixel_size for image in images]
        assert (container.space_unit, container.time_unit) == ("micrometer", "second")
        return Seen(
            path=where,
            name=container.meta.name,
            labels=container.channel_labels,
            colors=[channel.color for channel in shown],
            windows=[(channel.start, channel.end) for channel in shown],
            scales=[(size.t, size.z, size.y, size.x) for size in sizes],
            levels=[image.get_as_numpy() for image in images],
        )

    try:
        plate = ngio.open_ome_zarr_plate(path, mode="r")
    except ngio.utils.NgioValidationError:
        return [seen("", ngio.open_ome_zarr_container(path, mode="r"))]
    images = plate.get_images(max_workers=None)
    return [seen(where, container) for where, container in images.items()]


def as_hex(rgb: Sequence[float]) -> str:
    return "".join(f"{round(255 * value):02X}" for value in np.asarray(rgb))


def read_with(
    reader: Reader, path: Path, read: Callable[[Path], list[Seen]] | None = None
) -> list[Seen]:
    """Read, pixels too, with nothing ignored but what the reader's row names."""
    with warnings.catch_warnings():
        for words in reader.ignore:
            warnings.filterwarnings("ignore", words)
        images = (read or reader.read)(path)
        for image in images:
            image.levels = [np.asarray(level) for level in image.levels]
    return images


_NO_VERSION = "'version' field not specified in plate metadata"
_FIRST_FIELDS = "it draws a plate as one image, and of each well the first field"

READERS: dict[str, Reader] = {
    "zarr": Reader(read_by_hand),
    "yaozarrs": Reader(read_yaozarrs),
    "ome-zarr-models": Reader(
        read_ome_zarr_models,
        cannot={
            "positions": Cannot(
                "its guess leaves bioformats2raw's layout out in version 0.5",
                "RuntimeError",
                "Could not successfully validate",
                instead=read_ome_zarr_models_of_positions,
            )
        },
        ignore=(_NO_VERSION,),
    ),
    "ome-zarr-py": Reader(
        read_ome_zarr,
        cannot={"positions": Cannot("it knows no bioformats2raw layout, and finds no image there")},
        mosaic=_FIRST_FIELDS,
    ),
    "napari-ome-zarr": Reader(
        read_napari,
        mosaic=_FIRST_FIELDS,
        # A viewer works out the levels' from their shapes.
        scales="first",
        # Of napari's settings, while it is imported.
        ignore=("`json_encoders` is deprecated",),
        needs="napari_ome_zarr",
    ),
    "ngio": Reader(
        read_ngio,
        cannot={
            "positions": Cannot(
                "it opens images and plates, and knows no bioformats2raw layout",
                "NgioValidationError",
                "multiscales",
            )
        },
        ignore=(_NO_VERSION, "Plate-wide operations still read one item at a time"),
    ),
}
"""By name, every reader that the store is made for."""

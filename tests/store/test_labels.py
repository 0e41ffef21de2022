"""Label images: what other programs read of them, and what is refused."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from livestain.errors import StoreError
from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    Labels,
    PlannedBlock,
    PositionPlan,
    StorePlan,
    create_store,
    open_store,
)

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (450, 410)
"""Two levels, the first of them of odd sides."""


@pytest.fixture(scope="module", params=[1, 2], ids=["one", "two-positions"])
def labelled(request, tmp_path_factory):
    """A store of two time points and two planes with labels; its path and the labels."""
    n_p = request.param
    plan = StorePlan(
        positions=tuple(PositionPlan(path=str(p) if n_p > 1 else "") for p in range(n_p)),
        n_t=2,
        n_z=2,
        height=SHAPE[0],
        width=SHAPE[1],
        pixel_size_um=0.1,
        z_step_um=0.5,
        t_interval_s=10.0,
        channels=(
            ChannelPlan(
                name="Brightfield",
                kind="raw",
                planned=(PlannedBlock(p=range(n_p), t=(0, 1), z=(0, 1)),),
            ),
        ),
    )
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 3, (n_p, 2, 2, *SHAPE)).astype(np.uint8)
    path = tmp_path_factory.mktemp("labelled") / "run.ome.zarr"
    with create_store(path, plan) as store:
        labels = Labels.create(store, "cells", {1: ("one", (255, 0, 0)), 2: ("two", (0, 255, 0))})
        for p, t, z in np.ndindex(n_p, 2, 2):
            index = PlaneIndex(p, t, 0, z)
            image = rng.integers(0, 1000, SHAPE).astype(np.uint16)
            store.write_levels(index, image)
            store.write(index, image).result()
            labels.write(index, drawn[p, t, z])
    return path, drawn


def images(path: Path, n_p: int) -> list[Path]:
    return [path / str(p) for p in range(n_p)] if n_p > 1 else [path]


def test_they_are_read_back_with_the_largest_of_each_square(labelled):
    path, drawn = labelled
    with open_store(path) as store:
        labels = Labels(store, "cells")
        index = PlaneIndex(len(drawn) - 1, 1, 0, 0)
        assert np.array_equal(labels.read(index), drawn[-1, 1, 0])
        small = labels.read(index, level=1)
    assert small.shape == (225, 205)
    assert small[3, 4] == drawn[-1, 1, 0, 6:8, 8:10].max()


def test_yaozarrs_finds_them_valid(labelled):
    import yaozarrs

    path, drawn = labelled
    for image in images(path, len(drawn)):
        yaozarrs.validate_zarr_store(str(image))
        yaozarrs.validate_zarr_store(str(image / "labels"))
        yaozarrs.validate_zarr_store(str(image / "labels" / "cells"))
    yaozarrs.validate_zarr_store(str(path))


def test_ngio_reads_them_beside_their_image(labelled):
    import ngio

    path, drawn = labelled
    for image, expected in zip(images(path, len(drawn)), drawn, strict=True):
        container = ngio.open_ome_zarr_container(image, mode="r")
        assert container.list_labels() == ["cells"]
        label = container.get_label("cells")
        assert np.array_equal(label.get_as_numpy(), expected)
        size = label.pixel_size
        assert (size.t, size.z, size.y, size.x) == (10.0, 0.5, 0.1, 0.1)


def test_ome_zarr_py_reads_them_as_labels(labelled):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Label, Reader

    path, drawn = labelled
    for image, expected in zip(images(path, len(drawn)), drawn, strict=True):
        nodes = list(Reader(parse_url(image))())
        (node,) = [n for n in nodes if n.load(Label) is not None]
        assert node.metadata["name"] == "cells"
        assert node.metadata["color"] == {1: [1, 0, 0, 1], 2: [0, 1, 0, 1]}
        assert node.metadata["properties"] == {1: {"name": "one"}, 2: {"name": "two"}}
        assert np.array_equal(np.asarray(node.data[0]), expected)
        assert len(node.data) == 2


def test_napari_shows_them_as_a_labels_layer(labelled):
    reader = pytest.importorskip("napari_ome_zarr")
    path, drawn = labelled
    for image, expected in zip(images(path, len(drawn)), drawn, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layers = reader.napari_get_reader(str(image))(str(image))
        (labels,) = [layer for layer in layers if layer[2] == "labels"]
        assert np.array_equal(np.asarray(labels[0][0]), expected)
        assert labels[1]["scale"] == [10.0, 0.5, 0.1, 0.1]


def test_what_is_no_label_plane_is_refused(labelled, tmp_path):
    path, _ = labelled
    with open_store(path) as store:
        with pytest.raises(StoreError, match="expected \\(450, 410\\) and bool or uint8"):
            Labels(store, "cells").write(PlaneIndex(0, 0, 0, 0), np.zeros((3, 3), np.uint8))
        with pytest.raises(StoreError, match="Cannot make the labels 'cells'"):
            Labels.create(store, "cells", {1: ("one", (1, 1, 1))})
        with pytest.raises(StoreError, match="Cannot open the array"):
            Labels(store, "nuclei").read(PlaneIndex(0, 0, 0, 0))

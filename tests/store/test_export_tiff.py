"""Runs as OME-TIFF, read by tifffile and ome-types."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff
from store_cases import at, make_plan, plane_of

from livestain.errors import StoreError
from livestain.planes import PlaneIndex
from livestain.store import PlannedBlock, PositionPlan, create_store, export_tiff


@pytest.fixture
def stained(full):
    """A store whose raw planes are there, and all predictions but one."""
    for index in full.plan.planned_indices(1):
        if index != at(2, 1, 1):
            full.write_virtual(index, np.full((24, 32), 10.0 + index.t))
    return full


def test_every_plane_is_where_it_was(stained, tmp_path):
    seen = []
    done = export_tiff(stained.path, progress=lambda n, total: seen.append((n, total)))
    assert done.files == (tmp_path / "run.ome.tif",)
    assert (done.planes, done.missing) == (23, 1)
    assert seen == [(n, 23) for n in range(1, 24)]
    with tifffile.TiffFile(done.files[0]) as tiff:
        (series,) = tiff.series
        assert (series.axes, series.shape) == ("TCZYX", (4, 2, 3, 24, 32))
        pixels = series.asarray()
    for index in stained.plan.planned_indices(0) + stained.plan.planned_indices(1):
        _, t, c, z = index
        if stained.is_present(index):
            np.testing.assert_array_equal(pixels[t, c, z], stained.read(index))
    assert not pixels[2, 1, 1].any(), "a plane that is not there has no page"


def test_a_prediction_says_that_it_is_one(stained):
    done = export_tiff(stained.path)
    described = from_tiff(done.files[0])
    pixels = described.images[0].pixels
    assert [c.name for c in pixels.channels] == ["Brightfield", "mitochondria (predicted)"]
    assert (pixels.physical_size_x, pixels.physical_size_z, pixels.time_increment) == (0.1, 0.5, 2)
    assert len(pixels.tiff_data_blocks) == 23
    (note,) = described.structured_annotations.map_annotations
    assert not described.images[0].annotation_refs, "nothing says that its cells are simulated"
    said = {m.k: m.value for m in note.value.ms}
    assert said["predicted"] == "from Brightfield; not measured"
    assert (float(said["scale"]), float(said["offset"])) == (0.25, -3.0)


def test_compressed_planes_are_the_same(stained, tmp_path):
    (plain,) = export_tiff(stained.path).files
    (small,) = export_tiff(stained.path, tmp_path / "small.tiff", compress=True).files
    np.testing.assert_array_equal(
        tifffile.imread(plain, is_ome=True), tifffile.imread(small, is_ome=True)
    )
    with tifffile.TiffFile(small) as tiff:
        assert tiff.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_each_position_is_a_file(tmp_path):
    positions = (PositionPlan(name="left/1", path="0", x_um=5), PositionPlan(path="1"))
    every = (PlannedBlock(p=(0, 1), t=range(2), z=range(2)),)
    plan = make_plan(n_t=2, n_z=2, planned=every, virtual=False, positions=positions)
    with create_store(tmp_path / "run.ome.zarr", plan) as store:
        for index in plan.planned_indices(0):
            store.write(index, plane_of(index)).result()
        done = export_tiff(store.path, tmp_path / "there" / "all.ome.tif")
        assert [f.name for f in done.files] == ["all_000-left_1.ome.tif", "all_001-Pos001.ome.tif"]
        for p, file in enumerate(done.files):
            pixels = tifffile.imread(file, is_ome=True).reshape(2, 2, 24, 32)
            for t in range(2):
                for z in range(2):
                    expected = store.read(PlaneIndex(p, t, 0, z))
                    np.testing.assert_array_equal(pixels[t, z], expected)
    assert from_tiff(done.files[0]).images[0].pixels.planes[0].position_x == 5


def test_nothing_is_replaced_or_left_half_unasked(stained, tmp_path):
    file = tmp_path / "run.ome.tif"
    file.write_bytes(b"mine")
    with pytest.raises(StoreError, match=r"exists already.*--overwrite"):
        export_tiff(stained.path)
    assert file.read_bytes() == b"mine"
    damaged = next((stained.path / "0").glob("c.1.0.*"))
    damaged.write_bytes(b"no plane")
    with pytest.raises(StoreError, match="damaged"):
        export_tiff(stained.path, overwrite=True)
    assert file.read_bytes() == b"mine"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["run.ome.tif", "run.ome.zarr"]


def test_what_cannot_be_exported_is_told(store, tmp_path):
    with pytest.raises(StoreError, match="no plane yet"):
        export_tiff(store.path)
    with pytest.raises(StoreError, match="no TIFF file"):
        export_tiff(store.path, tmp_path / "run.png")

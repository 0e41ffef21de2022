"""A store of every layout, opened by the readers of other programs: names, colours, scales, pixels."""

from __future__ import annotations

import importlib.util
import re
import shutil

import numpy as np
import pytest
from layout_cases import LAYOUTS, write_layout
from ome_types import from_xml
from reader_cases import READERS, read_by_hand, read_with

from livestain.errors import MissingPlaneError
from livestain.live.microscope import simulated_core
from livestain.store import open_store


@pytest.fixture(scope="module")
def core():
    core = simulated_core(3, shape=(64, 64))
    yield core
    core.unloadAllDevices()
    del core


@pytest.fixture(scope="module")
def store_of(core, bundle_of, tmp_path_factory):
    """Return a function that gives the store of a layout, written once and read by all."""
    models = {
        "mitochondria": str(bundle_of()),
        "nuclei": str(bundle_of(output="nuclei", kind="fluorescence")),
    }
    written = {}

    def make(layout):
        if layout not in written:
            path = tmp_path_factory.mktemp("store") / "run.ome.zarr"
            written[layout] = write_layout(LAYOUTS[layout], core, models, path)
        return written[layout]

    return make


@pytest.fixture(params=READERS)
def reader(request):
    found = READERS[request.param]
    if found.needs and importlib.util.find_spec(found.needs) is None:
        pytest.skip(f"{request.param} is not installed: pip install '.[dev,readers]'")
    return found


def check(seen, written, p, levels, scales):
    """Compare an image as a reader shows it with the plan of position p and the pixels expected."""
    plan = written.plan
    position = plan.positions[p]
    folders = {"image": 0, "positions": 1, "plate": 3}[written.kind]
    assert len(position.path.split("/")) * bool(position.path) == folders
    assert seen.name == (position.name or f"Pos{p:03d}" if position.path else "run")
    assert seen.labels == [
        f"{channel.name} (predicted)" if channel.kind == "virtual" else channel.name
        for channel in plan.channels
    ]
    assert seen.colors == [channel.color for channel in plan.channels]
    assert seen.windows == [channel.display for channel in plan.channels]
    assert len(levels) > 1 or plan.width < 384
    # What is not known is 1, since 0 and nothing are not allowed.
    um, z_um, s = plan.pixel_size_um, plan.z_step_um or 1.0, plan.t_interval_s or 1.0
    expected = [(s, z_um, um * 2**n, um * 2**n) for n in range(len(levels))]
    np.testing.assert_allclose(seen.scales, expected if scales == "all" else expected[:1])
    assert len(seen.levels) == len(levels)
    for found, level in zip(seen.levels, levels, strict=True):
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, level)
    # Said once more, since it is what other programs' users have to know: a missing plane is 0 to them.
    if seen.levels[0].shape == written.shapes[0]:
        for index in written.missing(p):
            assert not seen.levels[0][index.t, index.c, index.z].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_others_open_a_store_of_every_layout(store_of, layout, reader):
    written = store_of(layout)
    read = None
    if cannot := reader.cannot.get(written.kind):
        if cannot.raises:
            with pytest.raises(Exception, match=re.escape(cannot.match)) as caught:
                read_with(reader, written.path)
            assert caught.type.__name__ == cannot.raises, cannot.why
        else:
            assert read_with(reader, written.path) == [], cannot.why
        read = cannot.instead
        if read is None:
            return
    images = read_with(reader, written.path, read)
    if written.kind == "plate" and reader.mosaic:
        (image,) = images
        check(image, written, 0, written.mosaic(), reader.scales)
        return
    assert len(images) == written.plan.n_p
    for p, image in enumerate(images):
        assert image.path in (None, written.plan.positions[p].path)
        check(image, written, p, written.pixels(p), reader.scales)


@pytest.mark.parametrize("layout", [n for n, row in LAYOUTS.items() if row.kind != "image"])
def test_others_open_each_position_alone(store_of, layout, reader):
    """As they must where they cannot open the whole, and as one copied elsewhere is opened."""
    written = store_of(layout)
    for p, position in enumerate(written.plan.positions):
        (image,) = read_with(reader, written.path / position.path)
        check(image, written, p, written.pixels(p), reader.scales)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_plane_is_zero_to_others_and_an_error_to_us(store_of, layout):
    written = store_of(layout)
    with open_store(written.path) as store:
        for index, plane in written.planes.items():
            np.testing.assert_array_equal(store.read(index), plane)
        for p in range(written.plan.n_p):
            for index in written.missing(p):
                with pytest.raises(MissingPlaneError):
                    store.read(index)


def test_the_layouts_have_what_the_others_are_asked_about(store_of):
    """So that a change of the table leaves nothing out."""
    stores = {layout: store_of(layout) for layout in LAYOUTS}
    assert {w.plan.codec for w in stores.values()} == {"none", "blosc-lz4", "blosc-zstd"}
    assert {len(w.shapes) for w in stores.values()} == {1, 2, 3, 5}
    assert not any(w.plan.open_end for w in stores.values())
    tiled, merged = (
        read_by_hand(stores[layout].path)[0].levels[0]
        for layout in ("tiles in a large plane", "compacted")
    )
    assert (tiled.chunks, tiled.shards) == ((1, 1, 1, 903, 931), (1, 1, 1, 903, 4655))
    assert (merged.chunks, merged.shards) == ((1, 1, 1, 97, 403), (2, 1, 3, 97, 403))
    assert {len(w.plan.channels) for w in stores.values()} >= {1, 2, 3, 4}
    holes = {layout for layout, w in stores.items() if w.missing(0)}
    assert {"planes missing", "an open end, settled"} < holes
    (both,) = [w.plan for w in stores.values() if len(w.plan.channels) == 4]
    sources = {c.name: c.virtual.source for c in both.channels if c.virtual}
    assert sources == {"nuclei": "Mitochondria", "mitochondria": "Brightfield"}
    assert (both.t_interval_s, both.z_step_um, both.pixel_size_um) == (2.5, 0.5, 0.1)


@pytest.mark.parametrize("layout", [n for n, row in LAYOUTS.items() if row.kind == "positions"])
def test_positions_are_described_with_their_places_on_the_stage(store_of, layout):
    written = store_of(layout)
    plan = written.plan
    described = from_xml((written.path / "OME" / "METADATA.ome.xml").read_bytes())
    assert [image.id for image in described.images] == [f"Image:{p}" for p in range(plan.n_p)]
    places = {
        (i.pixels.planes[0].position_x, i.pixels.planes[0].position_y) for i in described.images
    }
    assert places == {(position.x_um, position.y_um) for position in plan.positions}
    assert len(places) == plan.n_p
    for image in described.images:
        pixels = image.pixels
        assert (pixels.size_t, pixels.size_c, pixels.size_z) == written.shapes[0][:3]
        assert (pixels.size_y, pixels.size_x) == written.shapes[0][3:]
        assert pixels.physical_size_x == plan.pixel_size_um


def test_napari_needs_the_description_of_the_positions(store_of, tmp_path):
    """The reason why it is written, though it says little: when napari no longer needs it, drop it."""
    pytest.importorskip(
        "napari_ome_zarr", reason="pip install '.[dev,readers]'", exc_type=ImportError
    )
    copy = tmp_path / "run.ome.zarr"
    shutil.copytree(store_of("grid").path, copy)
    (copy / "OME" / "METADATA.ome.xml").unlink()
    with pytest.raises(AttributeError, match="to_bytes"):
        read_with(READERS["napari-ome-zarr"], copy)

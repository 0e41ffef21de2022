"""What ndv reads of a store, against what zarr reads of it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from livestain.planes import PlaneIndex
from livestain.store import (
    ChannelPlan,
    PlannedBlock,
    PositionPlan,
    StorePlan,
    VirtualPlan,
    create_store,
    open_store,
)

pytest.importorskip("ndv")

N_P, N_T, N_Z = 2, 3, 4
SHAPE = (24, 32)


def a_plan(**changes):
    blocks = (PlannedBlock(p=range(N_P), t=range(N_T), z=range(N_Z)),)
    virtual = VirtualPlan(
        source="Brightfield",
        scale=0.5,
        offset=-1.0,
        unit="counts",
        bundle="demo",
        bundle_sha256="0" * 64,
        output="mitochondria",
    )
    values = {
        "positions": tuple(PositionPlan(path=str(p)) for p in range(N_P)),
        "n_t": N_T,
        "n_z": N_Z,
        "height": SHAPE[0],
        "width": SHAPE[1],
        "pixel_size_um": 0.1,
        "z_step_um": 0.3,
        "channels": (
            ChannelPlan(name="Brightfield", kind="raw", planned=blocks),
            ChannelPlan(
                name="mitochondria", kind="virtual", color="FF00FF", planned=blocks, virtual=virtual
            ),
        ),
    }
    return StorePlan(**{**values, **changes})


@pytest.fixture
def written(tmp_path):
    """A store of which the planes of t 1 are not there; and the other planes."""
    rng = np.random.default_rng(5)
    planes = {
        PlaneIndex(p, t, c, z): rng.integers(1, 65536, SHAPE, dtype=np.uint16)
        for p in range(N_P)
        for t in (0, 2)
        for c in range(2)
        for z in range(N_Z)
    }
    with create_store(tmp_path / "run.ome.zarr", a_plan()) as store:
        for index, plane in planes.items():
            store.write(index, plane).result()
    return tmp_path / "run.ome.zarr", planes


@pytest.fixture
def data(written):
    from livestain.monitor.store_data import StoreData

    with open_store(written[0]) as store:
        yield StoreData(store)


def test_axes_channels_and_sizes(data):
    assert data.dims == ("p", "t", "c", "z", "y", "x")
    assert dict(data.sizes()) == {"p": 2, "t": 3, "c": 2, "z": 4, "y": 24, "x": 32}
    assert data.channel_names(data.guess_channel_axis()) == {
        0: "Brightfield",
        1: "predicted mitochondria",
    }
    assert data.dims[data.guess_z_axis()] == "z"
    assert data.axis_scales() == pytest.approx({"z": 3.0, "y": 1.0, "x": 1.0})
    assert data.dtype == np.uint16
    assert data.summary_info() == "2 p, 3 t, 2 c, 4 z, 24 x 32, 0.1 um"


def test_ndv_takes_a_store_as_it_is(data):
    import ndv

    assert type(ndv.DataWrapper.create(data.data)) is type(data)


CUTS = [
    {},
    {0: slice(1, 2), 1: slice(2, 3), 3: slice(0, 1)},
    {0: 1, 1: 2, 2: 0, 3: 3},
    {1: slice(0, 3, 2), 3: slice(None), 4: slice(3, 11), 5: slice(None, None, 4)},
    {0: -1, 1: -1, 2: -1, 3: slice(-2, None), 4: 5},
    {0: 0, 4: 7, 5: -3},
]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_every_part_is_bit_for_bit_what_zarr_reads(written, data, cut):
    images = [zarr.open(written[0] / str(p), mode="r")["0"][:] for p in range(N_P)]
    whole = np.stack(images)  # zarr reads what is not there as 0, too
    expected = whole[tuple(cut.get(axis, slice(None)) for axis in range(6))]
    found = data.isel(cut)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected)
    assert found.any() == expected.any()


def test_what_is_not_there_is_told_from_what_is_black(written, data):
    path, planes = written
    black = PlaneIndex(0, 1, 0, 0)
    absent = PlaneIndex(0, 1, 1, 0)
    with open_store(path, mode="r+") as store:
        store.write(black, np.zeros(SHAPE, np.uint16)).result()
    for index in (black, absent):
        assert not data.isel(dict(enumerate(index))).any()
    assert data.is_there(black)
    assert not data.is_there(absent)
    assert all(map(data.is_there, planes))
    assert not data.is_there(PlaneIndex(0, N_T, 0, 0)), "beyond the end"


def test_a_damaged_plane_is_not_there(written, data):
    path, planes = written
    index = PlaneIndex(1, 0, 0, 2)
    file = path / "1" / "0" / "c.0.0.2.0.0"
    good = file.read_bytes()
    file.write_bytes(good[:-8] + bytes(8))
    assert not data.isel(dict(enumerate(index))).any(), "never what was shown before"
    assert not data.is_there(index)
    file.write_bytes(good)
    np.testing.assert_array_equal(data.isel(dict(enumerate(index))), planes[index])
    assert data.is_there(index)


def test_planes_are_seen_as_they_come(written, data):
    path, _ = written
    index = PlaneIndex(0, 1, 0, 3)
    assert not data.is_there(index)
    plane = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(SHAPE)
    with open_store(path, mode="r+") as store:
        store.write(index, plane).result()
    assert data.is_there(index)
    np.testing.assert_array_equal(data.isel(dict(enumerate(index))), plane)

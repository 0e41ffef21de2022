"""A run as an xarray.Dataset: plain zarr's pixels, physical coordinates, and nothing read unasked."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

import dask
import numpy as np
import pytest
import xarray
import zarr
from channel_cases import TWO, damage, fill
from store_cases import OFFSET, SCALE, at, make_plan, plane_of

from livestain.errors import MissingExtraError, MissingPlaneError, StoreError
from livestain.planes import PlaneIndex
from livestain.store import Journal, create_store, journal_path, open_store
from livestain.store.store import Store


@pytest.fixture
def _one_thread():
    """Computing starts no pool of threads, so that a test sees each read."""
    with dask.config.set(scheduler="synchronous"):
        yield


pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def counted(monkeypatch):
    """The planes that were read, in order."""
    read, seen = Store.read, []

    def count(self, index, **arguments):
        seen.append(index)
        return read(self, index, **arguments)

    monkeypatch.setattr(Store, "read", count)
    return seen


def test_it_holds_what_plain_zarr_reads(store):
    fill(store)
    data = store.to_xarray()
    counts = zarr.open_array(store.path / "0", mode="r")
    assert list(data.data_vars) == ["Brightfield", "mitochondria (predicted)"]
    assert data["Brightfield"].dims == store["Brightfield"].dims == ("t", "z", "y", "x")
    assert data["Brightfield"].dtype == np.uint16
    assert data["mitochondria (predicted)"].dtype == np.float32
    np.testing.assert_array_equal(data["Brightfield"], counts[:, 0])
    decoded = OFFSET + SCALE * counts[:, 1].astype(float)
    np.testing.assert_allclose(data["mitochondria (predicted)"], decoded, rtol=1e-6)
    # xarray's own arithmetic on it is that of the same pixels in memory, by their coordinates.
    oracle = xarray.DataArray(
        decoded,
        dims=("t", "z", "y", "x"),
        coords={"t": [0.0, 2.0, 4.0, 6.0], "z": [0.0, 0.5, 1.0]},
    )
    given = (
        data["mitochondria (predicted)"]
        .sel(t=slice(1.5, 4.5))
        .sel(z=0.6, method="nearest")
        .mean(("y", "x"))
    )
    asked = oracle.sel(t=slice(1.5, 4.5)).sel(z=0.6, method="nearest").mean(("y", "x"))
    xarray.testing.assert_allclose(given.drop_vars(["p", "stage_x_um", "stage_y_um"]), asked)
    np.testing.assert_allclose(data["x"], 0.1 * np.arange(32))
    assert [data[name].attrs["units"] for name in "tzyx"] == ["s", "um", "um", "um"]


def test_a_prediction_says_that_it_is_one(store):
    data = store.to_xarray()
    assert data["Brightfield"].attrs == {
        "long_name": "Brightfield",
        "units": "counts",
        "predicted": False,
    }
    assert data["mitochondria (predicted)"].attrs == {
        "long_name": "mitochondria (predicted)",
        "units": "counts",
        "predicted": True,
        "sources": ["Brightfield"],
        "bundle": "demo",
        "bundle_sha256": "0" * 64,
    }
    assert data.attrs["store"] == str(store.path)


def test_planes_are_read_one_a_task_and_only_when_they_are_computed(store, counted):
    fill(store)
    data = store.to_xarray()
    assert not counted
    assert data["Brightfield"].data.chunks == ((1,) * 4, (1,) * 3, (24,), (32,))
    part = data["Brightfield"][1:3, -1, :5]
    assert not counted
    part.compute()
    assert sorted(counted) == [at(1, 0, 2), at(2, 0, 2)]


def test_threads_of_dask_read_the_same(store):
    fill(store)
    with dask.config.set(scheduler="threads", num_workers=2):
        data = store.to_xarray().compute()
    np.testing.assert_array_equal(data["Brightfield"], store["Brightfield"])
    np.testing.assert_array_equal(data["mitochondria (predicted)"], store["mitochondria"])
    assert not [t for t in threading.enumerate() if t.name.startswith("livestain")]


def test_it_is_read_also_after_the_store_is_closed(path):
    with create_store(path, make_plan()) as store:
        fill(store)
        data = store.to_xarray()
    np.testing.assert_array_equal(data["Brightfield"][0, 0], plane_of(at(0, 0, 0)))


def test_a_missing_plane_is_an_error_of_a_camera_and_nan_of_a_prediction(store):
    fill(store, leave={at(1, 0, 2), at(2, 1, 0)})
    data = store.to_xarray()
    np.testing.assert_array_equal(data["Brightfield"][0], store["Brightfield"][0])
    with pytest.raises(MissingPlaneError, match=r"p=0 t=1 c=0 z=2 .* is not there"):
        data["Brightfield"].max().compute()
    predicted = data["mitochondria (predicted)"].compute()
    there = np.ones((4, 3), bool)
    there[2, 0] = False
    np.testing.assert_array_equal(predicted.notnull().all(("y", "x")), there)
    np.testing.assert_array_equal(predicted.isnull().all(("y", "x")), ~there)

    filled = store.to_xarray(missing="nan")["Brightfield"]
    assert filled.dtype == np.float32
    there = np.ones((4, 3), bool)
    there[1, 2] = False
    np.testing.assert_array_equal(filled.notnull().all(("y", "x")), there)
    np.testing.assert_array_equal(filled.fillna(0), store["Brightfield"].masked[...].filled())
    with pytest.raises(StoreError, match="missing is 'raise' or 'nan'; given 'zeros'"):
        store.to_xarray(missing="zeros")


@pytest.mark.parametrize("missing", ["raise", "nan"])
def test_a_damaged_plane_is_an_error(store, missing):
    fill(store)
    damage(store.path, at(1, 0, 1))
    damage(store.path, at(2, 1, 1))
    data = store.to_xarray(missing=missing)
    for name, place in [("Brightfield", "t=1 c=0"), ("mitochondria (predicted)", "t=2 c=1")]:
        with pytest.raises(StoreError, match=f"{place} z=1 .* is damaged"):
            data[name].mean().compute()
        data[name][0].compute()


def test_positions_are_an_axis_with_names_stage_places_and_times(path):
    with create_store(path, make_plan(positions=TWO, n_t=2, n_z=1, t_interval_s=None)) as store:
        for place in ((1, 1, 0, 0), (0, 0, 0, 0)):
            store.write(PlaneIndex(*place), plane_of(place)).result()
        with Journal(journal_path(path)) as journal:
            journal.append("plane", index=(1, 1, 0, 0), time="2026-01-02T03:04:05+00:00")
        data = store.to_xarray(missing="nan")
    field = data["Brightfield"].set_index(p="p").sel(p="Pos001")
    np.testing.assert_array_equal(field[1, 0], plane_of((1, 1, 0, 0)))
    assert data["stage_x_um"].sel(p="A1") == -10.0
    assert data["t"].attrs["units"] == "1"
    # What CF makes of the unit is the time itself.
    times = xarray.decode_cf(data[["time_s"]])["time_s"]
    assert times.dims == ("p", "t")
    assert times[1, 1] == np.datetime64("2026-01-02T03:04:05")
    assert times.isnull().sum() == 3


def test_runs_of_one_position_join_along_p(tmp_path):
    runs = []
    for name in ("one", "two"):
        with create_store(tmp_path / f"{name}.ome.zarr", make_plan(n_t=1, n_z=1)) as store:
            fill(store)
            runs.append(store.to_xarray())
    joined = xarray.concat(runs, dim="p", data_vars="all", combine_attrs="drop_conflicts")
    assert joined["mitochondria (predicted)"].dims == ("p", "t", "z", "y", "x")
    assert joined["mitochondria (predicted)"].attrs["predicted"]


def test_a_level_has_its_own_coordinates(path):
    with create_store(path, make_plan(n_t=1, n_z=1, height=801, width=1200)) as store:
        fill(store)
        data = store.to_xarray(level=1)
        oracle = zarr.open_array(path / "1", mode="r")
        np.testing.assert_array_equal(data["Brightfield"][0, 0], oracle[0, 0, 0])
        np.testing.assert_allclose(data["y"], 0.05 + 0.2 * np.arange(401))
        assert data.attrs["level"] == 1
        with pytest.raises(StoreError, match="has levels 0 to 2; asked for level 7"):
            store.to_xarray(level=7)


def test_time_points_that_came_since_are_in_the_next_dataset(path):
    planned = make_plan(n_t=1, n_z=1).channels[0].planned
    plan = make_plan(n_t=1, n_z=1, open_end=True, planned=planned)
    with create_store(path, plan) as writer, open_store(path) as reader:
        before = reader.to_xarray()
        for t in range(2):
            writer.grow(t + 1)
            writer.write(at(t, 0, 0), plane_of(at(t, 0, 0))).result()
        assert before.sizes["t"] == 1
        np.testing.assert_array_equal(before["Brightfield"][0, 0], plane_of(at(0, 0, 0)))
        reader.refresh()
        after = reader.to_xarray()
        assert after.sizes["t"] == 2
        np.testing.assert_array_equal(after["Brightfield"][1, 0], plane_of(at(1, 0, 0)))


@pytest.mark.parametrize("name", ["x", "time_s", "mitochondria (predicted)"])
def test_names_that_a_dataset_cannot_hold_are_refused(path, name):
    raw, virtual = make_plan().channels
    raw = raw.model_copy(update={"name": name})
    source = virtual.virtual.model_copy(update={"source": name})
    virtual = virtual.model_copy(update={"virtual": source})
    with create_store(path, make_plan(channels=(raw, virtual))) as store:
        with Journal(journal_path(path)) as journal:
            journal.append("plane", index=(0, 0, 0, 0))
        with pytest.raises(StoreError, match=f"cannot hold channel '{re.escape(name)}'"):
            store.to_xarray()
        assert not store[name].predicted
        assert store["mitochondria"].predicted


def test_without_the_extra_the_error_says_how_to_install_it(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(
        MissingExtraError, match=r"xarray, which .*pip install 'livestain\[xarray\]'"
    ):
        store.to_xarray()


def test_neither_library_is_loaded_before_it_is_needed(store):
    code = (
        "import sys, livestain; store = livestain.open_store(sys.argv[1]); store['Brightfield'].coords;"
        "print(sorted({'xarray', 'dask', 'pandas'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, store.path], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"

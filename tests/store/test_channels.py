"""Channels by name: what plain zarr reads, in the prediction's unit; what is missing is never zeros."""

from __future__ import annotations

import doctest
import pickle

import numpy as np
import pytest
import zarr
from channel_cases import TWO, damage, fill, values_of
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import OFFSET, SCALE, at, block, make_plan, plane_of

import livestain.store.channels
import livestain.store.store
from livestain.errors import MissingPlaneError, StoreError, UnknownChannelError
from livestain.planes import PlaneIndex
from livestain.store import (
    Channel,
    Journal,
    PlannedBlock,
    RecordingPlan,
    create_store,
    finalise,
    journal_path,
    open_store,
)
from livestain.store.store import Store

START = 1_700_000_000.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store in which every plane is there."""
    path = tmp_path_factory.mktemp("whole") / "run.ome.zarr"
    with create_store(path, make_plan()) as store:
        fill(store)
    return open_store(path)


def test_an_acquired_channel_is_what_plain_zarr_reads(whole):
    channel = whole["Brightfield"]
    oracle = zarr.open_array(whole.path / "0", mode="r")[:, 0]
    assert isinstance(channel, Channel)
    assert (channel.shape, channel.ndim, channel.size) == (oracle.shape, 4, oracle.size)
    assert channel.dims == ("t", "z", "y", "x")
    assert channel.dtype == oracle.dtype == np.uint16
    assert len(channel) == len(oracle)
    np.testing.assert_array_equal(channel, oracle)
    np.testing.assert_array_equal(np.asarray(channel, np.float64), oracle)
    np.testing.assert_array_equal(list(channel), oracle)
    assert not channel.predicted
    assert (channel.unit, channel.sources, channel.bundle) == ("counts", (), None)
    assert (
        repr(channel) == "<Channel 'Brightfield', acquired: uint16 in counts, t 4, z 3, y 24, x 32>"
    )


def test_a_prediction_comes_in_its_unit_and_says_that_it_is_one(whole):
    channel = whole["mitochondria"]
    counts = zarr.open_array(whole.path / "0", mode="r")[:, 1]
    assert channel.dtype == np.float32
    np.testing.assert_allclose(channel, OFFSET + SCALE * counts.astype(float), rtol=1e-6)
    np.testing.assert_allclose(channel[1, 2], values_of(at(1, 1, 2)), atol=SCALE / 2 + 1e-3)
    assert channel.predicted
    assert channel.label == "mitochondria (predicted)"
    assert (channel.unit, channel.sources, channel.bundle) == ("counts", ("Brightfield",), "demo")
    assert channel.bundle_sha256 == "0" * 64
    assert repr(channel) == (
        "<Channel 'mitochondria', PREDICTED from 'Brightfield' by bundle 'demo': float32 in counts, "
        "t 4, z 3, y 24, x 32>"
    )
    stored = channel.stored()
    assert stored.predicted
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, counts)
    assert "PREDICTED" in repr(stored)
    assert "in counts as stored" in repr(stored)
    assert repr(channel) in repr(whole.channels)
    assert "PREDICTED" in repr(channel.masked)


KEYS = st.one_of(
    st.integers(-4, 3),
    st.slices(4),
    st.just(Ellipsis),
)


@settings(max_examples=150, deadline=None)
@given(key=st.lists(KEYS, max_size=4).map(tuple) | KEYS)
def test_indexing_is_that_of_numpy(whole, key):
    oracle = zarr.open_array(whole.path / "0", mode="r")[:, 0]
    channel = whole["Brightfield"]
    try:
        expected = oracle[key]
    except IndexError:
        with pytest.raises(IndexError):
            channel[key]
        with pytest.raises(IndexError):
            channel.masked[key]
        return
    part = channel[key]
    assert type(part) is type(expected)
    np.testing.assert_array_equal(part, expected)
    masked = channel.masked[key]
    assert masked.shape == expected.shape
    np.testing.assert_array_equal(np.ma.getdata(masked), expected)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (4, "index 4 is out of bounds for axis t with size 4"),
        ((0, -4), "index -4 is out of bounds for axis z with size 3"),
        ((0, 0, 0, 0, 0), "takes at most 4 indices"),
        ((..., 0, ...), "one ellipsis"),
        (None, "integers, slices and an ellipsis; given None on axis t"),
        ([0, 1], r"given \[0, 1\] on axis t"),
        ((0, True), "given True on axis z"),
        (1.0, "given 1.0 on axis t"),
    ],
)
def test_other_indices_are_refused(whole, key, says):
    with pytest.raises(IndexError, match=says):
        whole["mitochondria"][key]


def test_channels_are_found_by_name_and_by_label(whole):
    assert list(whole) == list(whole.channels) == ["Brightfield", "mitochondria"]
    assert len(whole.channels) == 2
    assert "mitochondria" in whole
    assert "mitochondria (predicted)" in whole.channels
    assert whole["mitochondria (predicted)"].name == "mitochondria"
    for strange in ("nuclei", "Brightfield (predicted)", 0):
        assert strange not in whole
        assert whole.channels.get(strange) is None
    says = r"run\.ome\.zarr has no channel 'nuclei'; there are 'Brightfield', 'mitochondria'\.$"
    for kind in (StoreError, KeyError, UnknownChannelError):
        with pytest.raises(kind, match=says):
            whole["nuclei"]


def test_the_raw_channels_of_a_recording_are_said_to_lie_there(path, tmp_path):
    recording = RecordingPlan(
        path=str(tmp_path / "scan.tif"), beside="scan.tif", kind="TIFF", first_planes="0" * 64
    )
    with create_store(path, make_plan(recording=recording)) as store:
        store.write_virtual(at(2, 1, 0), values_of(at(2, 1, 0)))
        assert list(store.channels) == ["mitochondria"]
        decoded = store.read_decoded(at(2, 1, 0))
        np.testing.assert_array_equal(store["mitochondria"][2, 0], decoded)
        with pytest.raises(
            UnknownChannelError, match=r"Raw channels lie in the recording .*scan\.tif"
        ):
            store["Brightfield"]


@pytest.mark.parametrize("name", ["Brightfield", "mitochondria"])
def test_a_missing_plane_is_an_error_or_masked_and_never_zeros(store, name):
    c = store.plan.c_of(name)
    missing = {at(1, c, 0), at(3, c, 2)}
    fill(store, leave=missing)
    channel = store[name]
    present = np.ones((4, 3), bool)
    present[1, 0] = present[3, 2] = False
    np.testing.assert_array_equal(channel.present, present)

    np.testing.assert_array_equal(channel[0], channel.masked[0])
    assert not np.ma.getmaskarray(channel.masked[0]).any()
    with pytest.raises(
        MissingPlaneError,
        match=rf"^2 of 12 planes of channel '{name}' of .* not there at level 0: p=0 t=1 c={c} z=0, "
        rf"p=0 t=3 c={c} z=2\. Read what there is with \.masked\[\.\.\.\]; `livestain status` says why",
    ):
        np.asarray(channel)
    with pytest.raises(MissingPlaneError, match=f"1 of 3 planes .*: p=0 t=1 c={c} z=0"):
        channel[1, :, 0, 0]
    with pytest.raises(MissingPlaneError, match=f"p=0 t=3 c={c} z=2 .* is not there"):
        channel[-1, -1]

    masked = channel.masked[...]
    assert masked.dtype == channel.dtype
    np.testing.assert_array_equal(~np.ma.getmaskarray(masked).all(axis=(2, 3)), present)
    np.testing.assert_array_equal(~np.ma.getmaskarray(masked).any(axis=(2, 3)), present)
    expected = np.nan if channel.predicted else 0
    np.testing.assert_array_equal(masked.filled()[3, 2], np.full((24, 32), expected))
    np.testing.assert_array_equal(masked.data[3, 2], np.full((24, 32), expected))
    assert masked[3, 0].mean() == pytest.approx(channel[3, 0].mean(), rel=1e-5)
    assert channel.masked[3, 2, 5, 5] is np.ma.masked


def test_what_was_never_planned_is_said_so_and_long_lists_are_cut(path):
    planned = (PlannedBlock(t=(0, 2), z=range(3)), PlannedBlock(t=(1, 3), z=(1,)))
    with create_store(path, make_plan(planned=planned)) as store:
        fill(store)
        with pytest.raises(
            MissingPlaneError, match=r"4 of 12 .* z=2 \(4 of them not planned\)\. Read"
        ):
            np.asarray(store["Brightfield"])
        assert np.ma.count(store["Brightfield"].masked[..., 0, 0]) == 8
    plan = make_plan(n_t=3, virtual=False)
    with create_store(path.with_name("empty.ome.zarr"), plan) as empty:
        with pytest.raises(MissingPlaneError, match=r"9 of 9 .* t=1 c=0 z=1 and 4 more\. Read"):
            np.asarray(empty["Brightfield"])


def test_few_planes_of_many_are_looked_for_alone_and_many_by_a_listing(path, monkeypatch):
    present_grid, listed = Store.present_grid, []

    def count(self, level=0):
        listed.append(level)
        return present_grid(self, level)

    monkeypatch.setattr(Store, "present_grid", count)
    with create_store(path, make_plan(n_t=101, n_z=2, virtual=False)) as store:
        fill(store, leave={at(100, 0, 1)})
        channel = store["Brightfield"]
        np.testing.assert_array_equal(channel[7, 1], channel[5:10][2, 1])
        with pytest.raises(MissingPlaneError, match=r"1 of 2 planes .*: p=0 t=100 c=0 z=1\."):
            channel[100]
        assert np.ma.getmaskarray(channel.masked[99:]).all(axis=(2, 3)).tolist() == [
            [False, False],
            [False, True],
        ]
        assert not listed
        with pytest.raises(MissingPlaneError, match=r"1 of 202 planes .*: p=0 t=100 c=0 z=1\."):
            channel[:, :, 0, 0]
        assert np.ma.count(channel.masked[..., 0, 0]) == 201
        assert len(listed) == 2


def test_pixels_that_were_not_predicted_are_nan_and_masked(store):
    counts = plane_of(at(0, 1, 0)).clip(1)
    counts[:5, :7] = 0
    store.write(at(0, 1, 0), counts).result()
    channel = store["mitochondria"]
    np.testing.assert_array_equal(np.isnan(channel[0, 0]), counts == 0)
    np.testing.assert_array_equal(np.ma.getmaskarray(channel.masked[0, 0]), counts == 0)
    np.testing.assert_array_equal(channel.stored()[0, 0], counts)
    np.testing.assert_array_equal(np.ma.getmaskarray(channel.stored().masked[0, 0]), counts == 0)
    # Of a camera 0 is a count like any other.
    store.write(at(0, 0, 0), np.zeros((24, 32), np.uint16)).result()
    assert not np.ma.getmaskarray(store["Brightfield"].masked[0, 0]).any()


def test_a_damaged_plane_is_an_error_also_where_what_is_missing_is_masked(store):
    fill(store, leave={at(0, 0, 0)})
    damage(store.path, at(1, 0, 1))
    channel = store["Brightfield"]
    for read in (channel, channel.masked):
        with pytest.raises(StoreError, match=r"p=0 t=1 c=0 z=1 .* is damaged") as told:
            read[1]
        assert not isinstance(told.value, MissingPlaneError)


def test_several_positions_are_the_first_axis(path):
    with create_store(path, make_plan(positions=TWO, n_t=2)) as store:
        for p in range(2):
            for c in range(2):
                for t, z in np.ndindex(2, 3):
                    index = PlaneIndex(p, t, c, z)
                    store.write(index, plane_of(index).clip(1)).result()
        channel = store["Brightfield"]
        assert channel.dims == ("p", "t", "z", "y", "x")
        oracle = np.stack([zarr.open_array(path / p / "0", mode="r")[:, 0] for p in "01"])
        np.testing.assert_array_equal(channel, oracle)
        np.testing.assert_array_equal(channel[1, :, -1, ::5, 3], oracle[1, :, -1, ::5, 3])
        assert channel.present.shape == (2, 2, 3)
        coords = channel.coords
        assert coords["p"].tolist() == ["A1", "Pos001"]
        np.testing.assert_array_equal(coords["stage_x_um"], [-10.0, np.nan])
        np.testing.assert_array_equal(coords["stage_y_um"], [5.5, np.nan])


def test_coordinates_are_those_that_the_images_metadata_says(path):
    plan = make_plan(n_t=2, n_z=2, height=801, width=1200)
    with create_store(path, plan) as store:
        fill(store)
        attributes = dict(zarr.open_group(path, mode="r").attrs)
        (multiscale,) = attributes["ome"]["multiscales"]
        assert len(multiscale["datasets"]) == 3
        for level, dataset in enumerate(multiscale["datasets"]):
            array = zarr.open_array(path / dataset["path"], mode="r")
            steps = dataset["coordinateTransformations"]
            scale = steps[0]["scale"]
            shift = steps[1]["translation"] if level else [0.0] * 5
            for name in ("Brightfield", "mitochondria"):
                channel = store[name].at_level(level)
                assert f"level {level}" in repr(channel) or not level
                for n, axis in enumerate(multiscale["axes"]):
                    if axis["name"] == "c":
                        continue
                    given = channel.coords[axis["name"]]
                    np.testing.assert_allclose(
                        given, shift[n] + scale[n] * np.arange(array.shape[n]), err_msg=axis["name"]
                    )
                    unit = {"second": "s", "micrometer": "um"}[axis["unit"]]
                    assert channel.coord_units[axis["name"]] == unit
            counts = store["mitochondria"].at_level(level).stored()
            np.testing.assert_array_equal(counts, array[:, 1])
            assert counts.shape == (2, 2, *array.shape[3:])
        with pytest.raises(StoreError, match="has levels 0 to 2; asked for level 3"):
            store["Brightfield"].at_level(3)
        # The first pixel of a level lies at the mean of those it was made of.
        x = [store["Brightfield"].at_level(level).coords["x"] for level in range(2)]
        np.testing.assert_allclose(x[1], x[0].reshape(-1, 2).mean(axis=1))


def test_what_is_unknown_is_counted_and_real_times_come_from_the_journal_or_the_store(path):
    plan = make_plan(t_interval_s=None, z_step_um=None, positions=TWO)
    with create_store(path, plan) as store, Journal(journal_path(path)) as journal:
        coords, units = store["mitochondria"].coords, store["mitochondria"].coord_units
        assert coords["t"].tolist() == [0, 1, 2, 3]
        assert coords["z"].tolist() == [0, 1, 2]
        assert units["t"] == units["z"] == "1"
        assert "time_s" not in coords
        for p, t, z in [(0, 0, 1), (0, 0, 0), (1, 2, 0)]:
            time = np.datetime64(int((START + 100 * p + 10 * t + z) * 1000), "ms")
            journal.append("plane", index=(p, t, 0, z), time=f"{time}+00:00")
            journal.append("stained", index=(p, t, 1, z), latency_ms={"total": 3.0})
        expected = np.full((2, 4), np.nan)
        expected[0, 0], expected[1, 2] = START, START + 120
        np.testing.assert_array_equal(store["mitochondria"].coords["time_s"], expected)
    finalise(path)
    journal_path(path).unlink()
    channel = open_store(path)["Brightfield"]
    np.testing.assert_array_equal(channel.coords["time_s"], expected)
    assert channel.coord_units["time_s"] == "seconds since 1970-01-01"
    for chunk in (path / "livestain" / "time_s").glob("c.*"):
        chunk.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="time_s is damaged or cannot be read"):
        _ = channel.coords
    assert open_store(path)["Brightfield"].coord_units["x"] == "um"


@pytest.fixture
def journals_read(monkeypatch):
    """The stores whose journals were read for times, in order."""
    read, seen = livestain.store.channels.journal_lines, []

    def count(path):
        seen.append(path)
        return read(path)

    monkeypatch.setattr(livestain.store.channels, "journal_lines", count)
    return seen


def told(journal, seconds, t, z=0, c=0):
    time = np.datetime64(int((START + seconds) * 1000), "ms")
    journal.append("plane", index=(0, t, c, z), time=f"{time}+00:00")


def test_a_journal_is_read_once_and_anew_when_it_has_grown(path, journals_read):
    with create_store(path, make_plan()) as writer, Journal(journal_path(path)) as journal:
        told(journal, 1, t=0)
        reader = open_store(path)
        first = reader["Brightfield"].coords["time_s"]
        np.testing.assert_array_equal(first, [START + 1, np.nan, np.nan, np.nan])
        first[:] = 0  # what a user makes of it stays theirs
        for name in reader:
            assert reader[name].coords["time_s"][0] == START + 1
        assert len(journals_read) == 1
        told(journal, 3, t=1, z=1)
        told(journal, 4, t=1)
        for _ in range(2):
            news = reader["mitochondria"].coords["time_s"]
            np.testing.assert_array_equal(news, [START + 1, START + 3, np.nan, np.nan])
        assert len(journals_read) == 2
        assert writer["Brightfield"].coords["time_s"][1] == START + 3


def test_times_inside_the_store_spare_the_journal_where_they_are_all_there(path, journals_read):
    with create_store(path, make_plan(n_t=2, n_z=1)), Journal(journal_path(path)) as journal:
        told(journal, 1, t=0)
        told(journal, 2, t=1)
    finalise(path)
    channel = open_store(path)["mitochondria"]
    np.testing.assert_array_equal(channel.coords["time_s"], [START + 1, START + 2])
    assert not journals_read


def test_a_new_journal_hides_no_times_that_the_store_tells(path):
    plan = make_plan(n_t=3, n_z=2, open_end=True, planned=block(1, 2))
    with create_store(path, plan) as store:
        with Journal(journal_path(path)) as journal:
            told(journal, 10, t=0)
            told(journal, 20, t=1)
            told(journal, 21, t=1, z=1)
        finalise(path)
        # Copied without its journal, the run goes on with a new one: z=0 of t=1 is written once more.
        journal_path(path).unlink()
        with Journal(journal_path(path)) as journal:
            told(journal, 50, t=1)
            told(journal, 60, t=2)
            told(journal, 99, t=7)  # there is no room for it any more
        channel = open_store(path)["Brightfield"]
        expected = [START + 10, START + 21, START + 60]
        np.testing.assert_array_equal(channel.coords["time_s"], expected)
        # There may be more time points than at the end of the first run.
        store.grow(5)
        grown = open_store(path)["Brightfield"].coords["time_s"]
        np.testing.assert_array_equal(grown[:3], expected)
        assert np.isnan(grown[3:]).all()

        # A damaged array costs what the journal does not tell, and no more.
        for chunk in (path / "livestain" / "time_s").glob("c.*"):
            chunk.write_bytes(b"damaged")
        left = open_store(path)["Brightfield"].coords["time_s"]
        np.testing.assert_array_equal(left[:3], [np.nan, START + 50, START + 60])


def test_one_plane_without_a_step_lies_at_zero_micrometres(path):
    with create_store(path, make_plan(n_z=1, z_step_um=None, t_interval_s=0.0)) as store:
        channel = store["Brightfield"]
        assert channel.coords["z"].tolist() == [0.0]
        assert channel.coord_units["z"] == "um"
        assert channel.coord_units["t"] == "1"


def test_a_run_that_grows_is_followed(path):
    plan = make_plan(n_t=1, n_z=1, open_end=True, planned=block(1, 1))
    with create_store(path, plan) as writer, open_store(path) as reader:
        channel = reader["Brightfield"]
        assert channel.shape == (1, 1, 24, 32)
        writer.write(at(0, 0, 0), plane_of(at(0, 0, 0))).result()
        np.testing.assert_array_equal(channel[0, 0], plane_of(at(0, 0, 0)))
        writer.grow(3)
        writer.write(at(2, 0, 0), plane_of(at(2, 0, 0))).result()
        reader.refresh()
        assert channel.shape == (3, 1, 24, 32)
        assert len(channel.coords["t"]) == 3
        np.testing.assert_array_equal(channel[2, 0], plane_of(at(2, 0, 0)))
        # Nobody knows yet which time points will be asked for: what is not there is only missing.
        with pytest.raises(MissingPlaneError, match=r"1 of 3 planes .* t=1 c=0 z=0\. Read"):
            np.asarray(channel)
        grid = np.zeros((1, 3, 1), bool)
        grid[0, [0, 2]] = True
        writer.settle({0: grid, 1: grid})
        reader.refresh()
        with pytest.raises(MissingPlaneError, match=r"t=1 c=0 z=0 \(1 of them not planned\)"):
            np.asarray(channel)


def test_the_end_may_be_settled_while_an_array_is_read(path):
    plan = make_plan(n_t=4, n_z=1, open_end=True, planned=block(1, 1))
    with create_store(path, plan) as writer, open_store(path) as reader:
        writer.write(at(0, 0, 0), plane_of(at(0, 0, 0))).result()
        channel = reader["Brightfield"]
        grid = np.zeros((1, 4, 1), bool)
        grid[0, 0] = True
        writer.settle({0: grid, 1: grid})
        # The reader still has the plan of four time points, and learns of the end on the way.
        with pytest.raises(MissingPlaneError, match=r"3 of 4 .*\(3 of them not planned\)"):
            np.asarray(channel)
        np.testing.assert_array_equal(channel, plane_of(at(0, 0, 0))[None, None])


def test_an_array_is_a_copy(whole):
    with pytest.raises(ValueError, match="lies on the disk"):
        whole["Brightfield"].__array__(copy=False)


def test_a_channel_travels_to_another_process_as_its_place(whole):
    channel = pickle.loads(pickle.dumps(whole["mitochondria"].stored()))
    assert repr(channel) == repr(whole["mitochondria"].stored())
    np.testing.assert_array_equal(channel[2, 1], whole["mitochondria"].stored()[2, 1])


def test_the_example_of_open_store_runs(whole, monkeypatch):
    monkeypatch.chdir(whole.path.parent)
    (example,) = doctest.DocTestFinder().find(open_store, "open_store", livestain.store.store)
    assert len(example.examples) > 5
    failures, _ = doctest.DocTestRunner().run(example)
    assert not failures

"""Planes in and out by their place: what another program reads is what was written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import OFFSET, SCALE, at, make_plan, plane_of

from livestain.errors import MissingPlaneError, StoreError
from livestain.store import create_store, level_shapes, open_store
from livestain.store.chunks import chunk_file

CASES = Path(__file__).parent


def run_python(code, *arguments):
    """Start another process that can import the cases."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(CASES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("codec", ["blosc-lz4", "blosc-zstd", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_plain_zarr_reads_every_raw_plane_bit_for_bit(path, codec, dtype):
    written = {}
    with create_store(path, make_plan(codec=codec)) as store:
        for index in store.plan.planned_indices(0):
            # One plane in three is all zeros: it is a plane, not a hole.
            image = plane_of(index).astype(dtype) if index.z else np.zeros((24, 32), dtype)
            written[index] = image
            store.write(index, image)
    array = zarr.open_array(path / "0", mode="r")
    assert array.dtype == np.uint16
    assert array.metadata.dimension_names == ("t", "c", "z", "y", "x")
    for index, image in written.items():
        np.testing.assert_array_equal(array[index.t, index.c, index.z], image)
        assert chunk_file(path / "0", index.t, index.c, index.z).is_file()


def test_a_missing_plane_is_a_missing_chunk_and_nothing_else(store):
    there = {at(0, 0, 0), at(3, 0, 2), at(2, 1, 1)}
    for index in there:
        store.write(index, np.zeros((24, 32), np.uint16)).result()
    chunks = {file.name for file in (store.path / "0").glob("c.*")}
    assert chunks == {chunk_file(store.path, i.t, i.c, i.z).name for i in there}
    for c in (0, 1):
        grid = store.present(c)
        assert grid.shape == (1, 4, 3)
        for index in store.plan.planned_indices(c):
            assert grid[index.p, index.t, index.z] == store.is_present(index) == (index in there)
            if index in there:
                assert not store.read(index).any()
            else:
                with pytest.raises(MissingPlaneError, match=r"is not there .*livestain status"):
                    store.read(index)


def test_a_non_contiguous_image_is_stored_as_seen(store):
    image = plane_of(at(0, 0, 0), 48, 64)[::2, ::-2]
    store.write(at(0, 0, 0), image).result()
    np.testing.assert_array_equal(store.read(at(0, 0, 0)), image)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_order_gives_the_same_store(tmp_path_factory, data):
    plan = make_plan(n_t=2, n_z=2)
    indices = plan.planned_indices(0) + plan.planned_indices(1)
    order = data.draw(st.permutations(indices))
    path = tmp_path_factory.mktemp("order") / "run.ome.zarr"
    with create_store(path, plan) as store:
        for index in order:
            store.write(index, plane_of(index))
    array = zarr.open_array(path / "0", mode="r")[:]
    for index in indices:
        np.testing.assert_array_equal(array[index.t, index.c, index.z], plane_of(index))


WRITER = """
import sys
import numpy as np
from livestain.store import open_store
from store_cases import plane_of
with open_store(sys.argv[1], mode="r+") as store:
    print("ready", flush=True)
    for raw, virtual in zip(reversed(store.plan.planned_indices(0)), store.plan.planned_indices(1)):
        if raw.t % 2:
            store.write(raw, plane_of(raw)).result()
        store.write_virtual(virtual, plane_of(virtual).astype("f4"))
"""


def test_two_processes_write_one_store(store):
    other = run_python(WRITER, store.path)
    assert other.stdout.readline() == "ready\n"
    for index in store.plan.planned_indices(0):
        if index.t % 2 == 0:
            store.write(index, plane_of(index))
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors
    store.close()
    with open_store(store.path) as reader:
        for index in reader.plan.planned_indices(0):
            np.testing.assert_array_equal(reader.read(index), plane_of(index))
        for index in reader.plan.planned_indices(1):
            expected = np.clip(plane_of(index), OFFSET, OFFSET + SCALE * 65535)
            np.testing.assert_allclose(reader.read_decoded(index), expected, atol=SCALE)


def test_a_reader_sees_a_plane_that_another_process_writes_after_it_was_opened(store):
    with open_store(store.path) as reader:
        with pytest.raises(MissingPlaneError):
            reader.read(at(0, 1, 0))
        other = run_python(WRITER, store.path)
        _, errors = other.communicate(timeout=60)
        assert other.returncode == 0, errors
        assert reader.present(1).all()
        assert reader.read(at(0, 1, 0)).any()


def test_a_rewritten_plane_is_read_as_it_is_now(store):
    with open_store(store.path) as reader:
        for fill in (1, 0, 2):
            store.write(at(0, 0, 0), np.full((24, 32), fill, np.uint16)).result()
            assert (reader.read(at(0, 0, 0)) == fill).all()


VICTIM = """
import sys
from livestain.store import open_store
from store_cases import plane_of
store = open_store(sys.argv[1], mode="r+")
futures = []
while True:
    for number, index in enumerate(store.plan.planned_indices(0)):
        futures.append(store.write(index, plane_of(index, 400, 400)))
        store.write_levels(index, plane_of(index, 400, 400))
        if len(futures) > 4:
            futures.pop(0).result()
        if number == 20:
            print("writing", flush=True)
"""


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_writer_costs_no_finished_plane(path, round_):
    import yaozarrs

    with create_store(path, make_plan(n_t=20, n_z=3, height=400, width=400)):
        other = run_python(VICTIM, path)
        assert other.stdout.readline() == "writing\n"
        other.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        other.communicate(timeout=60)
    yaozarrs.validate_zarr_store(str(path))
    with open_store(path, mode="r+") as again:
        present = again.present(0)
        # 21 planes were begun, and at most four of them were still on their way.
        assert present.sum() >= 17
        for index in again.plan.planned_indices(0):
            if present[index.p, index.t, index.z]:
                np.testing.assert_array_equal(again.read(index), plane_of(index, 400, 400))
        # The lock that the dead process may have left stops nobody.
        for index in again.plan.planned_indices(0):
            again.write(index, plane_of(index, 400, 400))
    with open_store(path) as reader:
        assert reader.present(0).all()


def test_a_plane_that_comes_while_it_is_looked_for_is_read_and_not_called_damaged(
    store, path, monkeypatch
):
    index = at(2, 0, 1)

    def late(*arguments):
        # After the reading has failed, and before the look at the file.
        store.write(index, plane_of(index)).result()
        return chunk_file(*arguments)

    monkeypatch.setattr("livestain.store.chunks.chunk_file", late)
    with open_store(path) as reader:
        np.testing.assert_array_equal(reader.read(index), plane_of(index))


@pytest.mark.parametrize("codec", ["blosc-lz4", "blosc-zstd", "none"])
def test_a_damaged_plane_is_an_error_and_never_pixels(path, codec):
    with create_store(path, make_plan(codec=codec)) as store:
        index = at(1, 0, 2)
        store.write(index, plane_of(index)).result()
        file = chunk_file(path / "0", 1, 0, 2)
        good = file.read_bytes()
        for place in (0, len(good) // 2, len(good) - 1):
            bad = bytearray(good)
            bad[place] ^= 0x10
            file.write_bytes(bad)
            with pytest.raises(
                StoreError, match=r"Plane p=0 t=1 c=0 z=2 of .* is damaged"
            ) as caught:
                store.read(index)
            assert not isinstance(caught.value, MissingPlaneError)
            assert file.name in str(caught.value)
        file.write_bytes(b"")
        with pytest.raises(StoreError, match="is damaged"):
            store.read(index)


def test_virtual_planes_are_encoded_with_their_levels_and_come_back_in_their_unit(path):
    plan = make_plan(height=700, width=401)
    with create_store(path, plan) as store:
        values = np.random.default_rng(0).normal(50, 20, (700, 401)).astype(np.float32)
        stored = store.write_virtual(at(1, 1, 1), values)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(store.read(at(1, 1, 1)), stored)
        decoded = store.read_decoded(at(1, 1, 1))
        assert decoded.dtype == np.float32
        inside = values > OFFSET + SCALE
        np.testing.assert_allclose(decoded[inside], values[inside], atol=SCALE / 2 + 1e-4)
        assert store.levels_missing(1) == []


def test_a_virtual_plane_is_there_only_once_its_levels_are(path):
    """Its levels cannot be written here, so the plane must not come to be."""
    with create_store(path, make_plan(height=600, width=600)) as store:
        chunk_file(path / "1", 0, 1, 0).mkdir()
        with pytest.raises(StoreError, match="Cannot write plane p=0 t=0 c=1 z=0"):
            store.write_virtual(at(0, 1, 0), np.ones((600, 600), np.float32))
        assert not store.is_present(at(0, 1, 0))


def test_a_plane_that_is_encoded_already_is_written_as_one_that_is_not(path):
    values = np.random.default_rng(0).normal(50, 20, (700, 401)).astype(np.float32)
    with create_store(path, make_plan(height=700, width=401)) as store:
        counts = store.write_virtual(at(1, 1, 1), values)
        assert store.write_encoded(at(0, 1, 0), counts) is None
        np.testing.assert_array_equal(store.read(at(0, 1, 0)), counts)
        here, there = (store.read(index, level=1) for index in (at(0, 1, 0), at(1, 1, 1)))
        np.testing.assert_array_equal(here, there)
        assert store.levels_missing(1) == []


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.where(np.arange(768) == 700, 0, 9).astype(np.uint16), r"t=2 c=1 z=1 holds pixels of 0"),
        (np.ones(768, np.float32), "holds values of type float32; expected uint16 of 1 to 65535"),
        (np.ones(768, np.uint8), "holds values of type uint8"),
    ],
)
def test_what_is_not_encoded_is_never_taken_for_it(store, counts, message):
    with pytest.raises(StoreError, match=message):
        store.write_encoded(at(2, 1, 1), counts.reshape(24, 32))
    assert not store.is_present(at(2, 1, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_is_never_a_pixel(store, bad):
    values = np.ones((24, 32), np.float32)
    values[20, 3] = bad
    with pytest.raises(
        StoreError, match=r"t=2 c=1 z=1: The prediction holds 1 values of 768 .*NaN"
    ):
        store.write_virtual(at(2, 1, 1), values)
    assert not store.is_present(at(2, 1, 1))


@pytest.mark.parametrize(
    ("height", "width"), [(512, 512), (701, 400), (400, 701), (1030, 5), (385, 1), (384, 384)]
)
def test_levels_equal_means_computed_otherwise(path, height, width):
    with create_store(path, make_plan(height=height, width=width, virtual=False)) as store:
        index = at(0, 0, 0)
        image = plane_of(index, height, width)
        store.write(index, image).result()
        store.write_levels(index, image)
    group = zarr.open_group(path, mode="r")
    shapes = level_shapes(height, width)
    assert max(shapes[-1]) <= 384
    assert [int(key) for key in sorted(group.array_keys())] == list(range(len(shapes)))
    finer = group["0"][0, 0, 0]
    for level in range(1, len(shapes)):
        coarse = group[str(level)][0, 0, 0]
        assert coarse.shape == shapes[level]
        for y in range(0, coarse.shape[0], max(1, coarse.shape[0] // 20)):
            for x in [*range(0, coarse.shape[1], 7), coarse.shape[1] - 1]:
                mean = finer[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float).mean()
                assert coarse[y, x] == int(np.floor(mean + 0.5))
        finer = coarse


def test_planes_that_lack_a_level_are_named(path):
    with create_store(path, make_plan(height=800, width=400)) as store:
        for index in (at(0, 0, 0), at(1, 0, 1), at(2, 0, 0)):
            store.write(index, plane_of(index, 800, 400)).result()
        store.write_levels(at(1, 0, 1), plane_of(at(1, 0, 1), 800, 400))
        store.write_levels(at(3, 0, 0), plane_of(at(3, 0, 0), 800, 400))
        assert store.levels_missing(0) == [at(0, 0, 0), at(2, 0, 0)]
        for level in (1, 2):
            assert store.read(at(1, 0, 1), level=level).shape == level_shapes(800, 400)[level]
        with pytest.raises(StoreError, match="has levels 0 to 2; asked for level 3"):
            store.read(at(1, 0, 1), level=3)


@pytest.mark.parametrize(
    ("index", "image", "message"),
    [
        (at(4, 0, 0), np.zeros((24, 32), np.uint16), "no place for plane p=0 t=4"),
        (at(0, 2, 0), np.zeros((24, 32), np.uint16), r"expected\s+p<1, t<4, c<2, z<3"),
        (at(0, 0, -1), np.zeros((24, 32), np.uint16), "no place"),
        (at(0, 0, 0)._replace(p=1), np.zeros((24, 32), np.uint16), "no place for plane p=1"),
        (at(0, 0, 0), np.zeros((24, 31), np.uint16), r"shape \(24, 31\).*expected \(24, 32\)"),
        (at(0, 0, 0), np.zeros((24, 32, 3), np.uint8), "Colour and 32-bit cameras"),
        (at(0, 0, 0), np.zeros((24, 32), np.float32), "type float32"),
    ],
)
def test_a_plane_that_does_not_fit_is_refused(store, index, image, message):
    with pytest.raises(StoreError, match=message):
        store.write(index, image)
    assert not store.present(0).any()


def test_raw_channels_have_no_encoding(full):
    for call in (
        lambda: full.read_decoded(at(0, 0, 0)),
        lambda: full.write_virtual(at(0, 0, 0), np.ones((24, 32), np.float32)),
        lambda: full.write_encoded(at(0, 0, 0), np.ones((24, 32), np.uint16)),
    ):
        with pytest.raises(StoreError, match=r"'Brightfield' of .* is acquired, not predicted"):
            call()

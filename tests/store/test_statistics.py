"""How bright a channel is, against numpy on all pixels; and the windows that viewers open with."""

from __future__ import annotations

import numpy as np
from store_cases import at, make_plan

from livestain.store import (
    Journal,
    channel_statistics,
    create_store,
    finalise,
    journal_path,
    open_store,
)


def filled(path, n_t=4, counts=(100, 900)):
    rng = np.random.default_rng(0)
    with create_store(path, make_plan(n_t=n_t)) as store:
        for index in store.plan.planned_indices(0):
            store.write(index, rng.integers(*counts, (24, 32), dtype=np.uint16)).result()
    return path


def test_they_are_those_of_all_pixels(path):
    filled(path)
    with open_store(path) as store:
        found = channel_statistics(store, 0)
        pixels = np.stack([store.read(index) for index in store.plan.planned_indices(0)])
        assert channel_statistics(store, 1) is None
    assert (found.planes, found.of) == (12, 12)
    assert (found.min, found.max) == (pixels.min(), pixels.max())
    low, high = np.quantile(pixels, (0.001, 0.999), method="inverted_cdf")
    assert found.window == (low, high)
    expected, _ = np.histogram(pixels, bins=256, range=(pixels.min(), pixels.max() + 1))
    np.testing.assert_array_equal(found.histogram, expected)


def test_of_many_planes_some_are_looked_at(path):
    filled(path, n_t=40)
    with open_store(path) as store:
        found = channel_statistics(store, 0, planes=5)
    assert (found.planes, found.of) == (5, 120)
    assert sum(found.histogram) == 5 * 24 * 32


def test_a_dark_camera_has_a_window_too(path):
    filled(path, counts=(0, 1))
    with open_store(path) as store:
        found = channel_statistics(store, 0)
    assert (found.min, found.max, found.window) == (0, 0, (0, 0))
    Journal(journal_path(path)).close()
    finalise(path)
    with open_store(path) as store:
        assert store.attributes["statistics"]["Brightfield"]["max"] == 0


def test_the_end_of_a_run_sets_the_windows_of_raw_channels(path):
    import zarr

    filled(path, counts=(100, 900))
    with open_store(path, mode="r+") as store:
        store.write_virtual(at(0, 1, 0), np.full((24, 32), 5.0, np.float32))
    Journal(journal_path(path)).close()
    finalise(path)
    group = zarr.open_group(path, mode="r").attrs
    raw, virtual = (channel["window"] for channel in group["ome"]["omero"]["channels"])
    assert 100 <= raw["start"] < 110
    assert 890 < raw["end"] < 900
    assert (virtual["start"], virtual["end"]) == (100, 4000)  # as the model's author has set it
    assert group["livestain"]["statistics"]["mitochondria"]["planes"] == 1


def test_a_damaged_plane_costs_no_run_its_end(path):
    filled(path)
    (path / "0" / "c.0.0.0.0.0").write_bytes(b"damaged")
    Journal(journal_path(path)).close()
    finalise(path)
    with open_store(path) as store:
        assert "Brightfield" not in store.attributes["statistics"]

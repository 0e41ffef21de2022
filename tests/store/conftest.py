"""Stores for the store's tests, each in a folder of its own."""

from __future__ import annotations

import pytest
from store_cases import make_plan, plane_of

from livestain.store import create_store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ome.zarr"


@pytest.fixture
def store(path):
    with create_store(path, make_plan()) as opened:
        yield opened


@pytest.fixture
def full(store):
    """A store whose raw planes are all there."""
    for index in store.plan.planned_indices(0):
        store.write(index, plane_of(index)).result()
    return store

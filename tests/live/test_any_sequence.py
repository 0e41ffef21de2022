"""Any sequence of useq: plan, events, store and holes agree, and each plane lies at its event's index."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import useq
import yaozarrs
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from installing import demo_core
from pydantic import ValidationError

from livestain.errors import SequenceError
from livestain.live.fields import has_grid, with_tiles_as_positions
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import open_store, store_status

ORDERS = ["".join(order) for order in itertools.permutations("tpcz")]

z_plans = st.sampled_from(
    [None, {"range": 1, "step": 0.5}, {"range": 2, "step": 1, "go_up": False}, {"relative": [0, 1]}]
)
time_plans = st.sampled_from(
    [
        None,
        {"interval": 0, "loops": 3},
        {"duration": 0.004, "loops": 3},
        {"interval": 0.002, "duration": 0.004},
        [{"interval": 0, "loops": 2}, {"interval": 0.002, "loops": 2}],
    ]
)
grids = st.sampled_from([None, None, None, {"rows": 1, "columns": 2}])
positions = st.lists(
    st.fixed_dictionaries(
        {"x": st.integers(-50, 50), "y": st.integers(-50, 50)},
        optional={
            "name": st.sampled_from(["a", "b", "a/b"]),
            "sequence": st.fixed_dictionaries({}, optional={"z_plan": z_plans, "grid_plan": grids}),
        },
    ),
    max_size=3,
)
channels = st.lists(
    st.fixed_dictionaries(
        {"config": st.sampled_from(["Cy5", "FITC", "DAPI"])},
        optional={
            "acquire_every": st.integers(1, 3),
            "do_stack": st.booleans(),
            "exposure": st.sampled_from([1.0, 2.0]),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda channel: channel["config"],
)
plates = st.just(
    {
        "plate": "96-well",
        "a1_center_xy": (0, 0),
        "selected_wells": ((0, 1), (1, 2)),
        "well_points_plan": {"rows": 1, "columns": 2, "fov_width": 5, "fov_height": 5},
    }
)
sequences = st.fixed_dictionaries(
    {"axis_order": st.sampled_from(ORDERS), "channels": channels},
    optional={
        "time_plan": time_plans,
        "z_plan": z_plans,
        "stage_positions": positions | plates,
        "keep_shutter_open_across": st.sampled_from([("z",), ("t", "c")]),
    },
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Channels with skipped frames:UserWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


@pytest.fixture(scope="module")
def core():
    core = demo_core()
    core.setProperty("Camera", "Mode", "Noise")
    yield core
    core.unloadAllDevices()
    del core


def places_unknown(sequence):
    """The events, by axis, for which nobody says where the stage is to be."""
    return {
        axis: [event for event in sequence if getattr(event, f"{axis}_pos") is None]
        for axis in "xyz"
    }


@settings(
    # HYPOTHESIS_EXAMPLES=200 pytest ... looks longer, and elsewhere each time.
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "8")),
    derandomize="HYPOTHESIS_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=sequences, triggered=st.booleans())
def test_every_plane_lies_at_the_index_of_its_event(core, values, triggered):
    order = values["axis_order"].replace("p", "pg")
    try:
        sequence = useq.MDASequence.model_validate({**values, "axis_order": order})
    except ValidationError:
        reject()
    core.mda.engine.use_hardware_sequencing = triggered
    flat = with_tiles_as_positions(core, sequence, 1.0) if has_grid(sequence) else sequence
    # useq's own events, with tiles as positions, are the truth.
    asked = Counter(
        PlaneIndex(*(event.index.get(axis, 0) for axis in "ptcz"))
        for event in useq.MDASequence.model_validate(flat.model_dump())
    )
    assert set(asked.values()) == {1}
    if any(0 < len(without) < len(asked) for without in places_unknown(flat).values()):
        with pytest.raises(SequenceError, match="Give each position its"):
            Session(core, sequence, "nowhere.ome.zarr", pixel_size_um=1.0).check()
        return
    given_, lock = {}, core.mda.events.frameReady

    def tap(image, event, meta):
        del meta
        index = PlaneIndex(*(event.index.get(axis, 0) for axis in "ptcz"))
        assert index not in given_
        given_[index] = image.copy()

    lock.connect(tap)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            out = Path(folder) / "run.ome.zarr"
            report = Session(core, sequence, out, pixel_size_um=1.0).run()
            assert report.planes_acquired == len(asked)
            yaozarrs.validate_zarr_store(str(out))
            with open_store(out) as store:
                plan, there = store.plan, store.present_grid()
                planned = {i for c in range(len(plan.channels)) for i in plan.planned_indices(c)}
                assert planned == set(asked) == set(given_)
                present = {PlaneIndex(p, t, c, z) for p, t, c, z in np.argwhere(there).tolist()}
                assert present == planned
                for index, image in given_.items():
                    np.testing.assert_array_equal(store.read(index), image)
            status = store_status(out)
            assert (status.planned, status.missing, status.finished) == (len(asked), 0, True)
    finally:
        lock.disconnect(tap)

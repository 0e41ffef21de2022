"""Runs over several positions: each is an image of its own, and nothing lies in another's place."""

from __future__ import annotations

import numpy as np
import pytest
import useq
import yaozarrs
import zarr
from ome_types import from_xml

from livestain.errors import SequenceError
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.planes import PlaneIndex
from livestain.store import open_store, store_status

FIELDS = ({"x": 0, "y": 0, "z": 0, "name": "left"}, {"x": 40, "y": 10, "z": 1}, {"x": 90, "y": 0})


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 64))
    yield core
    core.unloadAllDevices()
    del core


def sequence(order="tpgcz", fields=FIELDS, **more):
    return useq.MDASequence(
        axis_order=order,
        time_plan={"interval": 0, "loops": 2},
        stage_positions=fields,
        z_plan={"range": 0.5, "step": 0.5},
        channels=[
            {"group": "Channel", "config": "Brightfield", "exposure": 2},
            {"group": "Virtual", "config": "mitochondria"},
        ],
        **more,
    )


@pytest.mark.parametrize("order", ["tpgcz", "ptgcz", "tzpgc"])
def test_each_position_is_an_image_and_holds_its_own_field(core, tiny_bundle, tmp_path, order):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    given = {}
    core.mda.events.frameReady.connect(
        lambda image, event, meta: given.update({tuple(event.index.items()): image.copy()})
    )
    report = Session(core, sequence(order), out, models=models, worker="thread").run()
    assert (report.planes_acquired, report.planes_stained, report.planes_missing) == (12, 12, 0)
    yaozarrs.validate_zarr_store(str(out))
    group = zarr.open_group(out, mode="r")
    assert group.attrs["ome"]["bioformats2raw.layout"] == 3
    assert len(given) == 12
    for key, image in given.items():
        i = dict(key)
        plane = group[str(i["p"])]["0"][i["t"], 0, i["z"]]
        np.testing.assert_array_equal(plane, image)
    # Different fields, so that a swap could not hide.
    assert len({image.tobytes() for image in given.values()}) == 12
    status = store_status(out)
    assert (status.planned, status.present, status.finished) == (24, 24, True)


def test_a_prediction_is_of_its_own_position(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence(), out, models=models, worker="thread").run()
    from livestain.inference import Stainer

    with open_store(out) as store, Stainer(tiny_bundle, device="cpu", threads=1) as stainer:
        virtual = store.plan.channels[1].virtual
        for index in store.plan.planned_indices(1):
            expected = stainer.stain(store.read(index.at(c=0))[None])[0]
            np.testing.assert_allclose(
                store.read_decoded(index), expected, atol=virtual.scale, rtol=0
            )


def test_names_and_stage_places_of_positions_are_kept(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence(), out, models=models, worker="thread").run()
    described = from_xml((out / "OME" / "METADATA.ome.xml").read_bytes())
    assert [image.id for image in described.images] == ["Image:0", "Image:1", "Image:2"]
    assert [image.name for image in described.images] == ["run left", "run Pos001", "run Pos002"]
    places = [image.pixels.planes[0] for image in described.images]
    assert [(p.position_x, p.position_y) for p in places] == [(0, 0), (40, 10), (90, 0)]
    channels = [channel.name for channel in described.images[1].pixels.channels]
    assert channels == ["Brightfield", "mitochondria (predicted)"]
    with open_store(out) as store:
        own = zarr.open_group(out, mode="r")["livestain"]
        for p, x_um in enumerate((0, 40, 90)):
            assert store.plan.positions[p].x_um == x_um
            assert set(own["x_um"][p, :, 0].ravel()) == {x_um}
    alone = zarr.open_group(out / "1", mode="r")
    assert alone.attrs["livestain"]["x_um"] == 40
    assert alone.attrs["ome"]["omero"]["channels"][1]["label"] == "mitochondria (predicted)"


def test_positions_with_stacks_of_their_own_leave_holes(core, tiny_bundle, tmp_path):
    """A position's own z-plan: shallower fields have fewer planes, and the plan says so."""
    deep = {"x": 5, "y": 0, "sequence": {"z_plan": {"range": 1.0, "step": 0.5}}}
    out = tmp_path / "run.ome.zarr"
    Session(
        core,
        sequence(fields=(FIELDS[1], deep)),
        out,
        models={"mitochondria": str(tiny_bundle)},
        worker="thread",
    ).run()
    with open_store(out) as store:
        expected = np.zeros((2, 2, 3), bool)
        expected[0, :, :2] = expected[1] = True
        for c in (0, 1):
            np.testing.assert_array_equal(store.plan.planned(c), expected)
            np.testing.assert_array_equal(store.present(c), expected)


def test_one_position_stays_one_image(core, tiny_bundle, tmp_path):
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence(fields=FIELDS[:1]), out, models=models, worker="thread").run()
    assert zarr.open_group(out, mode="r")["0"].shape == (2, 2, 2, 64, 64)
    with open_store(out) as store:
        assert store.plan.positions[0].name == "left"
        assert store.is_present(PlaneIndex(0, 1, 1, 1))


def test_tiles_of_a_grid_are_positions(core, tiny_bundle, tmp_path):
    """Where useq puts the tiles, in the order in which the runner would have visited them."""
    grid = {"rows": 2, "columns": 2, "overlap": 10}
    whole = sequence(fields=FIELDS[:2], grid_plan=grid)
    reference = whole.replace(
        time_plan=None, z_plan=None, grid_plan={**grid, "fov_width": 6.4, "fov_height": 6.4}
    )
    expected = [(e.x_pos, e.y_pos) for e in reference if e.channel.group == "Channel"]
    assert len(set(expected)) == 8
    out = tmp_path / "run.ome.zarr"
    moved = []
    core.mda.events.eventStarted.connect(lambda event: moved.append((event.x_pos, event.y_pos)))
    models = {"mitochondria": str(tiny_bundle)}
    report = Session(core, whole, out, models=models, worker="thread").run()
    assert report.planes_acquired == report.planes_stained == 8 * 2 * 2
    with open_store(out) as store:
        assert [(p.x_um, p.y_um) for p in store.plan.positions] == expected
        assert [p.name for p in store.plan.positions[:2]] == ["left-Tile000", "left-Tile001"]
        assert store.present(0).all()
    # The stage was sent there, in that order, at each time point.
    assert list(dict.fromkeys(moved)) == expected
    yaozarrs.validate_zarr_store(str(out))


def test_a_positions_own_grid_becomes_positions(core, tiny_bundle, tmp_path):
    own = {
        "x": 5,
        "y": 0,
        "sequence": {"grid_plan": {"rows": 1, "columns": 2}, "z_plan": {"range": 1, "step": 0.5}},
    }
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(
        core, sequence(fields=({"x": 50, "y": 0}, own)), out, models=models, worker="thread"
    ).run()
    with open_store(out) as store:
        assert store.plan.n_p == 3
        assert store.plan.planned(0).sum(axis=(1, 2)).tolist() == [4, 6, 6]
        assert store.present(1).sum(axis=(1, 2)).tolist() == [4, 6, 6]


def test_a_grid_at_the_only_position_is_that_of_its_tiles(core, tiny_bundle, tmp_path):
    own = {"x": 5, "y": 0, "sequence": {"grid_plan": {"rows": 1, "columns": 2}}}
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    Session(core, sequence(fields=(own,)), out, models=models, worker="thread").run()
    with open_store(out) as store:
        assert [p.name for p in store.plan.positions] == ["Tile000", "Tile001"]
        assert [p.x_um for p in store.plan.positions] == pytest.approx([1.8, 8.2])
        assert store.present(1).sum() == 8


def test_a_grid_that_is_not_visited_with_its_position_is_refused(core, tmp_path):
    whole = sequence("ptgcz", fields=FIELDS[:2], grid_plan={"rows": 1, "columns": 2})
    with pytest.raises(SequenceError, match="Put g right after p"):
        Session(core, whole, tmp_path / "run.ome.zarr").run()
    assert not list(tmp_path.iterdir())


def test_a_plate_is_a_plate(core, tiny_bundle, tmp_path):
    plate = useq.WellPlatePlan(
        plate="96-well",
        a1_center_xy=(0, 0),
        selected_wells=([0, 1], [1, 2]),
        well_points_plan=useq.GridRowsColumns(rows=1, columns=2, fov_width=6, fov_height=6),
    )
    out = tmp_path / "run.ome.zarr"
    models = {"mitochondria": str(tiny_bundle)}
    report = Session(core, sequence(fields=plate), out, models=models, worker="thread").run()
    assert report.planes_acquired == report.planes_stained == 4 * 2 * 2
    yaozarrs.validate_zarr_store(str(out))
    group = zarr.open_group(out, mode="r")
    wells = [well["path"] for well in group.attrs["ome"]["plate"]["wells"]]
    assert wells == ["A/2", "B/3"]
    assert [i["path"] for i in group["A/2"].attrs["ome"]["well"]["images"]] == ["0", "1"]
    assert group["B/3/1"]["0"].shape == (2, 2, 2, 64, 64)
    assert group["B/3/1"].attrs["livestain"]["name"] == "B3_0001"
    with open_store(out) as store:
        assert [p.path for p in store.plan.positions] == ["A/2/0", "A/2/1", "B/3/0", "B/3/1"]
        np.testing.assert_array_equal(
            store.read(PlaneIndex(3, 1, 0, 1)), group["B/3/1"]["0"][1, 0, 1]
        )
    assert store_status(out).present == 32

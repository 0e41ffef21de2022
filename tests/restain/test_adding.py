"""A second model on a run that is over: a channel of its own, and nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import useq
import yaozarrs
import zarr
from typer.testing import CliRunner

from livestain.bundle import read_bundle
from livestain.bundle.description import Int8
from livestain.cli.app import app
from livestain.errors import BundleError, LivestainError, SequenceError
from livestain.inference import Stainer
from livestain.live.microscope import simulated_core
from livestain.live.session import Session
from livestain.restain import restain, verify_staining
from livestain.restain.made_by import made_by
from livestain.restain.verifying import _allowed
from livestain.stain.asked import ChannelSettings
from livestain.stain.ledger import Ledger
from livestain.store import (
    Journal,
    compact_store,
    encode,
    journal_lines,
    journal_path,
    open_store,
    store_status,
)

HOW = {"device": "cpu", "worker": "thread"}


@pytest.fixture
def core():
    core = simulated_core(5, shape=(64, 72))
    yield core
    core.unloadAllDevices()
    del core


@pytest.fixture
def run(core, tmp_path, tiny_bundle):
    """Return a function that makes a run of a few stacks, and gives its store."""

    def make(positions=1, channels=("Brightfield",), model=True):
        out = tmp_path / "run.ome.zarr"
        sequence = useq.MDASequence(
            axis_order="tpgcz",
            time_plan={"interval": 0, "loops": 2},
            z_plan={"range": 1.0, "step": 0.5},
            stage_positions=[(40.0 * n, 0.0) for n in range(positions)] if positions > 1 else (),
            channels=[
                *channels,
                *([{"group": "Virtual", "config": "mitochondria"}] if model else []),
            ],
        )
        models = {"mitochondria": str(tiny_bundle)} if model else {}
        Session(core, sequence, out, models=models, **HOW).run()
        return out

    return make


def planes_in(path):
    return {
        file: file.read_bytes()
        for file in path.rglob("c.*")
        if file.is_file() and "livestain" not in file.parts
    }


@pytest.mark.parametrize("compacted", [False, True], ids=["files", "compacted"])
@pytest.mark.parametrize("positions", [1, 2])
def test_another_model_has_a_channel_of_its_own(run, bundle_of, compacted, positions):
    out, other = run(positions), bundle_of(z=3)
    if compacted:
        compact_store(out)
    before = planes_in(out)
    report = restain(out, model=str(other), **HOW)
    name = f"mitochondria {other.name}"
    assert (report.added, report.planes_stained, report.planes_owed) == (
        [name],
        6 * positions,
        0,
    )
    assert before == {file: file.read_bytes() for file in before}
    yaozarrs.validate_zarr_store(str(out))
    status = store_status(out)
    assert status.by_channel[name].present == status.by_channel["mitochondria"].present
    image = zarr.open_group(out / "0" if positions > 1 else out, mode="r")
    labels = [channel["label"] for channel in image.attrs["ome"]["omero"]["channels"]]
    assert labels == ["Brightfield", "mitochondria (predicted)", f"{name} (predicted)"]
    # An oracle that knows no backlog: the model, asked for one plane in the middle of a stack.
    with open_store(out) as store, Stainer(other, device="cpu", pixel_size_um=0.1) as stainer:
        c = store.plan.c_of(name)
        index = store.plan.planned_indices(c)[1]
        stack = np.stack([store.read(index.at(c=0, z=z)) for z in range(3)])
        virtual = store.plan.channels[c].virtual
        expected = encode(stainer.stain(stack)[0], virtual.scale, virtual.offset)
        np.testing.assert_array_equal(store.read(index), expected)
        facts = store.attributes["models"][name]
        assert (facts["bundle"], facts["sha256"]) == (other.name, virtual.bundle_sha256)
    if positions > 1:
        assert f"{name} (predicted)" in (out / "OME" / "METADATA.ome.xml").read_text("utf-8")
    # Again, it is the same channel, and there is nothing to be done.
    again = restain(out, model=str(other), **HOW)
    assert (again.channels, again.added, again.planes_stained) == ([name], [], 0)


def test_the_new_channel_is_filled_by_itself(run, bundle_of):
    """Other channels' models need not be there any more, and what they are owed stays owed."""
    out, other = run(), bundle_of(z=1, width=8)
    (out / "0" / "c.1.1.2.0.0").unlink()
    restain(out, model=str(other), channel="again", **HOW)
    status = store_status(out)
    assert status.by_channel["again"].present == 6
    assert status.by_channel["mitochondria"].owed == 1
    kinds = [json.loads(line)["kind"] for line in journal_path(out).read_text().splitlines()]
    assert kinds.count("stained") == 6 + 6
    (out / "0" / "c.0.2.1.0.0").unlink()
    filled = restain(out, models={"again": str(other)}, channel="again", **HOW)
    assert (filled.channels, filled.planes_stained) == (["again"], 1)


def test_a_run_without_a_model_gets_its_first_channel(run, tiny_bundle):
    out = run(model=False)
    report = restain(out, model=str(tiny_bundle), **HOW)
    assert report.added == ["mitochondria"]
    assert store_status(out).by_channel["mitochondria"].present == 6


def test_the_source_is_named_where_it_is_not_clear(run, tiny_bundle):
    out = run(channels=("Brightfield", "Mitochondria"), model=False)
    by_kind = ChannelSettings(source="Mitochondria", source_kind="brightfield")
    report = restain(out, model=str(tiny_bundle), channel="other", settings=by_kind, **HOW)
    assert report.added == ["other"]
    with open_store(out) as store:
        assert store.plan.channels[2].virtual.source == "Mitochondria"
    with pytest.raises(SequenceError, match="there are: Brightfield, Mitochondria"):
        restain(
            out,
            model=str(tiny_bundle),
            channel="b",
            settings=ChannelSettings(source="Phase"),
            **HOW,
        )


def test_what_cannot_be_added(run, bundle_of, tiny_bundle):
    out, other = run(), bundle_of(z=1, width=8)
    before = (out / "zarr.json").read_bytes()
    for words, why in [
        ({"channel": "nuclei"}, "To add it, give its model: --model BUNDLE --channel nuclei"),
        ({"models": {"nuclei": str(other)}}, "To add it: --model BUNDLE --channel nuclei"),
        ({"model": str(other), "channel": "mitochondria"}, "predictions of one model"),
        ({"model": str(other), "channel": "Brightfield"}, "is an acquired channel"),
        ({"model": "nowhere"}, "No model is called"),
        ({"model": str(bundle_of(pixel_size_um=0.5, pixel_size_range_um=(0.4, 0.6)))}, "0.1 um"),
        ({"model": str(other), "pixel_size_um": 0.2}, "has pixels of 0.1 um"),
    ]:
        with pytest.raises(LivestainError, match=why):
            restain(out, **words, **HOW)
    assert (out / "zarr.json").read_bytes() == before


# -- repeated by a reviewer --------------------------------------------------------------------------


def test_a_staining_is_repeated_bit_for_bit(run, tiny_bundle):
    out = run()
    before = planes_in(out)
    models = {"mitochondria": str(tiny_bundle)}
    report = verify_staining(out, models=models, device="cpu")
    (verdict,) = report.channels
    assert report.passed
    assert (verdict.compared, verdict.identical, verdict.largest) == (6, 6, 0)
    assert verdict.sentence == "repeated: all 6 planes are equal, bit for bit"
    assert not verdict.surroundings
    assert before == planes_in(out)
    few = verify_staining(out, models=models, planes=2, device="cpu")
    assert few.channels[0].compared == 2


def _retold(out, change):
    """Write a journal anew, each line changed."""
    path = journal_path(out)
    lines = [change(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")


def test_planes_of_a_backend_that_is_gone_are_repeated_in_fp32(run, tiny_bundle, monkeypatch):
    out = run()

    def gone(line):
        for facts in line.get("models") or []:
            facts["backend"] = "gone"
        return line

    _retold(out, gone)
    monkeypatch.setenv("LIVESTAIN_BACKEND", "eager")
    report = verify_staining(out, models={"mitochondria": str(tiny_bundle)}, device="cpu")
    assert report.passed
    assert "backend gone then, folded now" in report.channels[0].surroundings


def test_each_plane_is_repeated_by_the_backend_that_made_it(run, tiny_bundle):
    """As of a run that was resumed on another device."""
    out = run()
    before = []

    def some_by_eager(line):
        if line["kind"] == "stained":
            before.append(line)
            if len(before) > 3:
                line["pid"] = 1
        return line

    _retold(out, some_by_eager)
    worker = next(line for line in journal_lines(out) if line["kind"] == "worker")
    first = worker | {"pid": 1, "models": [m | {"backend": "eager"} for m in worker["models"]]}
    path = journal_path(out)
    path.write_text(f"{json.dumps(first)}\n{path.read_text('utf-8')}", "utf-8")
    with open_store(out) as store:
        backends = [facts["backend"] for facts in made_by(store).by_plane.values()]
    assert sorted(backends) == ["eager"] * 3 + ["folded"] * 3
    report = verify_staining(out, models={"mitochondria": str(tiny_bundle)}, device="cpu")
    assert report.passed
    assert not report.channels[0].surroundings
    assert report.channels[0].compared == 6


def test_int8_is_allowed_what_its_bundle_states(tiny_bundle):
    described = read_bundle(tiny_bundle).description
    int8 = Int8(tolerance=0.05, pearson_loss=0.001, planes=3, bound=0.005)
    both = described.model_copy(update={"int8": int8})
    assert _allowed(both, "onnxruntime-int8", "folded") == 0.05
    assert _allowed(both, "gone", "folded") == described.tolerance


def test_a_channel_of_two_precisions_is_noted(run):
    out = run()
    ledger = Ledger()
    with open_store(out) as store, Journal(journal_path(out)) as journal:
        ledger.open(store, journal)
        for precision in ("fp32", "int8", "int8"):
            facts = {"c": 1, "backend": "some", "precision": precision}
            ledger.take("ready", {"kind": "ready", "pid": 1, "models": [facts]})
    (note,) = ledger.notes
    assert note.startswith("mitochondria: planes were made in fp32 and in int8 (some);")


def test_a_prediction_that_was_changed_is_found(run, tiny_bundle):
    out = run()
    models = {"mitochondria": str(tiny_bundle)}
    with open_store(out, mode="r+") as store:
        index = store.plan.planned_indices(1)[3]
        plane = store.read(index).copy()
        plane[10:20, 10:20] += 500
        store.write(index, plane).result()
        rounding = store.plan.planned_indices(1)[0]
        plane = store.read(rounding).copy()
        plane[5, 5] += 1
        store.write(rounding, plane).result()
    report = verify_staining(out, models=models, device="cpu")
    (verdict,) = report.channels
    assert not report.passed
    assert (verdict.compared, verdict.identical, verdict.largest) == (6, 4, 500)
    assert len(verdict.failed) == 1
    assert verdict.failed[0].startswith(index.words)
    words = ["restain", str(out), "--verify", "--model", f"mitochondria={tiny_bundle}"]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 1
    assert "1 of 6 planes are not what the model predicts" in result.stdout
    result = CliRunner().invoke(app, ["restain", str(out), "--planes", "3"])
    assert "--planes belongs to --verify" in str(result.exception)


def test_what_cannot_be_verified(run, tiny_bundle, bundle_of):
    out = run()
    with pytest.raises(BundleError, match="predictions of one model"):
        verify_staining(out, models={"mitochondria": str(bundle_of(z=1, width=8))})
    with pytest.raises(BundleError, match="has no virtual channel 'nuclei'"):
        verify_staining(out, channel="nuclei")
    for file in (out / "0").glob("c.?.0.?.0.0"):
        file.unlink()
    report = verify_staining(out, models={"mitochondria": str(tiny_bundle)}, device="cpu")
    assert not report.passed
    assert report.channels[0].not_comparable == 6
    assert "nothing could be compared" in report.channels[0].sentence

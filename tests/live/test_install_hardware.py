"""What the hardware does for a sequence with virtual channels: what it does for the same without them."""

from __future__ import annotations

import itertools

import pytest
import useq
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.core._sequencing import SequencedEvent
from pymmcore_plus.mda import MDAEngine

import livestain

CY5 = {"config": "Cy5", "exposure": 2}
FITC = {"config": "FITC", "exposure": 3}
MITO = {"config": "mitochondria (virtual)", "exposure": 50}
DNA = {"group": "Virtual", "config": "dna"}
CHANNELS = (
    (CY5, MITO),
    (MITO, CY5),
    (CY5, MITO, FITC),
    (DNA, MITO, CY5, FITC),
    (CY5, FITC, DNA, MITO),
    ({**CY5, "acquire_every": 2}, MITO, FITC),
    (MITO, {**CY5, "do_stack": False}, FITC),
)
STACK = {"range": 1.0, "step": 0.5}
POSITIONS = (
    (),
    (
        {"x": 0, "y": 0, "z": 3, "properties": [("Camera", "Gain", "3")]},
        {"x": 5, "y": 1, "z": 4, "properties": [("Camera", "Gain", "5")]},
    ),
    (
        {"x": 1, "y": 2, "z": 3},
        {
            "x": 5,
            "z": 4,
            "properties": [("Camera", "Gain", "2")],
            "sequence": {
                "z_plan": {"range": 2.0, "step": 1.0},
                "autofocus_plan": {"autofocus_motor_offset": 3, "axes": ("z",)},
            },
        },
    ),
)
REST = (
    {},
    {"keep_shutter_open_across": ("z",)},
    {"keep_shutter_open_across": ("c", "z")},
    {"keep_shutter_open_across": ("t", "c", "z", "p")},
    {"autofocus_plan": {"autofocus_motor_offset": 25, "axes": ("p",)}},
    {"autofocus_plan": {"autofocus_motor_offset": 25, "axes": ("p", "t", "c")}},
    {
        "autofocus_plan": {"autofocus_motor_offset": 25, "axes": ("t",)},
        "keep_shutter_open_across": ("z",),
    },
)
TIMES = ({"interval": 0, "loops": 3}, {"interval": 10, "loops": 3})


def cases():
    """All axis orders; the rest in turn, so that each of them meets many others."""
    more = itertools.cycle(itertools.product(CHANNELS, POSITIONS, REST, TIMES))
    for order in itertools.permutations("tpcz"):
        for channels, positions, rest, time in itertools.islice(more, 11):
            if positions == POSITIONS[2] and order.index("z") < order.index("p"):
                continue  # useq refuses that
            yield {
                "axis_order": "".join(order),
                "channels": channels,
                "stage_positions": positions,
                "time_plan": time,
                "z_plan": STACK,
                **rest,
            }


def without_virtual(case):
    real = [c for c in case["channels"] if c not in (MITO, DNA)]
    return useq.MDASequence.model_validate({**case, "channels": real})


def told(events):
    """All that hardware is told; the channel's place alone differs, and says nothing to it."""
    state, said = {}, []
    for event in events:
        one = event.model_dump(exclude={"sequence", "index", "metadata", "events", "properties"})
        one["at"] = {axis: at for axis, at in event.index.items() if axis != "c"}
        one["events"] = told(getattr(event, "events", ()))
        # useq repeats the properties of a position that has a sequence of its own.
        new = {tuple(p[:2]): p[2] for p in event.properties or ()}
        one["set"] = {p: value for p, value in new.items() if state.get(p) != value}
        state |= new
        said.append(one)
    return said


@pytest.fixture(scope="module")
def core(bundle_of):
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setProperty("Z", "UseSequences", "Yes")
    bundle = str(bundle_of())
    livestain.install(core, {"mitochondria": bundle, "dna": {"bundle": bundle}}, lockstep=False)
    yield core
    livestain.uninstall(core)
    core.unloadAllDevices()
    del core


@pytest.mark.filterwarnings("ignore:Channels with skipped frames:UserWarning")
@pytest.mark.parametrize("triggered", [True, False])
def test_the_hardware_is_told_what_it_is_told_without_virtual_channels(core, triggered):
    """Bursts, autofocus, shutter, properties of positions, timers: in all axis orders."""
    plain = MDAEngine(core, use_hardware_sequencing=triggered)
    core.mda.engine.use_hardware_sequencing = triggered
    bursts = focused = lit = 0
    for case in cases():
        expected = list(plain.event_iterator(without_virtual(case)))
        found = list(core.mda.engine.event_iterator(useq.MDASequence.model_validate(case)))
        assert told(found) == told(expected), case
        bursts += sum(isinstance(e, SequencedEvent) for e in found)
        focused += sum(e.action.type == "hardware_autofocus" for e in found)
        lit += sum(e.keep_shutter_open for e in found)
    assert focused > 500
    assert (bursts if triggered else lit) > 500

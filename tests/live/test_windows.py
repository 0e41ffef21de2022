"""What is predicted, and from which planes, for every window in every axis order: by brute force."""

from __future__ import annotations

import itertools
import re

import pytest
import useq
from installing import bundle_for_demo, demo_core
from pymmcore_plus.mda import MDAEngine

import livestain
from livestain.errors import SequenceError
from livestain.live.plan import plan_run
from livestain.live.virtual import split_sequence
from livestain.planes import PlaneIndex

T, Z = 3, 3
ORDERS = ["".join(order) for order in itertools.permutations("tcz")]
WINDOWS = {
    "2-D": {},
    "z-window": {"z": 3},
    "whole stack": {"z": "all", "network": "unet3d"},
    "past": {"past": 2},
    "future": {"future": 1},
    "time both ways": {"past": 1, "future": 2},
    "z and past": {"z": 3, "past": 1},
    "z and future": {"z": 3, "future": 1},
    "two sources": {"more_kinds": ("phase",)},
    "two sources, z and past": {"more_kinds": ("phase",), "z": 3, "past": 1},
}
PLANS = {
    "all": ({}, {}),
    "every second time point": ({"acquire_every": 2}, {}),
    "of a stack the middle alone": ({}, {"do_stack": False, "acquire_every": 2}),
}


@pytest.fixture(scope="module")
def core():
    core = demo_core()
    yield core
    livestain.uninstall(core)
    core.unloadAllDevices()
    del core


@pytest.fixture(scope="module")
def demo_bundle(bundle_of):
    return bundle_for_demo(bundle_of)


def presets_of(window):
    return ["Cy5", "FITC"][: 2 if "more_kinds" in window else 1]


def settings_of(bundle, window):
    sources = {"source": presets_of(window), "source_kind": ["brightfield", "phase"]}
    number = len(presets_of(window))
    return {"bundle": str(bundle), **{key: value[:number] for key, value in sources.items()}}


def a_sequence(order, plan, window, settings=None, *, virtual="Virtual/mitochondria", first=False):
    of_source, of_virtual = plan
    channels = [{"config": preset, **of_source} for preset in presets_of(window)]
    if virtual:
        group, config = virtual.split("/")
        channels.insert(0 if first else 2, {"group": group, "config": config, **of_virtual})
    return useq.MDASequence.model_validate(
        {
            "axis_order": order,
            "time_plan": {"interval": 0, "loops": T},
            "z_plan": {"range": 1.0, "step": 0.5},
            "channels": channels,
            "metadata": {"livestain": {"channels": {"mitochondria": settings}}} if settings else {},
        }
    )


def place(event):
    return event.index["t"], event.index["z"], event.channel.config


class Oracle:
    """The rules of design by their words: each plane of a window is looked for where it must be."""

    def __init__(self, sequence, window):
        self.window = window
        self.images = list(map(place, sequence))
        self.taken = {i for i in self.images if "mito" not in i[2]}
        self.n_t = 1 + max(t for t, _, _ in self.taken)
        wanted = [(t, z) for t, z, name in self.images if "mito" in name and t < self.n_t]
        needs = {at: self.planes_of(*at) for at in wanted}
        self.needs = {at: planes for at, planes in needs.items() if self.taken.issuperset(planes)}

    def planes_of(self, t, z):
        """The planes of a window, source by source, time by time; the nearest one where there is none."""
        past, future = self.window.get("past", 0), self.window.get("future", 0)
        depth = self.window.get("z", 1)
        found = []
        for preset in presets_of(self.window):
            for n in range(past + 1 + future):
                when = t - past + n
                when = 0 if when < 0 else self.n_t - 1 if when >= self.n_t else when
                if depth == "all":
                    found += [(when, at, preset) for at in range(Z)]
                else:
                    for at in range(z - depth // 2, z + depth // 2 + 1):
                        near = 0 if at < 0 else Z - 1 if at >= Z else at
                        found.append((when, near, preset))
        return found

    def in_time(self):
        """Whether all that each time point's predictions need comes before any source of a later one."""
        for (t, _), planes in self.needs.items():
            last = max(map(self.images.index, planes))
            if any(at > t for at, _, name in self.images[:last] if "mito" not in name):
                return False
        return True

    def most_in_memory(self, bursts):
        """Step by step: what came and has not gone out, or is needed for what has not been predicted."""
        order, gone, predicted, came, most = list(self.images), set(), set(), set(), 0

        def let_out(predict):
            while order:
                t, z, name = order[0]
                if "mito" not in name:
                    if order[0] not in came:
                        return
                    gone.add(order[0])
                elif (t, z) in self.needs:
                    if not predict or not came.issuperset(self.needs[t, z]):
                        return
                    predicted.add((t, z))
                order.pop(0)

        for burst in bursts:
            for image in burst:
                came.add(image)
                needed = {
                    p for at, planes in self.needs.items() if at not in predicted for p in planes
                }
                most = max(most, len(came - gone | came & needed))
                let_out(predict=False)
            let_out(predict=True)
        assert not order
        return most


pytestmark = pytest.mark.filterwarnings("ignore:Channels with skipped frames:UserWarning")


@pytest.mark.parametrize("kind", WINDOWS)
def test_sessions_predict_what_the_windows_can_have_and_wait_for_the_last_plane(
    core, demo_bundle, kind
):
    window = WINDOWS[kind]
    settings = settings_of(demo_bundle(**window), window)
    lockstep = {**settings, "lag": "lockstep"}
    for order, plan in itertools.product(ORDERS, PLANS.values()):
        sequence = a_sequence(order, plan, window, settings, first="c" in order[:2])
        if "future" not in window:
            sequence = a_sequence(order, plan, window, lockstep)
        oracle = Oracle(sequence, window)
        if not oracle.needs:
            with pytest.raises(SequenceError, match="No plane of the virtual channel"):
                plan_run(core, split_sequence(sequence))
            continue
        if "future" not in window and not oracle.in_time():
            with pytest.raises(SequenceError, match=r"lockstep.*Put t before c and z"):
                plan_run(core, split_sequence(sequence))
            continue
        made = plan_run(core, split_sequence(sequence))
        names = [channel.name for channel in made.store.channels]
        c = names.index("mitochondria")
        assert {(i.t, i.z) for i in made.store.planned_indices(c)} == set(oracle.needs)
        for (t, z), planes in oracle.needs.items():
            sources = made.store.sources_of(PlaneIndex(0, t, c, z))
            assert [(i.t, i.z, names[i.c]) for i in sources] == planes
        if "future" in window:
            with pytest.raises(SequenceError, match="later time points"):
                plan_run(core, split_sequence(a_sequence(order, plan, window, lockstep)))
            continue
        last = {at: max(planes, key=oracle.images.index) for at, planes in oracle.needs.items()}
        waits = made.lockstep.items()
        assert {(i.t, i.z): (s.t, s.z, names[s.c]) for s, all_ in waits for i in all_} == last


@pytest.mark.parametrize("triggered", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in WINDOWS if kind != "time both ways"])
def test_installed_channels_know_the_memory_that_a_window_takes(core, demo_bundle, kind, triggered):
    window = WINDOWS[kind]
    core.mda.set_engine(MDAEngine(core))
    bundle = demo_bundle(**window)
    livestain.install(
        core, {"mitochondria": settings_of(bundle, window)}, device="cpu", memory_mb=0
    )
    installation = core.mda.engine.installation
    plain = MDAEngine(core, use_hardware_sequencing=triggered)
    longest = 0
    for order, plan, first in itertools.product(ORDERS, list(PLANS.values())[:2], (False, True)):
        preset = "Channel/mitochondria (virtual)"
        sequence = a_sequence(order, plan, window, virtual=preset, first=first)
        oracle = Oracle(sequence, window)
        with pytest.raises(SequenceError) as refused:
            installation.prepare(sequence, plain.event_iterator)
        if "future" in window:
            assert "later time points" in str(refused.value)
        elif not oracle.needs:
            assert "No plane of the virtual channel" in str(refused.value)
        else:
            events = plain.event_iterator(a_sequence(order, plan, window, virtual=None))
            bursts = [list(map(place, getattr(event, "events", [event]))) for event in events]
            longest = max(longest, *map(len, bursts))
            told = int(re.search(r"up to (\d+) frames", str(refused.value))[1])
            assert told == oracle.most_in_memory(bursts), (order, plan, first)
    assert longest == (0 if "future" in window else T * Z if triggered else 1)
    livestain.uninstall(core)

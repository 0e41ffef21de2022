"""What the tests of `livestain.install` share: Micro-Manager's DemoCamera, sequences, a watch on a run."""

from __future__ import annotations

import numpy as np
import useq
from pymmcore_plus import CMMCorePlus

from livestain.bundle import read_bundle
from livestain.inference import Stainer

T, Z, SHAPE = 2, 3, (48, 64)
MITO = "mitochondria (virtual)"
BRIGHT = {"source": "Cy5", "source_kind": "brightfield"}


def demo_core():
    """Return Micro-Manager's demo hardware with a small 16-bit camera and a triggered stage."""
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    core.setProperty("Camera", "OnCameraCCDXSize", str(SHAPE[1]))
    core.setProperty("Camera", "OnCameraCCDYSize", str(SHAPE[0]))
    core.setProperty("Camera", "PixelType", "16bit")
    core.setProperty("Z", "UseSequences", "Yes")
    return core


def bundle_for_demo(bundle_of):
    """Return a function that gives a bundle for the demo objective, which says 1 um a pixel."""

    def make(**arguments):
        sizes = {"pixel_size_um": 1.0, "pixel_size_range_um": (0.9, 1.1)}
        return bundle_of(**{**sizes, **arguments})

    return make


def a_sequence(order="tpcz", channel=("Channel", MITO), first=False, **changes):
    group, config = channel
    channels = [{"config": "Cy5", "exposure": 2}, {"group": group, "config": config}]
    plan = {
        "axis_order": order,
        "time_plan": {"interval": 0, "loops": T},
        "z_plan": {"range": 0.5 * (Z - 1), "step": 0.5},
        "channels": channels[::-1] if first else channels,
        **changes,
    }
    return useq.MDASequence.model_validate(plan)


class Watch:
    """What a run gave, and what it cost the cells."""

    def __init__(self, core):
        self.frames, self.order, self.metas, self.events = {}, [], {}, []
        self.snaps = self.images_of_bursts = self.bursts = 0
        self._core, self._snap = core, core.snapImage
        self._start = core.startSequenceAcquisition
        core.snapImage, core.startSequenceAcquisition = self.snap, self.start
        core.mda.events.frameReady.connect(self.keep)
        core.mda.events.eventStarted.connect(self.events.append)

    def snap(self):
        self.snaps += 1
        self._snap()

    def start(self, number, *args):
        self.bursts += 1
        self.images_of_bursts += number
        self._start(number, *args)

    def keep(self, image, event, meta):
        key = tuple(event.index.get(axis, 0) for axis in ("p", "g", "t", "c", "z"))
        assert key not in self.frames
        self.frames[key] = np.array(image)
        self.metas[key] = meta
        self.order.append(key)

    @property
    def exposures(self):
        return self.snaps + self.images_of_bursts

    def raw(self, c=0):
        return {k: v for k, v in self.frames.items() if k[3] == c}


def watched(core, sequence, **options):
    watch = Watch(core)
    try:
        core.mda.run(sequence, **options)
    finally:
        core.mda.events.frameReady.disconnect(watch.keep)
        del core.snapImage, core.startSequenceAcquisition
    return watch


def stained(bundle, planes, **options):
    """What the Stainer says of these planes, as counts of the bundle's scale 0.001 and offset -20."""
    with Stainer(read_bundle(bundle), device="cpu", **options) as stainer:
        values = stainer.stain(np.stack(planes))[0]
    return np.clip(np.rint((values.astype(np.float64) + 20.0) / 0.001), 1, 65535).astype(np.uint16)

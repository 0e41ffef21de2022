"""A run that answers what it sees: look over a dish, stay where the mitochondria are, take one real frame.

    python examples/feedback.py [FOLDER]

Brightfield goes round all fields of view. In the prediction, the field with the most mitochondria is found;
it is followed at a higher rate, and at the end its fluorescence is taken once: one exposure in place of one
for each image.
"""

import sys
from pathlib import Path

from useq import MDAEvent, MDASequence

import livestain
from livestain import PlaneIndex

FIELDS = [(x, y) for y in (0, 40) for x in (0, 40, 80)]
FOLLOWED = 20

# What a time point may have; which of it is taken, and when, is decided below.
sequence = MDASequence(
    axis_order="tpgcz",
    stage_positions=FIELDS,
    channels=[
        {"group": "Channel", "config": "Brightfield", "exposure": 10},
        {"group": "Channel", "config": "Mitochondria", "exposure": 100},
        {"group": "Virtual", "config": "mitochondria"},
    ],
)
PREDICTED = 2  # place of the virtual channel: after those of the camera


def look_then_follow(session):
    """Decide each event when the one before is done."""
    found = []
    for p in range(len(FIELDS)):
        yield MDAEvent(index={"p": p}, channel="Brightfield")
        prediction = session.wait_for(PlaneIndex(p, 0, PREDICTED, 0), timeout=60)
        found.append(float(prediction.clip(min=0).mean()))
        print(f"field {p} at {FIELDS[p]} um: predicted mitochondria {found[-1]:.3f} on average")
    best = max(range(len(FIELDS)), key=found.__getitem__)
    print(f"following field {best}")
    # A list is one burst, which the hardware triggers where it can.
    yield [MDAEvent(index={"p": best, "t": t}, channel="Brightfield") for t in range(1, FOLLOWED)]
    yield MDAEvent(index={"p": best, "t": FOLLOWED - 1}, channel="Mitochondria")


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
session = livestain.Session(
    livestain.simulated_core(seed=7),  # or your own CMMCorePlus
    sequence,
    folder / "feedback.ome.zarr",
    events=look_then_follow,
    overwrite=True,
)
report = session.run()
print(
    f"{report.planes_acquired} frames, {report.planes_stained} stained; from a frame to the next event "
    f"{report.answer_ms.p50:.0f} ms (p50), {report.answer_ms.p95:.0f} ms (p95)"
)

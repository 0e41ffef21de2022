"""Stain live on a core that you already have; here Micro-Manager's demo configuration stands for it.

    python examples/own_microscope.py [FOLDER]

A script needs no `if __name__ == "__main__"`: the worker is a process of its own, not a copy of yours.
"""

import sys
from pathlib import Path

import useq
from pymmcore_plus import CMMCorePlus

import livestain

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()

core = CMMCorePlus()
core.loadSystemConfiguration()  # yours: core.loadSystemConfiguration("MyScope.cfg")

sequence = useq.MDASequence(
    time_plan={"interval": 0.5, "loops": 3},
    channels=[
        {"group": "Channel", "config": "DAPI", "exposure": 10},
        {"group": "Virtual", "config": "mitochondria"},
    ],
    # No preset of the demo configuration is called Brightfield, so say which one it is.
    metadata={
        "livestain": {
            "channels": {"mitochondria": {"source": "DAPI", "source_kind": "brightfield"}}
        }
    },
)

try:
    # The demo configuration says 1 um; a model refuses a pixel size that it was not trained for.
    livestain.Session(core, sequence, folder / "refused.ome.zarr").run()
except livestain.LivestainError as error:
    print(f"refused: {error}")

report = livestain.Session(
    core,
    sequence,
    folder / "own.ome.zarr",
    # A model of simulated cells is used on a real microscope only by its name; yours needs none.
    models={"mitochondria": "demo-mitochondria"},
    pixel_size_um=0.1,
    overwrite=True,
).run()
print(
    f"{report.planes_acquired} acquired, {report.planes_stained} stained, latency {report.latency_ms}"
)

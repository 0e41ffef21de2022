"""Give virtual channels to a program that runs acquisitions itself, such as napari-micromanager or a script.

python examples/install_in_your_program.py [FOLDER]
"""

import sys
from pathlib import Path

import useq
import zarr

import livestain

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()

# Yours: CMMCorePlus.instance(), with its configuration loaded; here a simulated dish stands for it.
core = livestain.simulated_core(seed=7)

# Every model that fits the microscope becomes a preset, which channel tables show beside the others.
print("new presets:", *livestain.install(core))

# What a channel table would make of it:
sequence = useq.MDASequence(
    axis_order="tpzc",
    time_plan={"interval": 0, "loops": 2},
    z_plan={"range": 2, "step": 1},
    channels=[
        {"config": "Brightfield", "exposure": 10},
        {"config": "mitochondria (virtual)"},
    ],
)


def show(image, event, meta):
    said = meta.get("extra", {}).get("livestain")
    if said is not None:
        value = said["offset"] + said["scale"] * float(image.max())
        print(
            f"t={event.index['t']} z={event.index['z']}: predicted, up to {value:.1f} {said['unit']}"
        )


core.mda.events.frameReady.connect(show)
out = folder / "from_your_program.ome.zarr"
core.mda.run(sequence, output=out, overwrite=True)  # pymmcore-plus' own writer

array = zarr.open(out, mode="r")["0"]
print(f"{out.name}: {array.shape}, the second channel is predicted")

livestain.uninstall(core)
print("presets again:", *core.getAvailableConfigs("Channel"))

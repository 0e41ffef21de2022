"""Run a sequence on a simulated dish, stain it live, and look at the result.

python examples/simulated_run.py [FOLDER]
"""

import sys
from pathlib import Path

import livestain


def main(folder: Path) -> None:
    out = folder / "simulated.ome.zarr"
    core = livestain.simulated_core(seed=7)
    sequence = livestain.load_sequence(Path(__file__).with_name("first_sequence.yaml"))

    session = livestain.Session(core, sequence, out, overwrite=True)
    session.plane_stained.connect(
        lambda plane: print(
            f"stained t={plane.index.t} z={plane.index.z} in {plane.latency_ms['model']:.0f} ms"
        )
    )
    report = session.run()
    print(f"{report.planes_acquired} planes acquired, {report.planes_stained} stained")

    with livestain.open_store(out) as store:
        newest = store.plan.planned_indices(store.plan.c_of("mitochondria"))[-1]
        prediction = store.read_decoded(newest)
    print(f"newest prediction: {prediction.shape}, up to {prediction.max():.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())

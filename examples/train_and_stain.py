"""Record pairs, train a model on them, and stain a dish that it never saw, live.

    python examples/train_and_stain.py [FOLDER]

On your microscope the recordings are an evening's runs with brightfield and fluorescence.
"""

import sys
from pathlib import Path

import useq

import livestain
from livestain.training import Recipe, evaluate_bundle, export_run, train

PAIRS = useq.MDASequence(
    axis_order="tpgcz",
    time_plan={"interval": 0, "loops": 4},
    z_plan={"range": 1.0, "step": 0.5},
    channels=[
        {"group": "Channel", "config": "Brightfield", "exposure": 10},
        {"group": "Channel", "config": "Mitochondria", "exposure": 200},
    ],
)
SEQUENCE = Path(__file__).with_name("first_sequence.yaml")
RECIPE = Path(__file__).with_name("first_recipe.yaml")


def main(folder: Path) -> None:
    recordings = folder / "recordings"
    for seed in (101, 102, 103):
        core = livestain.simulated_core(seed)
        livestain.Session(core, PAIRS, recordings / f"dish{seed}.ome.zarr").run()

    # Split by movie: the dish that the score is from is not trained on.
    recipe = Recipe.from_yaml(RECIPE).model_copy(update={"leave_out": ("dish103",)})
    run = train(recipe, recordings, folder / "run", progress=False)
    bundle = export_run(run, folder / "first", onnx=False)

    scores = evaluate_bundle(bundle, recordings, movies=["dish103"]).to_dict()
    print(
        f"Pearson on a dish it never saw: {scores['pearson']:.2f} (control {scores['control']:.2f})"
    )

    core = livestain.simulated_core(seed=7)
    session = livestain.Session(
        core,
        livestain.load_sequence(SEQUENCE),
        folder / "stained.ome.zarr",
        models={"mitochondria": str(bundle.path)},
    )
    report = session.run()
    print(
        f"stained live by the new model: {report.planes_stained} planes, {report.planes_missing} missing"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())

"""Is it enough data? Train on one dish, on two, on four, and score each on a dish none of them saw.

    python examples/learning_curve.py [FOLDER]

While the score still rises with each doubling, another evening of recording will pay.
"""

import sys
from pathlib import Path

import useq

import livestain
from livestain.training import Recipe, evaluate_bundle, export_run, train

PAIRS = useq.MDASequence(
    axis_order="tpzc",
    time_plan={"interval": 0, "loops": 3},
    channels=[
        {"group": "Channel", "config": "Brightfield", "exposure": 10},
        {"group": "Channel", "config": "Mitochondria", "exposure": 200},
    ],
)
RECIPE = Path(__file__).with_name("first_recipe.yaml")
DISHES = ("dish1", "dish2", "dish3", "dish4")
HELD_OUT = "dish5"


def main(folder: Path) -> None:
    recordings = folder / "recordings"
    for seed, name in enumerate((*DISHES, HELD_OUT), start=201):
        core = livestain.simulated_core(seed)
        livestain.Session(core, PAIRS, recordings / f"{name}.ome.zarr").run()

    recipe = Recipe.from_yaml(RECIPE)
    for n in (1, 2, 4):
        chosen = recipe.model_copy(update={"movies": DISHES[:n], "leave_out": (HELD_OUT,)})
        run = train(chosen, recordings, folder / f"run-{n}", progress=False)
        bundle = export_run(run, folder / f"model-{n}", onnx=False)
        scores = evaluate_bundle(bundle, recordings, movies=[HELD_OUT])
        print(
            f"{n} dishes: Pearson {scores.pearson:.3f} on {HELD_OUT}, control {scores.control:.3f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())

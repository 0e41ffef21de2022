"""The examples run as they are printed, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

import livestain
from livestain.training import PairSpec, Recipe, find_pairs

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_example(example, tmp_path):
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def test_the_evening_protocol_records_pairs(tmp_path):
    folder = Path(__file__).parents[1] / "examples"
    protocol = livestain.load_sequence(folder / "record_training.yaml")
    core = livestain.simulated_core(3, shape=(128, 128))
    out = tmp_path / "recordings" / "dish1-field01.ome.zarr"
    livestain.Session(core, protocol.replace(time_plan={"interval": 0, "loops": 2}), out).run()
    recipe = Recipe.from_yaml(folder / "first_recipe.yaml")
    with find_pairs(out.parent, PairSpec.of_recipe(recipe)) as pairs:
        assert pairs.names == ("dish1-field01",)
        assert len(pairs.pairs) == 2 * 9
        data = pairs.read(pairs.pairs[0])
        assert data.present.all()
        assert (data.source.shape, data.target.shape) == ((1, 1, 128, 128), (1, 1, 128, 128))
    core.unloadAllDevices()

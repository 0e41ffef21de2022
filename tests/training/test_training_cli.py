"""The commands train, export and evaluate, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console
from training_cases import make_movie, write_image

from livestain.cli.app import run as run_command
from livestain.images import read_image
from livestain.metrics import no_learning_control, pearson
from livestain.training.bar import new_progress
from livestain.training.modes import StainTraining


def command(*arguments, cwd):
    ended = subprocess.run(
        [sys.executable, "-c", "from livestain.cli import main; main()", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.fixture
def recipe_file(recipe_of, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_of(steps=20).to_yaml())
    return path


def test_from_pairs_to_scores(data, recipe_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = ["train", "tiny.yaml", "--data", str(data), "--out", "run", "--leave-out", "movie-c"]
    assert run_command(train) == 0
    assert "livestain export run" in capsys.readouterr().out
    assert run_command(["export", "run", "--out", "bundle", "--name", "mine", "--no-onnx"]) == 0
    # In a process of its own, whose last line is JSON whatever libraries say.
    ended = command("evaluate", "bundle", "--data", data, "--movies", "c", "--json", cwd=tmp_path)
    scores = json.loads(ended.stdout.splitlines()[-1])
    assert {
        "pearson",
        "control",
        "by_movie",
        "interval",
        "control_interval",
        "gain_interval",
    } <= set(scores)
    assert set(scores["by_movie"]) == {"c"}
    one = scores["by_movie"]["c"]
    assert one["n"] == 4
    assert scores["pearson"] == pytest.approx(one["pearson"])
    assert one["interval"][0] <= one["pearson"] <= one["interval"][1]
    assert scores["bundle"] == "mine"
    by_hand = [
        pearson(
            no_learning_control(read_image(path)),
            read_image(data / "movie-c" / "mitochondria" / path.name),
        )
        for path in sorted((data / "movie-c" / "brightfield").iterdir())
    ]
    assert one["control"] == pytest.approx(sum(by_hand) / 4)


def test_what_was_found_in_the_data_is_told(data, recipe_file, tmp_path, capsys):
    """Also where standard error is no terminal: bad pairs, movies without pairs, and a split that leaks."""
    for file in sorted((data / "movie-a" / "mitochondria").iterdir())[:2]:
        write_image(file, read_image(file).clip(0, 20))
    for channel in ("brightfield", "mitochondria"):
        (data / "movie-bare" / channel).mkdir(parents=True)
    split = "split={by: random_crops_that_leak, validation: 0.2}"
    out = str(tmp_path / "run")
    arguments = ["train", str(recipe_file), "--data", str(data), "--out", out, "--steps", "2"]
    assert run_command([*arguments, "--set", split]) == 0
    told = capsys.readouterr().err
    assert "No pairs in bare:" in told
    assert "2 of 12 pairs are bad (2 saturated); they are trained on all the same" in told
    assert "nothing of other cells" in told
    assert run_command([*arguments[:-1], "3", "--movies", "bare", "--out", out + "2"]) == 2
    assert "The movie 'bare' has no pairs" in capsys.readouterr().err
    assert run_command(["check-data", str(recipe_file), "--data", str(data)]) == 0
    told = capsys.readouterr().out
    assert "No pairs in: bare." in told
    assert "\N{HORIZONTAL ELLIPSIS}" not in told  # broken into lines in 80 columns, and not cut off


def test_an_interrupted_training_says_how_to_go_on(
    data, recipe_file, tmp_path, capsys, monkeypatch
):
    real = StainTraining.training_step

    def interrupted(self, batch, batch_idx):
        if self.done == 3:
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    arguments = ["train", str(recipe_file), "--data", str(data), "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(StainTraining, "training_step", interrupted)
        assert run_command(arguments) == 130
    told = capsys.readouterr().err
    assert "interrupted. Go on with the same command and --resume." in told
    assert run_command([*arguments, "--resume"]) == 0


@pytest.mark.parametrize("width", [80, 200])
def test_the_bar_keeps_steps_and_times_where_it_is_narrow(width):
    note = "loss 1.196  validation pearson -0.161  validation loss 1.39"
    progress = new_progress()
    progress.add_task("training", total=4000, completed=1234, note=note)
    shown = StringIO()
    Console(file=shown, width=width).print(progress.get_renderable())
    for words in ("training", "1234/4000", "0:00:00", "-:--:--", *note.split()):
        assert words in shown.getvalue()


def test_the_mean_is_over_movies_of_the_mean_over_images(data, recipe_file, tmp_path, capsys):
    make_movie(data, "d", n=9, seed=4)
    assert (
        run_command(
            [
                "train",
                str(recipe_file),
                "--data",
                str(data),
                "--out",
                str(tmp_path / "run"),
                "--movies",
                "a",
                "--steps",
                "4",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert (
        run_command(["export", str(tmp_path / "run"), "--out", str(tmp_path / "b"), "--no-onnx"])
        == 0
    )
    capsys.readouterr()
    assert run_command(["evaluate", str(tmp_path / "b"), "--data", str(data), "--json"]) == 0
    told = capsys.readouterr()
    scores = json.loads(told.out.splitlines()[-1])
    movies = scores["by_movie"].values()
    assert scores["pearson"] == pytest.approx(sum(m["pearson"] for m in movies) / 4)
    assert scores["control"] == pytest.approx(sum(m["control"] for m in movies) / 4)
    assert "was trained on movies called a" in told.err
    assert run_command(["evaluate", str(tmp_path / "b"), "--data", str(data)]) == 0
    assert "mitochondria" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "{recipe}", "--data", "{data}", "--out", "{tmp}/run", "--leave-out", "x"],
            "no movie 'x'",
        ),
        (["train", "{recipe}", "--data", "{tmp}/none", "--out", "{tmp}/run"], "no folder"),
        (["train", "nothing.yaml", "--data", "{data}", "--out", "{tmp}/run"], "no recipe"),
        (["train", "{recipe}", "--data", "{data}", "--out", "{data}"], "exists"),
        (
            ["train", "{recipe}", "--data", "{data}", "--out", "{tmp}/run", "--device", "tpu"],
            "'tpu'",
        ),
        # Refused before the data is looked for.
        (["train", "{recipe}", "--data", "{tmp}/none", "--out", "{data}"], "exists"),
        (["train", "{recipe}", "--data", "{data}", "--out", "{recipe}"], "exists"),
        (["train", "{recipe}", "--data", "{data}", "--out", "{recipe}/run"], "is a file"),
        (
            ["train", "{recipe}", "--data", "{tmp}/none", "--out", "{tmp}/r", "--resume"],
            "resume in",
        ),
        (["export", "{tmp}", "--out", "{tmp}/b"], "no training run"),
        (["evaluate", "{data}", "--data", "{data}"], "data"),
    ],
)
def test_bad_input_is_one_sentence_and_touches_nothing(
    data, recipe_file, tmp_path, capsys, arguments, words
):
    before = sorted(tmp_path.rglob("*"))
    filled = [a.format(recipe=recipe_file, data=data, tmp=tmp_path) for a in arguments]
    assert run_command(filled) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("livestain: ")
    assert words in line
    assert told.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_one_sentence(data, recipe_file, tmp_path, capsys):
    # A name that is too long is refused by the system alone, and to every user.
    bad = tmp_path / ("x" * 300)
    run = tmp_path / "run"
    train = ["train", str(recipe_file), "--data", str(data), "--steps", "1", "--device", "cpu"]
    assert run_command([*train, "--out", str(run)]) == 0
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        [*train, "--out", str(bad)],
        ["export", str(run), "--no-onnx", "--out", str(bad / "bundle")],
        ["export", str(run), "--no-onnx", "--out", str(recipe_file / "bundle")],
    ):
        capsys.readouterr()
        assert run_command(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("livestain: Cannot ")
        assert arguments[-1] in line
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", ["0", "inf"])
def test_pixel_sizes_that_are_none(data, tiny_bundle, capsys, size):
    arguments = ["evaluate", str(tiny_bundle), "--data", str(data), "--pixel-size", size]
    assert run_command(arguments) == 2
    assert f"pixel size {size} um cannot be" in capsys.readouterr().err


@pytest.mark.data
def test_the_control_on_the_real_movies_is_what_was_measured(data_dir):
    measured = {"009": 0.381, "010": 0.530, "011": 0.420}
    for name, value in measured.items():
        movie = data_dir / "h9c2-omp25" / f"movie-{name}"
        scores = [
            pearson(
                no_learning_control(read_image(path)),
                read_image(movie / "mitochondria" / path.name),
            )
            for path in sorted((movie / "brightfield").iterdir())
        ]
        assert sum(scores) / len(scores) == pytest.approx(value, abs=0.0006)

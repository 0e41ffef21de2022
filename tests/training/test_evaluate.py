"""A bundle against recorded pairs: scores, controls, files, sides of a split, stacks, and what is refused."""

from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_pairs import make_store
from training_cases import make_movie, make_pair, write_image

from livestain.cli.app import run as run_command
from livestain.errors import DataError, SettingsError
from livestain.images import read_image
from livestain.inference import Stainer
from livestain.metrics import no_learning_control, pearson
from livestain.training import evaluate_bundle
from livestain.training.evaluation.scores import METRICS, columns_of
from livestain.training.evaluation.statistics import partners


@pytest.fixture
def movies(tmp_path):
    """Two movies of 4 and 5 frames."""
    make_movie(tmp_path / "data", "a", n=4, seed=1)
    make_movie(tmp_path / "data", "b", n=5, seed=2, dtype=np.uint16)
    return tmp_path / "data"


def test_scores_and_controls_are_those_by_hand(movies, tiny_bundle):
    found = evaluate_bundle(tiny_bundle, movies, metrics=["nmse"], device="cpu")
    rows = {}
    for name in ("a", "b"):
        folder = movies / f"movie-{name}"
        files = sorted((folder / "brightfield").iterdir())
        sources = [read_image(file) for file in files]
        targets = [read_image(folder / "mitochondria" / file.name) for file in files]
        with Stainer(tiny_bundle, device="cpu") as stainer:
            predicted = [stainer.stain(source[None])[0] for source in sources]
        others = partners([file.stem.rsplit("_", 1)[0] for file in files])
        rows[name] = [
            (
                pearson(predicted[i], targets[i]),
                pearson(no_learning_control(sources[i]), targets[i]),
                pearson(predicted[i], targets[others[i]]),
                np.mean((predicted[i] - (t := targets[i] - targets[i].mean()) / t.std()) ** 2),
            )
            for i in range(len(files))
        ]
        means = np.mean(rows[name], axis=0)
        movie = found.by_movie[name]
        assert (movie.pearson, movie.control) == pytest.approx(means[:2])
        of_movie = found.by_metric["pearson"].by_movie[name]
        assert of_movie.prediction.mean == movie.pearson
        assert of_movie.shuffled.mean == pytest.approx(means[2])
        assert found.by_metric["nmse"].by_movie[name].prediction.mean == pytest.approx(means[3])
    every = np.concatenate(list(rows.values()))
    overall = found.by_metric["pearson"].overall
    assert overall.prediction.quantiles == pytest.approx(
        tuple(np.percentile(every[:, 0], (5, 25, 50, 75, 95)))
    )
    assert overall.prediction.interval == pytest.approx(found.interval)
    assert overall.prediction.interval_movies is not None
    assert found.shuffled_other_frames == {"a": True, "b": True}
    assert list(found.by_metric) == ["pearson", "nmse"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_keys_that_others_read(movies, tiny_bundle):
    found = evaluate_bundle(tiny_bundle, movies, metrics=["pearson"], device="cpu").to_dict()
    assert {"pearson", "control", "interval", "by_movie", "bundle", "data_sha256"} <= set(found)
    assert set(found["by_movie"]["a"]) == {
        *("pearson", "control", "n", "frames", "trained_on"),
        *("interval", "control_interval", "gain_interval"),
    }
    assert found["data_range"] == 1.0
    assert "mean 0 and standard deviation 1" in found["normalisation"]
    assert "images" not in found


class _Page(HTMLParser):
    """Collects what the tests ask for, and checks that tags close."""

    def __init__(self, text):
        super().__init__()
        self.images, self.open, self.links, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        self.links += [v for k, v in attrs if k in ("href", "src")]
        if tag not in ("meta", "img", "line", "circle", "rect", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_page_and_table(movies, tiny_bundle, tmp_path):
    page, table = tmp_path / "page.html", tmp_path / "scores.csv"
    found = evaluate_bundle(tiny_bundle, movies, page=page, csv=table, device="cpu")
    shown = _Page(page.read_text(encoding="utf-8"))
    assert shown.open == []
    assert all(link.startswith("data:image/png;base64,") for link in shown.links)
    words = " ".join(shown.words)
    for expected in ("PREDICTED", "shuffled", "data range 1", "Otsu", "median", "2 movies"):
        assert expected in words
    assert "Measured: brightfield, " in shown.images[1]["alt"]
    # What is counted in the target is neither predicted nor a control's.
    text = page.read_text(encoding="utf-8")
    for label in ("objects in target", "network length in target (um)"):
        assert f'<td>{label}</td><td class="measured">measured</td>' in text
        assert text.split(f"<td>{label}</td>")[1].split("</tr><tr")[1].startswith(" class=first>")
    panels = [image for image in shown.images if ", t00" in image["alt"]]
    assert len(panels) == 2 * 3 * 4  # movies, ranks, panels
    ranks = [
        [row.pair for row in sorted(own, key=lambda row: row.prediction["pearson"])]
        for own in ([r for r in found.images if r.movie == m] for m in ("a", "b"))
    ]
    told = [image["alt"] for image in panels if image["alt"].startswith("PREDICTED")]
    assert told == [
        f"PREDICTED mitochondria, {own[place]}, {rank}"
        for own in ranks
        for place, rank in ((0, "worst"), (len(own) // 2, "median"), (-1, "best"))
    ]
    predicted = next(image for image in panels if image["alt"].startswith("PREDICTED"))
    picture = Image.open(io.BytesIO(base64.b64decode(predicted["src"].split(",")[1])))
    assert picture.getpixel((1, 1)) == (0xA8, 0x32, 0x7F)  # the word is in the pixels too

    lines = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert [line["movie"] for line in lines] == ["a"] * 4 + ["b"] * 5
    names = [column.name for column in columns_of(METRICS)]
    assert set(lines[0]) == {
        *("movie", "image", "frame", "z"),
        *(name + end for name in names for end in ("", "_control", "_shuffled")),
    }
    mean = np.mean([float(line["pearson"]) for line in lines if line["movie"] == "b"])
    assert mean == pytest.approx(found.by_movie["b"].pearson, abs=1e-5)
    assert lines[0]["ms_ssim"] == ""  # 64 pixels are too few for its five scales
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []

    before = page.read_bytes()
    with pytest.raises(SettingsError, match=r"page.html is there already.*--overwrite"):
        evaluate_bundle(tiny_bundle, movies, page=page)
    with pytest.raises(SettingsError, match=r"no folder .*nowhere"):
        evaluate_bundle(tiny_bundle, movies, csv=tmp_path / "nowhere" / "x.csv")
    with pytest.raises(SettingsError, match="is a folder"):
        evaluate_bundle(tiny_bundle, movies, csv=tmp_path)
    assert page.read_bytes() == before
    evaluate_bundle(tiny_bundle, movies, page=page, overwrite=True, metrics=[], device="cpu")
    assert page.read_bytes() != before


def test_the_side_of_a_split(movies, tiny_bundle, tmp_path):
    run = tmp_path / "run"
    run.mkdir()

    def split(**facts):
        (run / "data.json").write_text(json.dumps({"split": facts}))

    def score(side="test", **how):
        return evaluate_bundle(
            tiny_bundle, movies, metrics=["pearson"], device="cpu", split=side, **how
        )

    split(by="movie", train={"groups": ["a"]}, test={"groups": ["b"]})
    found = score(run=run)
    assert list(found.by_movie) == ["b"]
    assert found.split == "test"
    assert list(score("train", run=run).by_movie) == ["a"]
    split(by="file", train={"groups": []}, test={"groups": ["a/t001_z000", "b/t002_z000"]})
    assert [image.pair for image in score(run=run).images] == ["t001_z000_1", "t002_z000_2"]

    with pytest.raises(DataError, match=r"nothing on the side validation; it has: train, test"):
        score("validation", run=run)
    split(by="movie", test={"groups": ["z"]})
    with pytest.raises(DataError, match=r"None of what was held back for test.*z"):
        score(run=run)
    split(by="random_crops_that_leak", leaks="they do", test={"groups": ["a"]})
    with pytest.raises(DataError, match="nothing to score apart"):
        score(run=run)
    with pytest.raises(DataError, match="does not say how its data was split"):
        score(run=tmp_path)
    with pytest.raises(SettingsError, match="no side 'tests'"):
        score("tests", run=run)
    with pytest.raises(SettingsError, match="--run RUN"):
        score()


def write_stacks(folder, n=3, shape=(5, 48, 48)):
    """Files of stacks, (z, y, x), in a movie's folders."""
    for i in range(n):
        planes = [make_pair(100 * i + z, shape[1:], np.uint16) for z in range(shape[0])]
        for channel, place in (("brightfield", 0), ("mitochondria", 1)):
            path = folder / channel / f"s{i}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            stack = np.stack([pair[place] for pair in planes])
            tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})


def test_whole_stacks_are_predicted_once_and_scored_by_plane_and_stack(
    tmp_path, bundle_of, monkeypatch
):
    write_stacks(tmp_path / "data" / "movie-s")
    bundle = bundle_of(network="unet3d", z="all")
    calls = []
    real = Stainer.stain
    monkeypatch.setattr(Stainer, "stain", lambda *a: calls.append(a[1].shape) or real(*a))
    found = evaluate_bundle(
        bundle,
        tmp_path / "data",
        metrics=["nmse"],
        device="cpu",
        csv=tmp_path / "x.csv",
    )
    assert calls == [(5, 48, 48)] * 3
    assert [image.z for image in found.images] == list(range(5)) * 3
    assert found.by_movie["s"].n == 15
    assert found.by_movie["s"].frames == 3
    source, target = (
        tifffile.imread(tmp_path / "data" / "movie-s" / channel / "s1.tif")
        for channel in ("brightfield", "mitochondria")
    )
    with Stainer(bundle, device="cpu") as stainer:
        predicted = real(stainer, source)[0]
    image = found.images[5 + 3]
    assert image.prediction["pearson"] == pytest.approx(pearson(predicted[3], target[3]))
    assert image.control["pearson"] == pytest.approx(
        pearson(no_learning_control(source[3]), target[3])
    )
    stacks = found.stacks["pearson"].by_movie["s"].prediction
    assert stacks.n == 3
    assert list(found.stacks) == ["pearson", "nmse"]
    per_stack = np.array([pearson(predicted, target)])
    assert stacks.quantiles[0] <= per_stack[0] <= stacks.quantiles[-1]
    assert "3" in {
        line["z"] for line in csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text()))
    }


def test_stacks_of_another_z_step_are_resampled_as_live(tmp_path, bundle_of):
    """Of a network that learnt from resampled stacks, 0.5 um apart here."""
    write_stacks(tmp_path / "data" / "movie-s", n=2)
    (tmp_path / "data" / "movie-s" / "movie.yaml").write_text("pixel_size_um: 0.1\nz_step_um: 1\n")
    bundle = bundle_of(network="unet3d", z="all", z_step_range_um=(0.2, 1.2))
    with pytest.raises(DataError, match=r"z-planes 1 um apart; .* expects 0\.5 um"):
        evaluate_bundle(bundle, tmp_path / "data", metrics=[], device="cpu")
    arguments = {"metrics": [], "device": "cpu", "z_step_um": 1.0}
    found = evaluate_bundle(bundle, tmp_path / "data", **arguments)
    source, target = (
        tifffile.imread(tmp_path / "data" / "movie-s" / channel / "s1.tif")
        for channel in ("brightfield", "mitochondria")
    )
    with Stainer(bundle, device="cpu", z_step_um=1.0) as stainer:
        assert stainer.resampled_z == 2
        predicted = stainer.stain(source)[0]
    assert found.images[5 + 3].prediction["pearson"] == pytest.approx(
        pearson(predicted[3], target[3])
    )
    with pytest.raises(SettingsError, match=r"z-step 0 um cannot be.*--z-step UM"):
        evaluate_bundle(bundle, tmp_path / "data", z_step_um=0.0)


def test_a_series_of_a_store_has_flicker(tmp_path, bundle_of):
    (tmp_path / "stores").mkdir()
    written = make_store(tmp_path / "stores" / "run.ome.zarr", n_t=5, n_z=1, every=1)
    bundle = bundle_of(past=1)
    found = evaluate_bundle(bundle, tmp_path / "stores", metrics=["flicker"], device="cpu")
    planes = [np.asarray(plane, float) for at, plane in sorted(written.items()) if at.c == 1]
    changes = np.diff([plane.mean() for plane in planes])
    contrast = np.mean([plane.std() for plane in planes])
    assert found.flicker["run"].target == pytest.approx(changes.std(ddof=1) / contrast, rel=1e-3)
    assert found.flicker["run"].steps == 4
    assert found.flicker["run"].prediction > 0
    assert list(found.by_metric) == ["pearson"]


def test_frames_of_one_image_have_no_partner(tmp_path, tiny_bundle):
    make_movie(tmp_path / "data", "a", n=1)
    found = evaluate_bundle(tiny_bundle, tmp_path / "data", page=tmp_path / "p.html", device="cpu")
    shuffled = found.by_metric["pearson"].overall.shuffled
    assert (shuffled.n, shuffled.mean) == (0, None)
    assert found.shuffled_other_frames == {"a": False}
    assert _Page((tmp_path / "p.html").read_text()).open == []


def test_a_constant_target_and_unknown_names_are_refused(tmp_path, movies, tiny_bundle):
    with pytest.raises(SettingsError, match=r"no output 'x'; it has: mitochondria"):
        evaluate_bundle(tiny_bundle, movies, output="x")
    with pytest.raises(SettingsError, match="no metric 'x'"):
        evaluate_bundle(tiny_bundle, movies, metrics=["x"])
    flat = movies / "movie-a" / "mitochondria" / "t001_z000_1.png"
    write_image(flat, np.full((64, 64), 9, np.uint8))
    with pytest.raises(DataError, match=r"t001_z000_1 in movie a is constant \(all 9\)"):
        evaluate_bundle(tiny_bundle, movies, device="cpu")


def test_the_command(movies, tiny_bundle, tmp_path, capsys):
    arguments = ["evaluate", str(tiny_bundle), "--data", str(movies), "--device", "cpu"]
    page = tmp_path / "p.html"
    more = ["--metrics", "psnr,nmse", "--page", str(page)]
    assert run_command([*arguments, *more]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    pearson_at, psnr_at = (
        next(i for i, line in enumerate(lines) if word in line)
        for word in ("Pearson correlation", "PSNR (dB)")
    )
    assert pearson_at < psnr_at
    assert "shuffled" in told.out
    assert "2 movies" in told.out
    assert f"Written: {page}" in told.err
    assert run_command([*arguments, *more, "--overwrite", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(scores["by_metric"]) == ["pearson", "psnr", "nmse"]
    assert run_command([*arguments, *more]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_command([*arguments, "--metrics", "best"]) == 2
    assert "no metric 'best'" in capsys.readouterr().err
    assert run_command([*arguments, "--metrics", "ms_ssim"]) == 0
    assert "No ms_ssim of these images" in capsys.readouterr().out
    assert run_command([*arguments, "--split", "test"]) == 2
    assert "--run RUN" in capsys.readouterr().err

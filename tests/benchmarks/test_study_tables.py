"""The study's page: what counts as the same order, what is missing, and that nothing is mixed."""

import importlib
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from livestain.errors import DataError, SettingsError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DOCS = BENCHMARKS.parent / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def study(monkeypatch):
    """The modules of benchmarks/study."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("chart", "claims", "finished", "labels", "markdown", "plan", "tables", "times")
    return SimpleNamespace(**{name: importlib.import_module(f"study.{name}") for name in names})


@pytest.fixture
def write(tmp_path):
    """Write the result of a cell, of a made-up score; its interval reaches 0.02 up and down."""

    def write(study, recipe, score=0.5, *, fold=None, scale="cpu", on="held-out", **more):
        name = recipe if fold is None else f"{recipe}-not-{fold}"
        interval = [score - 0.02, score + 0.02]
        spread = [score + d for d in (-0.2, -0.1, 0.0, 0.1, 0.2)]
        one = {"mean": score, "interval": interval, "control": 0.4, "n": 9, "quantiles": spread}
        cell = {
            "cell": name,
            "study": study,
            "scale": scale,
            "recipe": recipe,
            "about": f"about {recipe}",
            "fold": fold,
            "data": "made up",
            "training_sets": 12,
            "steps": 100,
            "batch_size": 2,
            "samples": 200,
            "budget_seconds": 300.0,
            "wall_seconds": 360.0,
            "looks": [[50, 0.4], [100, 0.45]],
            "plateau": "not reached",
            "parameters": 1234567,
            "inference_ms": 12.0,
            "inference_of": "512 x 512",
            "reduced": {},
            "scores": {on: dict.fromkeys(("pearson", "ssim", "psnr", "nmse"), one)},
            "hardware": {"cpu": f"processor of {scale}", "cores": 2, "device": "cpu"},
            "versions": {"livestain": "0.1.0"},
            "when": "2026-11-28T10:00:00+00:00",
            "commit": "0123456789ab",
            "command": "python benchmarks/papers.py run --runs RUNS",
            **more,
        }
        file = tmp_path / "papers" / scale / study / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(cell), encoding="utf-8")
        return file

    return write


def page_of(study, folder):
    study.tables.write_study(folder / "papers", folder / "docs")
    return (folder / "docs" / "study.md").read_text(encoding="utf-8")


def row_of(page, begin):
    """The cells of the row that begins so; the only one."""
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {begin}"))
    return [cell.strip() for cell in row.strip("|").split(" | ")]


@pytest.mark.parametrize(
    ("orders", "word"),
    [
        (["high > low"], "same"),
        (["low > high"], "different"),
        (["high > near"], "not told apart"),
        (["high > near > low"], "not told apart"),
        (["low > near > high"], "different"),
        (["high > low", "low > high"], "different"),
        (["high > nothing"], "not run"),
        (["high > low", "high > nothing"], "not run"),
        (["low > high", "high > nothing"], "different"),
        (["high = near within 0.2"], "same"),
        (["high = near within 0.03"], "not told apart"),
        (["high = low within 0.03"], "different"),
        (["high above 0.5", "low below 0.5"], "same"),
        (["high below 0.5"], "different"),
        (["high below 0.81"], "not told apart"),
        (["high above its control"], "same"),
        (["low above its control"], "different"),
        ([], "no order"),
    ],
)
def test_an_order_is_the_same_only_where_intervals_are_apart(study, orders, word):
    numbers = {
        "high": study.finished.Estimate(0.8, 0.77, 0.83, control=0.5),
        "near": study.finished.Estimate(0.78, 0.75, 0.81, control=0.5),
        "low": study.finished.Estimate(0.3, 0.27, 0.33, control=0.5),
        "nothing": None,
    }
    assert study.claims.judge(orders, numbers).word == word


def test_a_verdict_tells_its_comparisons(study):
    of = study.finished.Estimate
    numbers = {"a": of(3.0, 2.9, 3.1), "b": of(2.95, 2.8, 3.0), "c": of(1.0, 0.9, 1.1), "d": None}
    assert (
        study.claims.judge(["a > b > c"], numbers).text
        == "not told apart (2 same, 1 not told apart)"
    )
    assert study.claims.judge(["a > c > d"], numbers).text == "not run (1 same, 2 not run)"


def test_every_claim_is_answered_by_cells_of_the_plan(study):
    looks = {}
    for cell in study.plan.cells("cpu"):
        looks.setdefault((cell.study, cell.recipe), {look.label for look in cell.looks})
    claims = study.claims.read_claims(study.tables.CLAIMS)
    assert {claim.paper for claim in claims} == set(study.claims.PAPERS)
    for claim in claims:
        for value in claim.values:
            where, recipe, metric, scored, _ = claim.asked(value)
            assert (where, recipe) in looks, claim.id
            if metric in ("pearson", "ssim", "psnr", "nmse"):
                assert scored in looks[where, recipe], claim.id


def test_the_papers_own_numbers_have_the_orders_that_are_claimed(study):
    judged = 0
    for claim in study.claims.read_claims(study.tables.CLAIMS):
        theirs = {
            value.label: None
            if value.theirs is None
            else study.finished.Estimate(float(value.theirs))
            for value in claim.values
        }
        if claim.orders and None not in theirs.values():
            assert study.claims.judge(claim.orders, theirs).word == "same", claim.id
            judged += 1
    assert judged > 15


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"orders": ["a > c"]}, r"names 'c', which no value is called; there are: a, b"),
        ({"orders": ["a beats b"]}, r"'a beats b' is none; expected 'a > b'"),
        ({"values": [{"label": "a"}]}, r"has a recipe that answers, or says in `not_run` why not"),
        ({"metric": "dice"}, r"there is no metric 'dice'"),
        ({"id": "hsu-x"}, r"the id begins with the paper: somani-"),
        ({"wheer": "x"}, r"unknown key 'wheer'; did you mean 'where'\?"),
    ],
)
def test_a_claim_that_cannot_be_used_is_refused(study, tmp_path, change, says):
    claim = {
        "id": "somani-x",
        "paper": "somani",
        "claim": "a beats b",
        "where": "Fig. 9",
        "values": [{"label": "a", "recipe": "tn-mse"}, {"label": "b", "recipe": "l1-mse"}],
    }
    file = tmp_path / "claims.yaml"
    file.write_text(json.dumps([claim | change]), encoding="utf-8")
    with pytest.raises(SettingsError, match=says):
        study.claims.read_claims(file)
    file.write_text(json.dumps([claim, claim]), encoding="utf-8")
    with pytest.raises(SettingsError, match="two claims are called somani-x"):
        study.claims.read_claims(file)


def test_the_mean_over_movies_has_half_widths_in_quadrature(study, write, tmp_path):
    for fold, score in {"009": 0.5, "010": 0.6, "011": 0.7}.items():
        write("real", "slim-4", score, fold=fold)
    (finished,) = study.finished.read_finished(tmp_path / "papers")
    found = finished.estimate("real", "slim-4", "pearson")
    assert found.value == pytest.approx(0.6)
    half = (3 * 0.02**2) ** 0.5 / 3
    assert found.ends == pytest.approx((0.6 - half, 0.6 + half))
    assert (found.control, found.folds) == (pytest.approx(0.4), ("009", "010", "011"))


def test_counted_objects_have_the_interval_of_a_count(study, write, tmp_path):
    counted = {"objects_a_field": 0.5, "missed_a_field": 0.0, "unspecific": 0.2, "fields": 24}
    write("koelln", "l2l", on="truth", invented=counted)
    (finished,) = study.finished.read_finished(tmp_path / "papers")
    # Twelve objects: 6.20 to 20.96; none: 0 to 3.69 (Garwood 1936, tables).
    twelve = finished.estimate("koelln", "l2l", "objects_a_field").ends
    assert twelve == pytest.approx((6.20 / 24, 20.96 / 24), abs=1e-3)
    none = finished.estimate("koelln", "l2l", "missed_a_field").ends
    assert none == pytest.approx((0.0, 3.689 / 24), abs=1e-4)
    assert finished.estimate("koelln", "l2l", "unspecific").low is None


def test_the_page_of_nothing_and_of_little(study, write, tmp_path):
    assert "there are no result files" in page_of(study, tmp_path)
    write("hsu", "unet-z", 0.7, on="z")
    write("real", "slim-4", fold="009")
    page = page_of(study, tmp_path)
    row = row_of(page, "On z-stacks U-Net is better than GVTNet")
    assert row[2] == "U-Net: 0.700 (0.680 to 0.720)<br>GVTNet: not run"
    assert row[3] == "not run"
    assert row_of(page, "`slim-4`<br>")[1:5] == [
        "0.500 (0.480 to 0.520)",
        "not run",
        "not run",
        "1 of 3 movies",
    ]
    assert re.search(r"cells finished \| 2 of \d+ \|", page)
    assert "There is no chart: benchmarks/results/pareto.json" in page
    assert not list((tmp_path / "docs").rglob("*.svg"))


def test_the_orders_of_the_page(study, write, tmp_path):
    write("hsu", "unet-z", 0.7, on="z")
    write("hsu", "gvtnet-z", 0.6, on="z")
    write("hsu", "unet-t", 0.7, on="t")
    write("hsu", "gvtnet-t", 0.6, on="t")
    write("hsu", "unet-z-patch32", 0.69, on="z")
    page = page_of(study, tmp_path)
    assert row_of(page, "On z-stacks U-Net is better than GVTNet")[1:4] == [
        "U-Net: 0.7312<br>GVTNet: 0.5226",
        "U-Net: 0.700 (0.680 to 0.720)<br>GVTNet: 0.600 (0.580 to 0.620)",
        "same",
    ]
    other = row_of(page, "On time series GVTNet is better than U-Net")
    assert other[3] == "**different**"
    assert other[4] == "Not explained yet."
    assert row_of(page, "Larger patches are better")[1:4:2] == [
        "64 pixels > 32 pixels",
        "not told apart",
    ]


def test_a_difference_is_explained_where_it_is_one(study, write, tmp_path):
    said = {"cpu": {"why": "Too few steps.", "tried": "Twice as many."}}
    claim = {
        "id": "hsu-x",
        "paper": "hsu",
        "claim": "GVTNet is better",
        "where": "Table 2",
        "scored": "t",
        "values": [
            {"label": "U-Net", "recipe": "unet-t"},
            {"label": "GVTNet", "recipe": "gvtnet-t"},
        ],
        "orders": ["GVTNet > U-Net"],
    }
    plain, explained = (
        study.claims.Claim.parse(one, where="a test") for one in (claim, claim | {"differs": said})
    )
    why = "Why: Too few steps. Tried: Twice as many."
    for scores, words in {(0.7, 0.6): ("**different**", why), (0.6, 0.7): ("same", "-")}.items():
        for recipe, score in zip(("unet-t", "gvtnet-t"), scores, strict=True):
            write("hsu", recipe, score, on="t")
        (finished,) = study.finished.read_finished(tmp_path / "papers")
        text = study.tables.claims_table(finished, [explained])
        assert (*row_of(text, "GVTNet is better")[3:],) == words
        missing = ["hsu-x"] if words[0] != "same" else []
        assert study.tables.unexplained(finished, [plain]) == missing
        assert study.tables.unexplained(finished, [explained]) == []


def test_scales_are_told_apart_and_never_mixed(study, write, tmp_path):
    write("hsu", "unet-z", 0.7, on="z", scale="cpu")
    write("hsu", "gvtnet-z", 0.6, on="z", scale="cuda")
    page = page_of(study, tmp_path)
    first, second = page.index("## Scale cuda: processor of cuda"), page.index("## Scale cpu: ")
    assert first < second
    claim = "On z-stacks U-Net is better than GVTNet"
    for part, ours in (
        (page[first:second], "U-Net: not run<br>GVTNet: 0.600 (0.580 to 0.620)"),
        (page[second:], "U-Net: 0.700 (0.680 to 0.720)<br>GVTNet: not run"),
    ):
        assert row_of(part, claim)[2:4] == [ours, "not run"]


def test_what_we_had_set_ourselves(study, write, tmp_path):
    for fold in study.plan.MOVIES:
        write("real", "student", 0.60, fold=fold)
        write("real", "teacher", 0.50, fold=fold)
        write("real", "fnet2d", 0.59, fold=fold)
        write("real", "slim-4", 0.65, fold=fold)
    write_times(tmp_path, {"slim-4": 50.0, "fnet2d": 600.0, "unet16": 100.0})
    page = page_of(study, tmp_path)
    student = row_of(page, "the student's mean Pearson")
    assert student[1].endswith("the best of theirs, `fnet2d`, 0.590 (0.578 to 0.602)")
    assert student[2] == "yes, but the intervals overlap"
    assert row_of(page, "the teacher's mean Pearson")[2] == "no"
    time = row_of(page, "the student takes a tenth")
    assert time[1].startswith("1/12.0 at 512 x 512 (50 and 600 ms)")
    assert time[2] == "yes"


def test_the_same_files_give_the_same_page(study, write, tmp_path):
    for fold in study.plan.MOVIES:
        write("real", "slim-4", fold=fold)
    write_times(tmp_path, {"slim-4": 50.0})
    first = page_of(study, tmp_path)
    chart = (tmp_path / "docs" / "images" / "study-pareto.svg").read_bytes()
    assert "(images/study-pareto.svg)" in first
    assert page_of(study, tmp_path) == first
    assert (tmp_path / "docs" / "images" / "study-pareto.svg").read_bytes() == chart


def test_a_file_that_is_no_result_is_refused(study, write, tmp_path):
    file = write("hsu", "unet-z", on="z")
    cell = json.loads(file.read_text(encoding="utf-8"))
    file.with_name("other.json").write_text(json.dumps(cell), encoding="utf-8")
    with pytest.raises(DataError, match=r"holds the cell cpu/hsu/unet-z; expected the one"):
        page_of(study, tmp_path)
    file.with_name("other.json").unlink()
    file.write_text(json.dumps(cell | {"steps": "many"}), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"is not the result of a cell: 'steps'.*run its cell again"
    ):
        page_of(study, tmp_path)


@pytest.mark.parametrize("n", [1, 4, 15])
def test_labels_of_the_chart_lie_apart_and_off_the_points(study, n):
    """Also of networks that are equally fast, and nearly equally good."""
    points = [
        study.chart.ChartPoint(
            f"recipe-{i}", size, ms, value, value - 0.02, value + 0.02, i % 2 == 0
        )
        for i in range(n)
        for size in (512, 1024)
        for ms, value in [((30.0, 130.0, 560.0)[i % 3] * (size / 512) ** 2, 0.5 + 0.01 * i)]
    ]
    svg = ElementTree.fromstring(study.chart.pareto_chart(points, control=0.44))
    assert svg.get("role") == "img"
    assert "recipe-0: 0.500, 120 ms" in svg.get("aria-label")
    ground = svg.find(f"{SVG}rect")
    assert (ground.get("fill"), ground.get("width")) == ("#ffffff", svg.get("width"))
    boxes = []
    for text in svg.iter(f"{SVG}text"):
        if text.text.startswith("recipe-"):
            left, bottom = float(text.get("x")), float(text.get("y"))
            boxes.append((left, bottom - 9, left + float(text.get("textLength")), bottom + 2))
    assert len(boxes) == 2 * n
    for a, b in itertools.combinations(boxes, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (a, b)
    for dot in svg.iter(f"{SVG}circle"):
        x, y = float(dot.get("cx")), float(dot.get("cy"))
        for left, top, right, bottom in boxes:
            assert not (left < x < right and top < y < bottom)


def test_the_front_is_what_none_is_faster_and_better_than(study):
    made = {"slow, best": (9, 0.7), "fast": (1, 0.5), "between": (5, 0.6), "beaten": (6, 0.55)}
    points = [
        study.chart.ChartPoint(name, 512, ms, value, value, value, own=False)
        for name, (ms, value) in made.items()
    ]
    assert [p.name for p in study.chart.front(points)] == ["fast", "between", "slow, best"]


def test_the_committed_page_is_that_of_the_committed_files(study, tmp_path):
    if not (DOCS / "study.md").exists():
        pytest.skip("there is no docs/study.md yet")
    (tmp_path / "images").mkdir()
    picture = study.tables.PICTURE
    if (DOCS / picture).exists():
        (tmp_path / picture).touch()
    study.tables.write_study(BENCHMARKS / "results" / "papers", tmp_path)
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.stat().st_size]
    for name in written:
        if (tmp_path / name).is_file():
            ours, theirs = (tmp_path / name).read_text("utf-8"), (DOCS / name).read_text("utf-8")
            assert ours == theirs, f"docs/{name}: python benchmarks/papers.py report"


def write_times(folder, ms):
    table = [
        {"network": name, "backend": backend, "size": size, "ms": one * factor * (size / 512) ** 2}
        for name, one in ms.items()
        for backend, factor in (("eager", 1.5), ("folded", 1.0))
        for size in (512, 1024)
    ]
    told = {
        "hardware": {"cpu": "a processor", "cores": 2, "device": "cpu"},
        "latency": {"threads": 2, "table": table},
    }
    (folder / "pareto.json").write_text(json.dumps(told), encoding="utf-8")

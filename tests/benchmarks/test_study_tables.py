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
KINDS = ("ours", "the papers'", "after the papers")


@pytest.fixture
def study(monkeypatch):
    """The modules of benchmarks/study."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = (
        "cell",
        "chart",
        "claims",
        "claims_table",
        "estimate",
        "finished",
        "judging",
        "plan",
        "tables",
        "times",
    )
    return SimpleNamespace(**{name: importlib.import_module(f"study.{name}") for name in names})


@pytest.fixture
def write(tmp_path):
    """Write the result of a cell, of a made-up score; its interval reaches `half` up and down."""

    def write(
        study, recipe, score=0.5, *, fold=None, scale="cpu", on="held-out", half=0.02, **more
    ):
        name = recipe if fold is None else f"{recipe}-not-{fold}"
        interval = None if half is None else [score - half, score + half]
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
        (["low not above high + 0.03"], "same"),
        (["high not above near + 0.2"], "same"),
        (["high not above near + 0.03"], "not told apart"),
        (["high not above low + 0.03"], "different"),
        (["high not above nothing + 0.03"], "not run"),
        (["high above 0.5", "low below 0.5"], "same"),
        (["high below 0.5"], "different"),
        (["high below 0.81"], "not told apart"),
        (["high above its control"], "same"),
        (["low above its control"], "different"),
        (["few > low"], "not told apart"),
        (["few = high within 0.9"], "not told apart"),
        (["few not above high + 0.9"], "not told apart"),
        (["few above its control"], "not told apart"),
        ([], "no order"),
    ],
)
def test_an_order_is_the_same_only_where_intervals_are_apart(study, orders, word):
    numbers = {
        "high": study.estimate.Estimate(0.8, 0.77, 0.83, control=0.5),
        "near": study.estimate.Estimate(0.78, 0.75, 0.81, control=0.5),
        "low": study.estimate.Estimate(0.3, 0.27, 0.33, control=0.5),
        "few": study.estimate.Estimate(0.9, control=0.5),  # dishes: no interval
        "nothing": None,
    }
    assert study.judging.judge(orders, numbers).word == word


def test_a_verdict_tells_its_comparisons(study):
    of = study.estimate.Estimate
    numbers = {"a": of(3.0, 2.9, 3.1), "b": of(2.95, 2.8, 3.0), "c": of(1.0, 0.9, 1.1), "d": None}
    assert (
        study.judging.judge(["a > b > c"], numbers).text
        == "not told apart (2 same, 1 not told apart)"
    )
    assert study.judging.judge(["a > c > d"], numbers).text == "not run (1 same, 2 not run)"


def test_every_claim_is_answered_by_cells_of_the_plan(study):
    scored_on = {}
    for cell in (*study.plan.cells("cpu"), *study.plan.cells("cuda")):
        labels = {scoring.label for scoring in cell.scorings}
        scored_on.setdefault((cell.study, cell.recipe), labels)
    claims = study.claims.read_claims(study.tables.CLAIMS)
    assert {claim.paper for claim in claims} == set(study.claims.PAPERS)
    for claim in claims:
        for value in claim.values:
            where, recipe, metric, scored, _ = claim.asked(value)
            if recipe is None:
                continue
            assert (where, recipe) in scored_on, claim.id
            if metric in ("pearson", "ssim", "psnr", "nmse"):
                assert scored in scored_on[where, recipe], claim.id


def test_cells_that_are_compared_have_equal_time(study):
    """And, of each kind of data, equal numbers of sets; the rows that vary these say so."""
    varied = {"hsu-sets-rise", "hsu-sets-flat", "somani-more-data", "ounkomol-more-data"}
    for scale in ("cpu", "cuda"):
        known = {(cell.study, cell.recipe): cell for cell in study.plan.cells(scale)}
        most, some = study.cell.SCALES[scale].data.most, study.cell.SCALES[scale].data.some
        for claim in study.claims.read_claims(study.tables.CLAIMS):
            compared = [
                cell
                for value in claim.compared()
                if (cell := known.get((value.study or claim.paper, value.recipe)))
            ]
            assert len({cell.seconds(scale) for cell in compared}) <= 1, claim.id
            sets = {cell.sets or (most if "z" in cell.data else some) for cell in compared}
            if claim.id not in varied | {"hsu-deeper"} and claim.paper in ("hsu", "ounkomol"):
                assert len(sets) <= 1, claim.id


def test_the_papers_own_numbers_have_the_orders_that_are_claimed(study):
    judged = 0
    for claim in study.claims.read_claims(study.tables.CLAIMS):
        theirs = {
            value.label: None
            if value.theirs is None
            else study.estimate.Estimate.exact(float(value.theirs))
            for value in claim.values
        }
        if claim.orders and None not in theirs.values():
            assert study.judging.judge(claim.orders, theirs).word == "same", claim.id
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


FILTERS = {
    "objects_a_field_of_the_input": 4.2,
    "true_objects_a_field": 31.5,
    "pearson_of_the_input": 0.7,
    "ssim_of_the_input": 0.5,
    "fields": 24,
}


def counted(unspecific, half=0.05, **more):
    return FILTERS | {
        "objects_a_field": 0.5,
        "missed_a_field": 0.1,
        "unspecific": unspecific,
        "intervals": {
            "unspecific": [unspecific - half, unspecific + half],
            "objects_a_field": [-0.2, 1.2],
            "missed_a_field": None,
        },
        **more,
    }


def test_what_a_filter_leaves_is_judged_by_its_magnitude_and_against_the_input(
    study, write, tmp_path
):
    write("koelln", "l2l", 0.75, on="truth", invented=counted(-0.4))
    write("koelln", "n2n", 0.60, on="truth", invented=counted(0.2))
    page = page_of(study, tmp_path)
    kept = row_of(page, "After noise2noise, what both takes show")
    assert kept[2] == (
        "noise2noise: 0.200 (0.150 to 0.250)"
        "<br>label2label: -0.400 (-0.450 to -0.350), over-corrected"
    )
    assert kept[3].startswith("**different**")
    clean = row_of(page, "No clean data is needed")
    assert clean[2] == "label2label: 0.750 (0.730 to 0.770), the input itself 0.700"
    assert clean[3].startswith("same")
    assert row_of(page, "label2label, absolute error")[3:5] == ["0.50 (0.00 to 1.20)", "0.10"]
    assert row_of(page, "the input itself")[1:] == ["0.700", "0.500", "4.20", "-", "1.000"]


@pytest.mark.parametrize(
    ("ends", "magnitude"),
    [((0.1, 0.3), (0.1, 0.3)), ((-0.3, -0.1), (0.1, 0.3)), ((-0.3, 0.1), (0.0, 0.3))],
)
def test_the_interval_of_a_magnitude(study, ends, magnitude):
    value = sum(ends) / 2
    found = study.estimate.Estimate(value, *ends).magnitude()
    assert found.value == pytest.approx(abs(value))
    assert found.ends == pytest.approx(magnitude)


def test_a_score_of_two_dishes_has_no_interval_and_tells_nothing_apart(study, write, tmp_path):
    write("ounkomol", "fnet-mitochondria", 0.9, on="zt", half=None)
    row = row_of(page_of(study, tmp_path), "Models of single stacks predict each stack")
    assert row[2] == "stacks in time: 0.900, control 0.400"
    assert row[3] == "not told apart (not at plateau)"


def test_the_page_of_nothing_and_of_little(study, write, tmp_path):
    assert "there are no result files" in page_of(study, tmp_path)
    write("hsu", "unet-z", 0.7, on="z")
    write("real", "slim-4", fold="009")
    page = page_of(study, tmp_path)
    row = row_of(page, "On z-stacks U-Net is better than GVTNet")
    assert row[2] == "U-Net: 0.700 (0.680 to 0.720)<br>GVTNet: not run"
    assert row[3] == "not run"
    assert row_of(page, "`slim-4`<br>")[1:6] == [
        "ours",
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
    write("hsu", "unet-z-46", 0.7, on="z")
    write("hsu", "unet-z-patch96", 0.69, on="z")
    page = page_of(study, tmp_path)
    assert row_of(page, "On z-stacks U-Net is better than GVTNet")[1:4] == [
        "U-Net: 0.7312<br>GVTNet: 0.5226",
        "U-Net: 0.700 (0.680 to 0.720)<br>GVTNet: 0.600 (0.580 to 0.620)",
        "same (not at plateau)",
    ]
    other = row_of(page, "On time series GVTNet is better than U-Net")
    assert other[3] == "**different** (not at plateau)"
    assert other[4] == "Not explained yet."
    assert row_of(page, "The larger the patches, the better")[1:4:2] == [
        "96 pixels > 64 pixels",
        "not told apart (not at plateau)",
    ]


def test_what_is_recalibrated_stands_beside_what_was_trained(study, write, tmp_path):
    claim = "On z-stacks U-Net is better than GVTNet"
    write("hsu", "unet-z", 0.7, on="z")
    write("hsu", "gvtnet-z", 0.6, on="z")
    recalibrated(tmp_path, "hsu", "gvtnet-z", 0.8, on="z")
    page = page_of(study, tmp_path)
    # The other cell of the order was not tried: no verdict is made of one of each kind.
    assert row_of(page, claim)[3] == "same (not at plateau)"
    recalibrated(tmp_path, "hsu", "unet-z", 0.71, on="z")
    page = page_of(study, tmp_path)
    assert row_of(page, claim)[2:4] == [
        (
            "U-Net: 0.700 (0.680 to 0.720), recalibrated 0.710<br>"
            "GVTNet: 0.600 (0.580 to 0.620), recalibrated 0.800"
        ),
        "same (not at plateau)<br>recalibrated: **different**",
    ]
    assert row_of(page, claim)[4] == "Not explained yet."
    assert row_of(page, "GVTNet, z-stacks")[-2] == "0.800 (0.780 to 0.820)"
    assert row_of(page, "cpu | Hsu et al. 2021 |")[2] == "2 (0)"
    assert row_of(page, "cpu | Hsu et al. 2021, recalibrated")[2:5] == ["0", "0", "2 (0)"]


def test_a_network_without_batch_normalisation_is_the_same_when_others_are_recalibrated(
    study, write, tmp_path
):
    for fold in study.cell.MOVIES:
        write("real", "fnet2d", 0.1, fold=fold)
        write("real", "care2d", 0.2, fold=fold)
        recalibrated(tmp_path, "real", "fnet2d", 0.5, fold=fold)
        recalibrated(tmp_path, "real", "care2d", None, fold=fold)
    page = page_of(study, tmp_path)
    part = page.partition("The same models with the statistics")[2].partition("What was trained")[0]
    assert row_of(part, "`fnet2d`")[4:] == ["0.100", "**0.500 (0.488 to 0.512)**", "+0.400"]
    assert "care2d" not in part
    (finished,) = study.finished.read_finished(tmp_path / "papers")
    assert finished.recalibrated.estimate("real", "care2d", "pearson").value == pytest.approx(0.2)


def test_an_order_that_was_batch_normalisations_says_so(study, write, tmp_path):
    write("hsu", "unet-z", 0.5, on="z")
    write("hsu", "gvtnet-z", 0.6, on="z")
    for name, score in (("unet-z", 0.8), ("gvtnet-z", 0.7)):
        recalibrated(tmp_path, "hsu", name, score, on="z")
    row = row_of(page_of(study, tmp_path), "On z-stacks U-Net is better than GVTNet")
    assert row[3] == "**different** (not at plateau)<br>recalibrated: same"
    assert row[4].startswith("It was the statistics of batch normalisation")
    (finished,) = study.finished.read_finished(tmp_path / "papers")
    claims = study.claims.read_claims(study.tables.CLAIMS)
    assert "hsu-networks-z" not in study.claims_table.unexplained(finished, claims)


def test_no_mean_is_of_some_recalibrated_movies_alone(study, write, tmp_path):
    for fold in study.cell.MOVIES:
        write("real", "gvtnet2d", 0.4, fold=fold)
        write("real", "student", 0.6, fold=fold)
    recalibrated(tmp_path, "real", "gvtnet2d", 0.7, fold="009")
    (finished,) = study.finished.read_finished(tmp_path / "papers")
    assert finished.recalibrated.of("real") == ()
    for fold in study.cell.MOVIES:
        recalibrated(tmp_path, "real", "gvtnet2d", 0.7, fold=fold)
    page = page_of(study, tmp_path)
    assert "`gvtnet2d, recalibrated`, 0.700" in row_of(page, "the student itself")[1]
    assert row_of(page, "the student itself")[2] == "no; not at equal time"
    answer = " ".join(page.partition("## The answer")[2].partition("##")[0].split())
    assert "whatever its time, is `gvtnet2d, recalibrated` with 0.700 (0.688 to 0.712)" in answer
    assert "So the student, which is below `gvtnet2d, recalibrated`, is the default" in answer


def test_recalibrated_scores_of_another_training_are_refused(study, write, tmp_path):
    write("hsu", "unet-z", 0.7, on="z")
    file = recalibrated(tmp_path, "hsu", "unet-z", 0.8, on="z")
    write("hsu", "unet-z", 0.6, on="z")
    with pytest.raises(DataError, match="not of the training whose result is cpu/hsu/unet-z"):
        study.finished.read_finished(tmp_path / "papers")
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"make it again by `papers\.py recalibrate`"):
        study.finished.read_finished(tmp_path / "papers")


def recalibrated(folder, study, recipe, score, *, fold=None, on="held-out"):
    """Write a cell's other result; of a network without batch normalisation, where the score is None."""
    name = recipe if fold is None else f"{recipe}-not-{fold}"
    trained = json.loads((folder / "papers" / "cpu" / study / f"{name}.json").read_text("utf-8"))
    as_trained = {on: trained["scores"][on]["pearson"]["mean"]} if score else {}
    one = {"mean": score, "interval": [score - 0.02, score + 0.02], "control": 0.4} if score else {}
    scores = {on: dict.fromkeys(("pearson", "ssim"), one)} if score else {}
    file = folder / "papers" / "cpu" / "recalibrated" / study / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "cell": name,
        "study": study,
        "scale": "cpu",
        "as_trained": as_trained,
        "scores": scores,
    }
    file.write_text(json.dumps(told), encoding="utf-8")
    return file


def test_a_verdict_says_whether_its_trainings_had_arrived(study, write, tmp_path):
    claim = "On z-stacks U-Net is better than GVTNet"
    for states, words, short in (
        (("reached", "reached"), "same", "2 (2)"),
        (("reached", "schedule ended"), "same (plateau not known)", "2 (0)"),
        (("not looked at", "reached"), "same (plateau not known)", "2 (0)"),
        (("not reached", "schedule ended"), "same (not at plateau)", "2 (0)"),
    ):
        for recipe, score, state in zip(("unet-z", "gvtnet-z"), (0.7, 0.6), states, strict=True):
            write("hsu", recipe, score, on="z", plateau=state, looks=[[50, 0.4], [100, 0.23]])
        page = page_of(study, tmp_path)
        assert row_of(page, claim)[3] == words
        assert row_of(page, "cpu | Hsu et al. 2021")[2] == short
        assert ("Pearson falls by up to 0.17" in page) == ("not reached" in states)


def test_a_claim_that_repeats_another_is_not_counted_again(study, write, tmp_path):
    for recipe, score in (("tn-mse", 0.7), ("tn-mse-b16", 0.6), ("l1-mse", 0.5)):
        write("somani", recipe, score, fold="009")
    page = page_of(study, tmp_path)
    assert row_of(page, "The TN-weighted L1 beats the plain L1 by 0.07")[3].startswith("same")
    (finished,) = study.finished.read_finished(tmp_path / "papers")
    claims = study.claims.read_claims(study.tables.CLAIMS)
    same = [
        claim.id
        for claim in claims
        if claim.paper == "somani" and study.claims.verdict(claim, finished).word == "same"
    ]
    assert "somani-ssim" in same
    assert row_of(page, "cpu | Somani et al. 2021")[2] == f"{len(same) - 1} (0)"


def test_what_differs_from_the_papers_recipes_stands_above_the_table(study, write, tmp_path):
    dna = {"targets": [{"channel": "DNA", "output": {"name": "dna"}}]}
    small = {"batch_size": 2}
    write("hsu", "unet-z", on="z", reduced=small)
    write("hsu", "unet-dna", on="dna z", changes=dna, reduced=small)
    page = page_of(study, tmp_path)
    assert "in the paper's recipe: `targets` DNA (unet-dna)." in page
    assert "than in the paper's recipe: `batch_size` 2 (all)." in page
    assert row_of(page, "hsu | `unet-dna`")[-3:-1] == ["`targets` DNA", "`batch_size` 2"]


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
    different = ("**different** (not at plateau)", why)
    same = ("same (not at plateau)", "-")
    for scores, words in {(0.7, 0.6): different, (0.6, 0.7): same}.items():
        for recipe, score in zip(("unet-t", "gvtnet-t"), scores, strict=True):
            write("hsu", recipe, score, on="t")
        (finished,) = study.finished.read_finished(tmp_path / "papers")
        text = study.claims_table.claims_table(finished, [explained])
        assert (*row_of(text, "GVTNet is better")[3:],) == words
        missing = ["hsu-x"] if words is different else []
        assert study.claims_table.unexplained(finished, [plain]) == missing
        assert study.claims_table.unexplained(finished, [explained]) == []


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
    owing = {"budget_seconds": None, "wall_seconds": 700.0, "owed_seconds": 1800.0}
    for fold in study.cell.MOVIES:
        write("real", "student", 0.60, fold=fold, **owing)
        write("real", "teacher", 0.50, fold=fold, **owing)
        write("real", "fnet2d", 0.39, fold=fold, steps=30, batch_size=24)
        write("real", "fnet2d-b4", 0.59, fold=fold)
        write("real", "slim-4", 0.65, fold=fold)
    write_times(tmp_path, {"slim-4": 50.0, "fnet2d": 600.0, "unet16": 100.0})
    page = page_of(study, tmp_path)
    equal = row_of(page, "our network at equal time (`slim-4`")
    assert equal[1].endswith(
        "the best of theirs and after them, `fnet2d-b4`, 0.590 (0.578 to 0.602)"
    )
    assert equal[2] == "yes"
    student = row_of(page, "the student itself")
    assert student[1].endswith(
        "; trained for 700 s, and owes 1,800 s; theirs for a budget of 300 s"
    )
    assert student[2] == "yes, and on each movie, but the intervals overlap; not at equal time"
    assert row_of(page, "the teacher is above")[2] == "no; not at equal time"
    answer = " ".join(page.partition("## The answer")[2].partition("##")[0].split())
    assert (
        "(300 s of one core), our student's network, from random weights, has 0.650 (0.638 to 0.662)"
        in answer
    )
    assert "`fnet2d-b4`, 0.590 (0.578 to 0.602)." in answer
    assert "0.600 (0.588 to 0.612) (trained for 700 s, after 1,800 s for what it needs)." in answer
    assert (
        "So the student, which is above `fnet2d-b4` on each movie, though the intervals of the means "
        "overlap, and takes 50 ms a plane of 512 x 512 where that takes 600 ms, is the default"
    ) in answer
    time = row_of(page, "the student takes a tenth")
    assert time[1].startswith("1/12.0 at 512 x 512 (50 and 600 ms)")
    assert time[2] == "yes"
    assert row_of(page, "`fnet2d-b4`<br>")[1] == "after the papers"
    words = " ".join(page.split())
    below = "fnet-2D in 30 steps of batch 24 is below the control because the running"
    assert below not in words  # until it was tried what they cost
    for fold in study.cell.MOVIES:
        recalibrated(tmp_path, "real", "fnet2d", 0.5, fold=fold)
    assert below in " ".join(page_of(study, tmp_path).split())
    assert "the movie left out is not wholly unseen" in words

    for fold in study.cell.MOVIES:
        write("real", "slim-4", 0.65, fold=fold, budget_seconds=600.0)
        write("real", "fnet2d-b4", 0.61, fold=fold)
    page = page_of(study, tmp_path)
    assert "So the student, which is not told apart from `fnet2d-b4` and takes" in " ".join(
        page.split()
    )
    equal = row_of(page, "our network at equal time (`slim-4`")
    assert equal[1:] == ["no recipe of others was trained for the same time", "-"]


def test_at_equal_time_only_what_had_the_same_is_compared(study, write, tmp_path):
    for fold in study.cell.MOVIES:
        write("real", "student", 0.60, fold=fold, wall_seconds=700.0, owed_seconds=1800.0)
        write("real", "slim-4", 0.58, fold=fold)
        write("real", "fnet2d-b4", 0.50, fold=fold)
        write("real", "fnet2d-b4-long", 0.55, fold=fold, budget_seconds=900.0, wall_seconds=990.0)
    page = page_of(study, tmp_path)
    assert "`fnet2d-b4`, 0.500" in row_of(page, "our network at equal time (`slim-4`")[1]
    student = row_of(page, "the student itself")
    assert "`fnet2d-b4-long`, 0.550" in student[1]
    assert student[1].endswith("theirs for a budget of 900 s")
    assert student[2] == "yes; not at equal time"


def test_the_same_files_give_the_same_page(study, write, tmp_path):
    for fold in study.cell.MOVIES:
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
        DataError, match=r"is not the result of a cell: 'steps'.*make it again by `papers.py run`"
    ):
        page_of(study, tmp_path)


@pytest.mark.parametrize("n", [1, 4, 15])
def test_labels_of_the_chart_lie_apart_and_off_the_points(study, n):
    """Also of networks that are equally fast, and nearly equally good."""
    points = [
        study.chart.ChartPoint(
            f"recipe-{i}", size, ms, value, value - 0.02, value + 0.02, KINDS[i % 3]
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
        study.chart.ChartPoint(name, 512, ms, value, value, value, "ours")
        for name, (ms, value) in made.items()
    ]
    assert [p.name for p in study.chart.front(points)] == ["fast", "between", "slow, best"]


def test_the_committed_page_is_that_of_the_committed_files(study, tmp_path):
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
        # The scores are of float32: what computes in less is not to be drawn beside them.
        for backend, factor in (("eager", 1.5), ("folded", 1.0), ("openvino-bf16", 0.5))
        for size in (512, 1024)
    ]
    told = {
        "hardware": {"cpu": "a processor", "cores": 2, "device": "cpu"},
        "latency": {"threads": 2, "table": table},
    }
    (folder / "pareto.json").write_text(json.dumps(told), encoding="utf-8")

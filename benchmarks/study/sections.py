"""The tables of the four papers' sections, beside the table of claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.finished import Invented
from study.markdown import METRICS, estimate, number, paragraph, table
from study.score_table import Row, score_table

if TYPE_CHECKING:
    from study.claims import Claim
    from study.finished import Finished

__all__ = ["PICTURE", "SECTIONS"]

PICTURE = "images/study-merge.png"
"""Under docs: the merged prediction of two structures, shown where it is there."""


def _somani(finished: Finished, claims: dict[str, Claim]) -> str:
    return "\n".join(
        [
            paragraph(
                "Quantiles over the images of movie 009, as in their Fig. 4. Both losses weigh 100 "
                "beside the discriminator's (the paper does not say). The TN weights are below 1 "
                "in the mean, so that at one weight TN's term counts for less than L1's; in the "
                "row of weights of mean 1 they are divided by their mean."
            ),
            _quantiles(finished, claims),
            paragraph(
                "Mean SSIM by generator loss and discriminator loss, as in their Table 1. The "
                "paper does not say how Dice and Jaccard are formed of a discriminator's verdicts: "
                "that they are taken of the class that is true, so that fakes teach as well, is "
                "our reading (livestain.training.losses.adversarial)."
            ),
            _discriminators(finished, claims, "ssim"),
            paragraph("The same, ours by Pearson."),
            _discriminators(finished, claims, "pearson"),
            paragraph(
                "What a leaking split buys. The first model is trained on the crops of all three "
                "movies but for a random fifth, as the paper split its own, so that crops of one "
                "frame are on both sides; it is scored on the held-back crops of movie 009. The "
                "second, the same recipe, is trained on two movies and scored on all of 009. So "
                "the first also has a movie more to learn from."
            ),
            score_table(
                finished,
                "somani",
                [
                    Row("crops of 009 held back at random", "tn-mse-leaky", "leaky test"),
                    Row("009 left out", "tn-mse"),
                ],
                ("pearson", "ssim", "psnr"),
                head="tested on",
            ),
        ]
    )


def _quantiles(finished: Finished, claims: dict[str, Claim]) -> str:
    places = {"95 %": "q95", "75 %": "q75", "50 %": "median", "25 %": "q25"}
    setups = {
        "TN (1)": "tn-mse",
        "TN (1), weights of mean 1": "tn-mse-normalised",
        "TN (16)": "tn-mse-b16",
        "L1": "l1-mse",
        "L1 (16)": "l1-mse-b16",
    }
    rows = []
    for label, recipe in setups.items():
        theirs, ours = [label, "paper"], [label, "ours"]
        for metric in ("ssim", "psnr"):
            for place, statistic in places.items():
                claim = claims.get(f"somani-{metric}-q{place.removesuffix(' %')}")
                theirs.append("-" if claim is None else claim.printed(label))
                found = finished.estimate("somani", recipe, metric, statistic=statistic)
                ours.append(number(None if found is None else found.value, metric))
        pearson = finished.estimate("somani", recipe, "pearson")
        again = finished.recalibrated.estimate("somani", recipe, "pearson")
        rows += [[*theirs, "-", "-"]] if set(theirs[2:]) != {"-"} else []
        recalibrated = "-" if again is None else estimate(again, "pearson")
        rows.append([*ours, estimate(pearson, "pearson"), recalibrated])
    head = [f"{METRICS[metric].label} {place}" for metric in ("ssim", "psnr") for place in places]
    means = ["Pearson, mean", "Pearson, recalibrated"]
    return table(["loss (batch)", "", *head, *means], rows, numbers_from=2)


def _discriminators(finished: Finished, claims: dict[str, Claim], metric: str) -> str:
    kinds = {"MSE": "mse", "focal": "focal", "Jaccard": "jaccard", "Dice + BCE": "dice-bce"}
    rows = []
    for generator in ("tn", "l1"):
        claim = claims.get(f"somani-discriminator-{generator}")
        name = {"tn": "TN", "l1": "L1"}[generator]
        if metric == "ssim" and claim is not None:
            rows.append([name, "paper", *(claim.printed(label) for label in kinds)])
        found = (
            finished.estimate("somani", f"{generator}-{kind}", metric) for kind in kinds.values()
        )
        rows.append([name, "ours", *(estimate(one, metric) for one in found)])
    return table(["generator", "", *kinds], rows, numbers_from=2)


def _hsu(finished: Finished, claims: dict[str, Claim]) -> str:
    metrics = ("pearson", "pearson_plane", "ssim")

    def scores(title: str, head: str, *rows: tuple[str, str, str]) -> str:
        named = [Row(*row) for row in rows]
        return (
            paragraph(title)
            + "\n"
            + score_table(finished, "hsu", named, metrics, head=head, truth="pearson")
        )

    models = (("z", "unet-z"), ("t", "unet-t"), ("combined", "unet-both"))
    return "\n".join(
        [
            scores(
                "Networks, as in their Table 2. Equal numbers of sets, equal time.",
                "network and data",
                ("U-Net, z-stacks", "unet-z", "z"),
                ("GVTNet, z-stacks", "gvtnet-z", "z"),
                ("U-Net, time series", "unet-t", "t"),
                ("GVTNet, time series", "gvtnet-t", "t"),
            ),
            scores(
                "Models of one kind of data on the other, as in their Fig. 6. The combined model "
                "has as many sets of each kind as the two others have of theirs, and no more time.",
                "model, and what it is tested on",
                *(
                    (f"{name} model, on {on}", recipe, on)
                    for on in ("z", "t")
                    for name, recipe in models
                ),
            ),
            scores(
                "Number of training sets, as in their Fig. 4a. From here on trainings are shorter "
                "than those above: compare within a table only.",
                "training sets",
                *((str(n), f"unet-z-{n}", "z") for n in (2, 6, 12, 24, 46)),
                *((f"{n}, another seed", f"unet-z-{n}-again", "z") for n in (24, 46)),
            ),
            scores(
                "Patch size, as in their Fig. 4b.",
                "patches of",
                ("64 pixels", "unet-z-46", "z"),
                *((f"{n} pixels", f"unet-z-patch{n}", "z") for n in (32, 96, 128)),
            ),
            scores(
                "Pixels and point spread function, of z-stacks.",
                "varied",
                ("pixels of 0.1 um, point spread function of full width", "unet-z-12", "z"),
                ("pixels of 0.2 um", "unet-z-doubled", "z-doubled"),
                ("point spread function of 0.6 of the width", "unet-z-narrow", "z-narrow"),
            ),
            scores(
                "Intervals, of time series.",
                "trained, and tested",
                ("every 30 s, tested alike", "unet-t-30s", "t"),
                ("every 5 s, tested alike", "unet-t-short", "t-short"),
                ("every 5 s, tested on 30 s", "unet-t-short", "t"),
                ("every 300 s, tested alike", "unet-t-long", "t-long"),
                ("every 300 s, tested on 30 s", "unet-t-long", "t"),
            ),
            scores(
                "Two structures from one input.",
                "structure and network",
                ("mitochondria, a network of their own", "unet-z-46", "z"),
                ("mitochondria, one network for both", "dual", "z"),
                ("DNA, a network of its own", "unet-dna", "dna z"),
                ("DNA, one network for both", "dual", "dna z"),
            ),
        ]
    )


def _ounkomol(finished: Finished, claims: dict[str, Claim]) -> str:
    metrics = ("nmse", "pearson")
    parts = [
        paragraph(
            "Normalised mean squared error by structure, and of a time series by the model of "
            "single stacks. It is an error: 0 is right, 1 a blank image. The time series are of "
            "two of the dishes that the single stacks are of, and two are too few for an interval."
        ),
        score_table(
            finished,
            "ounkomol",
            [
                Row("mitochondria", "fnet-mitochondria", "z"),
                Row("DNA", "fnet-dna", "dna z"),
                Row("mitochondria, stacks of a time series", "fnet-mitochondria", "zt"),
            ],
            metrics,
            head="structure",
            truth="nmse",
        ),
    ]
    times = next(
        (c.by_time for c in finished.of("ounkomol", "fnet-mitochondria") if c.by_time), None
    )
    if times:
        points = sorted(times, key=int)
        row = ["normalised MSE", *(number(times[point], "nmse") for point in points)]
        parts += [
            paragraph("At each time point of the series (the first is 0):"),
            table(["", *points], [row]),
        ]
    parts += [
        paragraph(
            "Three dimensions against two: the same stacks, the second network plane by plane. "
            "(The paper of 2017 does not compare them.) Scores of planes, since the second network "
            "knows no stacks."
        ),
        score_table(
            finished,
            "ounkomol",
            [
                Row("fnet, 3-D", "fnet-mitochondria", "z"),
                Row("fnet-2D", "fnet2d-mitochondria", "z"),
            ],
            ("pearson_plane", "ssim"),
            head="network",
            truth="pearson_plane",
        ),
    ]
    return "\n".join(parts)


def _koelln(finished: Finished, claims: dict[str, Claim]) -> str:
    names = {
        "label2label, absolute error": "l2l",
        "label2label, MS-SSIM": "l2l-msssim",
        "noise2noise, absolute error": "n2n",
        "noise2noise, MS-SSIM": "n2n-msssim",
        "CycleGAN": "cyclegan",
    }
    metrics = ("pearson", "ssim", "objects_a_field", "missed_a_field", "unspecific")
    rows = []
    for label, recipe in names.items():
        found = (finished.estimate("koelln", recipe, name, on="truth") for name in metrics)
        rows.append(
            [label, *(estimate(one, name) for one, name in zip(found, metrics, strict=True))]
        )
    counted = next(
        (c.invented for c in finished.of("koelln") if c.invented is not None), Invented()
    )
    given = (number(counted.of_the_input(name), name) for name in metrics)
    rows.append(["the input itself", *given])
    text = [
        paragraph(
            "Against the structure itself, free of noise. Invented: objects of a prediction that "
            "touch no true one; missed: true ones that none touches. Unspecific: what is left of "
            "the signal beside the structure, as a share of the input's; below 0 more was taken "
            "away than was there. label2label and noise2noise differ in their labels alone; the "
            "control of all is the input itself."
        ),
        table(["method", *(METRICS[name].label for name in metrics)], rows),
    ]
    if counted.true_objects_a_field is not None:
        true = number(counted.true_objects_a_field, "objects_a_field")
        text.append(f"There are {true} true objects a field, in {counted.fields} fields.\n")
    return "\n".join(text)


SECTIONS = {"somani": _somani, "hsu": _hsu, "ounkomol": _ounkomol, "koelln": _koelln}
"""By paper: a function of the finished cells and of the claims by id, that returns the section's tables."""

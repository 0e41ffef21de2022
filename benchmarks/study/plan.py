"""What the study trains and scores: one `Cell` for each recipe, fold and data set.

The recipes are the papers'. Where a network is too large to be trained in the time that a processor has, the
scale "cpu" makes it narrower and its batches smaller; each such change stands in `Cell.reduced` and in the
result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from study.cell import MOVIES, REAL, SCALES, Cell, Scoring

__all__ = ["CELLS", "cells"]

PRETRAINING_SECONDS = {"teacher": 1065.0, "student": 309.0}
"""Wall time of what ours begin with (models/starts): of simulated cells; on two cores, and on one."""

LONG = 3.0
"""Share of the seconds with which a recipe of others has longer than the training of our student or teacher
took (on the CPUs of the scale "cpu", 816 s at most), what these owe not counted."""

CORE = 2.0
"""Share of the seconds that the comparison of networks gets, over those of one factor each."""


def cells(scale: str) -> list[Cell]:
    """Return the cells of a scale, those that matter most first."""
    reduces = SCALES[scale].reduces
    found = [*_real(reduces), *_koelln(), *_ounkomol(), *_hsu(reduces), *_somani()]
    return found if reduces else [replace(cell, reduced={}) for cell in found]


def _real(reduces: bool) -> list[Cell]:
    """Return every 2-D recipe on the real movies, for equal time; then our teacher and student.

    Where a training is short (`reduces`), the best of the others is trained for three times as long, too.
    """
    about = {
        "fnet2d": "Ounkomol: fnet-2D, batches of 24",
        "fnet2d-b4": "after Ounkomol: fnet-2D, batches of 4",
        "gvtnet2d": "after Hsu: GVTNet in 2-D",
        "pix2pix": "Somani: pix2pix with the TN-weighted L1",
        "care2d": "Koelln: CARE's U-Net, mean absolute error",
        "slim-4": "ours: slim network, random weights",
        "unet16": "ours: plain U-Net of 16 maps, random weights",
        "slim-2": "ours: slim network, unshuffle 2, random weights",
        "unext2": "of UNeXt2's kind, on single planes",
    }
    found = [
        Cell("real", name, text, f"pareto/{name}.yaml", (REAL,), (_held_out(movie),), fold=movie)
        for name, text in about.items()
        for movie in MOVIES
    ]
    for movie in MOVIES:
        teacher = Cell(
            "real",
            "teacher",
            "ours: the teacher, begun with simulated cells",
            "h9c2-omp25-best",
            (REAL,),
            (_held_out(movie), Scoring("held-out, 8 views", REAL, movie=movie, views=8)),
            changes={"start": "starts/h9c2-60x-unet"},
            fold=movie,
            steps=400,
            owed_seconds=PRETRAINING_SECONDS["teacher"],
        )
        student = Cell(
            "real",
            "student",
            "ours: the student, begun with simulated cells, taught by the teacher",
            "h9c2-omp25",
            (REAL,),
            (_held_out(movie),),
            fold=movie,
            steps=800,
            after=teacher.name,
            owed_seconds=PRETRAINING_SECONDS["student"],
        )
        found += [teacher, student]
    if reduces:
        found += [
            Cell(
                "real",
                "fnet2d-b4-long",
                "after Ounkomol: fnet-2D, batches of 4, for three times as long",
                "pareto/fnet2d-b4.yaml",
                (REAL,),
                (_held_out(movie),),
                fold=movie,
                share=LONG,
            )
            for movie in MOVIES
        ]
    return found


def _held_out(movie: str) -> Scoring:
    return Scoring("held-out", REAL, movie=movie)


def _on(*sets: str) -> tuple[Scoring, ...]:
    """Return the scorings on sets, as a camera sees them and against the truth."""
    return tuple(
        Scoring(f"{name}{' truth' if part == 'truth' else ''}", f"{name}/{part}")
        for name in sets
        for part in ("test", "truth")
    )


def _target(channel: str, name: str) -> dict[str, Any]:
    output = {"name": name, "unit": "sd", "scale": 0.001, "offset": -20.0, "display": [-0.5, 4.0]}
    return {"channel": channel, "normalisation": "plane", "output": output}


_DNA = {"targets": [_target("DNA", "dna")]}
_ON_DNA = (Scoring("dna z", "z/test", "dna"), Scoring("dna z truth", "z/truth", "dna"))


def _hsu(reduces: bool) -> list[Cell]:
    """Return U-Net and GVTNet on stacks and series, and what they depend on."""
    small = {"network.kwargs.width": 8, "batch_size": 2}
    z, t = "z-stacks", "time series"
    unet, gvtnet = "hsu2021-unet", "hsu2021-gvtnet"

    def cell(name: str, about: str, base: str, *data: str, **more: Any) -> Cell:
        scorings = more.pop("scorings", _on(data[0]))
        return Cell("hsu", name, about, base, data, scorings, reduced=small, **more)

    core: dict[str, Any] = {"scorings": _on("z", "t"), "sets": 12, "share": CORE}
    # Five halvings leave one voxel of 32: with small batches its normalisation has next to nothing to go by.
    patches = (96,) if reduces else (32, 96, 128)
    wide = {"pixel_size_um": 0.2, "pixel_size_range_um": [0.15, 0.25]}
    return [
        cell("unet-z", f"U-Net on {z}", unet, "z", **core),
        cell("gvtnet-z", f"GVTNet on {z}", gvtnet, "z", **core),
        cell("unet-t", f"U-Net on {t}", unet, "t", **core),
        cell("gvtnet-t", f"GVTNet on {t}", gvtnet, "t", **core),
        cell("unet-both", f"U-Net on {z} and {t} together", unet, "z", "t", **core),
        *(
            cell(f"unet-z-{n}", f"U-Net on {z}, {n} sets", unet, "z", sets=n)
            for n in (46, 12, 2, 24, 6)
        ),
        *(
            cell(
                f"unet-z-{n}-again",
                f"U-Net on {z}, {n} sets, another seed",
                unet,
                "z",
                sets=n,
                changes={"seed": 1},
            )
            for n in (46, 24)
        ),
        cell("unet-dna", f"U-Net on {z}, DNA alone", unet, "z", changes=_DNA, scorings=_ON_DNA),
        cell(
            "dual",
            f"one U-Net for mitochondria and DNA, {z}",
            "hsu2021-dual",
            "z",
            scorings=(*_on("z"), *_ON_DNA),
        ),
        cell("unet-z-narrow", "narrow point spread function", unet, "z-narrow"),
        cell("unet-z-doubled", "pixels of 0.2 um", unet, "z-doubled", changes=wide),
        *(
            cell(f"unet-z-patch{n}", f"U-Net on {z}, crops of {n}", unet, "z", changes={"crop": n})
            for n in patches
        ),
        cell("unet-t-30s", f"{t} every 30 s", unet, "t"),
        cell("unet-t-short", f"{t} every 5 s", unet, "t-short", scorings=_on("t-short", "t")),
        cell("unet-t-long", f"{t} every 300 s", unet, "t-long", scorings=_on("t-long", "t")),
    ]


def _ounkomol() -> list[Cell]:
    """Return fnet, a model a structure; and a time series by the model of single stacks."""
    # The simulated stacks are small and finely sampled: cubes of 0.3 um would leave nothing to crop from.
    fine = {
        "pixel_size_um": 0.1,
        "pixel_size_range_um": [0.07, 0.14],
        "z_step_um": 0.15,
        "z_step_range_um": None,
        "resample": False,
    }
    small = {"network.kwargs.width": 8, "batch_size": 2}
    flat = {"network.kwargs.width": 8, "batch_size": 8, "crop": 64}
    in_time = (Scoring("zt", "zt/test", by_time=True), Scoring("zt truth", "zt/truth"))

    def cell(name: str, about: str, base: str, scorings: tuple[Scoring, ...], **more: Any) -> Cell:
        return Cell("ounkomol", name, about, base, ("z",), scorings, sets=30, **more)

    return [
        cell(
            "fnet-mitochondria",
            "fnet, mitochondria",
            "ounkomol2017",
            (*_on("z"), *in_time),
            changes=fine,
            reduced=small,
        ),
        cell("fnet-dna", "fnet, DNA", "ounkomol2017", _ON_DNA, changes=fine | _DNA, reduced=small),
        cell(
            "fnet2d-mitochondria",
            "fnet-2D, mitochondria, plane by plane",
            "ounkomol2017-2d",
            _on("z"),
            changes={**fine, "z_step_um": None},
            reduced=flat,
        ),
    ]


def _koelln() -> list[Cell]:
    """Return label2label, noise2noise and CycleGAN on two labels of one structure."""
    small = {"network.kwargs.width": 16, "batch_size": 8}
    # Crops of 128, as the other's, allow four of the paper's five scales.
    ms_ssim = {
        "loss": {
            "l1": 0.0,
            "mse": 0.0,
            "ms_ssim": 1.0,
            "ssim": {"low": -2.0, "high": 8.0, "scales": 4},
        }
    }
    absolute = {"loss": {"l1": 1.0, "mse": 0.0}}
    takes = {"targets": [_target("label-1-again", "label-1-again")]}

    def cell(name: str, about: str, base: str, changes: dict[str, Any], **more: Any) -> Cell:
        return Cell(
            "koelln",
            name,
            about,
            base,
            ("labels",),
            (Scoring("truth", "labels/truth"),),
            changes={"pixel_size_um": 0.1, **changes},
            counts_invented=True,
            **more,
        )

    paired: dict[str, Any] = {"reduced": small, "validates": True}
    return [
        cell("l2l", "label2label, mean absolute error", "koelln2021-l2l", {}, **paired),
        cell("l2l-msssim", "label2label, MS-SSIM", "koelln2021-l2l", ms_ssim, **paired),
        cell(
            "n2n",
            "noise2noise, mean absolute error",
            "koelln2021-n2n",
            takes | absolute,
            **paired,
        ),
        cell("n2n-msssim", "noise2noise, MS-SSIM", "koelln2021-n2n", takes | ms_ssim, **paired),
        cell(
            "cyclegan",
            "CycleGAN, unpaired",
            "koelln2021-cyclegan",
            {},
            # Nothing unpaired can be looked at: there is no target to compare with.
            watches=False,
            reduced={
                "network.kwargs.width": 16,
                "cycle.adversarial.discriminator.kwargs.width": 16,
            },
        ),
    ]


def _somani() -> list[Cell]:
    """Return generator losses, discriminator losses, batch sizes, and a split that leaks."""
    narrow = {"network.kwargs.width": 16, "adversarial.discriminator.kwargs.width": 16}
    plain: dict[str, Any] = {"loss": {"tn_l1": 0.0, "l1": 100.0}}
    generators: dict[str, dict[str, Any]] = {"tn": {}, "l1": plain}
    verdicts = {"mse": "tn", "focal": "focal", "jaccard": "jaccard", "dice-bce": "dice-bce"}

    def cell(name: str, about: str, recipe: str, changes: dict[str, Any], **more: Any) -> Cell:
        more = {"scorings": (_held_out("009"),), "fold": "009", **more}
        return Cell(
            "somani",
            name,
            about,
            f"somani2021-{recipe}",
            (REAL,),
            changes=changes,
            reduced=narrow,
            share=0.25,
            **more,
        )

    leaks = {"split": {"by": "file", "test": 0.2}}
    leaky = (Scoring("leaky test", REAL, movie="009", split="test"),)
    return [
        *(
            cell(
                f"{generator}-{verdict}",
                f"{generator.upper()} generator, {verdict} discriminator",
                recipe,
                loss,
            )
            for verdict, recipe in verdicts.items()
            for generator, loss in generators.items()
        ),
        *(
            cell(
                f"{generator}-mse-b16",
                f"{generator.upper()} generator, 16 crops a step",
                "b16",
                loss,
            )
            for generator, loss in generators.items()
        ),
        cell(
            "tn-mse-normalised",
            "TN weights divided by their mean",
            "tn",
            {"loss": {"tn": {"normalise": True}}},
        ),
        cell(
            "tn-mse-leaky",
            "the same as tn-mse, a random fifth of all crops held back",
            "tn",
            leaks,
            scorings=leaky,
            fold=None,
            watches=False,
        ),
    ]


CELLS = {
    study: tuple(cell.name for cell in cells("cuda") if cell.study == study)
    for study in ("real", "somani", "hsu", "ounkomol", "koelln")
}
"""Names of the cells of each study."""

"""What the study trains and scores: one `Cell` for each recipe, fold and data set.

The recipes are the papers'. Where a network is too large to be trained in the time that a processor has,
the scale "cpu" makes it narrower and its batches smaller; each such change stands in `Cell.reduced` and in
the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from study.data import VALIDATION, Scale

__all__ = ["CELLS", "MOVIES", "SCALES", "Budget", "Cell", "Look", "cells"]

MOVIES = ("009", "010", "011")
"""Of the real data; each is left out once."""

REAL = "h9c2-omp25"


@dataclass(frozen=True)
class Budget:
    """What a scale allows.

    Attributes
    ----------
    data : Scale
        Of the simulated sets.
    real_seconds, seconds : float
        Of a training on real and on simulated data: of one core on a CPU, of the wall clock on a GPU.
    reduces : bool
        Whether networks are made smaller than the papers'.
    """

    data: Scale
    real_seconds: float
    seconds: float
    reduces: bool


SCALES = {
    "cpu": Budget(Scale(side=96, depth=32, most=46, some=12, test=6), 300, 90, reduces=True),
    "cuda": Budget(Scale(side=256, depth=32, most=46, some=24, test=12), 1800, 1200, reduces=False),
}


@dataclass(frozen=True)
class Look:
    """One scoring of a trained model.

    Attributes
    ----------
    label : str
        Key in the result's `scores`.
    data : str
        Set, and part of it: ``z/test``, ``z/truth``; or the real data's name.
    output : str, optional
        The output that is scored; the first where left out.
    """

    label: str
    data: str
    output: str | None = None


@dataclass(frozen=True)
class Cell:
    """One training and its scores.

    Attributes
    ----------
    study, recipe, about : str
        The table it belongs to, its name there, and what it is.
    base : str
        A recipe of livestain's, or a file beside this one's folder, such as ``pareto/slim-4.yaml``.
    data : tuple of str
        What is trained on: sets of `study.data.SETS`, or the real data's name.
    looks : tuple of Look
        What is scored.
    changes, reduced : dict
        Keys of the recipe that differ: because of the data or the question, and because of the scale alone.
    fold : str, optional
        The movie that is left out.
    sets : int, optional
        Number of movies trained on; all where left out.
    steps : int, optional
        Where the recipe fixes them; what the budget buys where left out.
    after : str, optional
        A cell whose model this one learns from (as a teacher), of the same study.
    """

    study: str
    recipe: str
    about: str
    base: str
    data: tuple[str, ...]
    looks: tuple[Look, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    reduced: dict[str, Any] = field(default_factory=dict)
    fold: str | None = None
    sets: int | None = None
    steps: int | None = None
    after: str | None = None
    counts_invented: bool = False

    @property
    def name(self) -> str:
        """The cell's name: the recipe's, and the movie left out."""
        return self.recipe if self.fold is None else f"{self.recipe}-not-{self.fold}"

    @property
    def watched(self) -> str | None:
        """The movie that is looked at while training, and chooses nothing."""
        return self.fold if self.data == (REAL,) else str(VALIDATION)


def cells(scale: Literal["cpu", "cuda"]) -> list[Cell]:
    """Return the cells of a scale, those that matter most first."""
    reduces = SCALES[scale].reduces
    found = [*_real(), *_hsu(), *_ounkomol(), *_koelln(), *_somani()]
    return found if reduces else [replace(cell, reduced={}) for cell in found]


def _real() -> list[Cell]:
    """Every 2-D recipe on the real movies, for equal time; then our teacher and student."""
    about = {
        "fnet2d": "Ounkomol: fnet-2D, batches of 24",
        "fnet2d-b4": "Ounkomol: fnet-2D, batches of 4",
        "gvtnet2d": "Hsu: GVTNet in 2-D",
        "pix2pix": "Somani: pix2pix with the TN-weighted L1",
        "care2d": "Koelln: CARE's U-Net, mean absolute error",
        "unet16": "ours: plain U-Net of 16 maps, random weights",
        "slim-4": "ours: slim network, random weights",
        "slim-2": "ours: slim network, unshuffle 2, random weights",
        "unext2": "of UNeXt2's kind, on single planes",
    }
    found = [
        Cell(
            "real",
            name,
            text,
            f"pareto/{name}.yaml",
            (REAL,),
            (Look("held-out", REAL),),
            fold=movie,
        )
        for movie in MOVIES
        for name, text in about.items()
    ]
    for movie in MOVIES:
        teacher = Cell(
            "real",
            "teacher",
            "ours: the teacher, begun with simulated cells",
            "h9c2-omp25-best",
            (REAL,),
            (Look("held-out", REAL), Look("held-out, 8 views", REAL)),
            fold=movie,
            steps=400,
        )
        student = Cell(
            "real",
            "student",
            "ours: the student, begun with simulated cells, taught by the teacher",
            "h9c2-omp25",
            (REAL,),
            (Look("held-out", REAL),),
            fold=movie,
            steps=800,
            after=f"teacher-not-{movie}",
        )
        found += [teacher, student]
    return found


def _stack_looks(*sets: str) -> tuple[Look, ...]:
    return tuple(
        Look(f"{name}{' truth' if part == 'truth' else ''}", f"{name}/{part}")
        for name in sets
        for part in ("test", "truth")
    )


def _hsu() -> list[Cell]:
    """U-Net and GVTNet on stacks and series, and what they depend on."""
    small = {"network.kwargs.width": 8, "batch_size": 2}
    z, t = "z-stacks", "time series"
    both = (*_stack_looks("z"), *_stack_looks("t"))

    def cell(name: str, about: str, base: str, *data: str, **more: Any) -> Cell:
        looks = more.pop("looks", _stack_looks(data[0]))
        return Cell(
            "hsu", name, about, base, data, looks, reduced=more.pop("reduced", small), **more
        )

    unet, gvtnet = "hsu2021-unet", "hsu2021-gvtnet"
    dna = {
        "channel": "DNA",
        "normalisation": "plane",
        "output": {
            "name": "dna",
            "unit": "sd",
            "scale": 0.001,
            "offset": -20.0,
            "display": [-0.5, 4.0],
        },
    }
    dna_looks = (Look("dna z", "z/test", "dna"), Look("dna z truth", "z/truth", "dna"))
    wide = {"pixel_size_um": 0.2, "pixel_size_range_um": [0.15, 0.25]}
    return [
        cell("unet-z", f"U-Net on {z}, 46 sets", unet, "z", looks=both),
        cell("gvtnet-z", f"GVTNet on {z}, 46 sets", gvtnet, "z", looks=both),
        cell("unet-t", f"U-Net on {t}", unet, "t", looks=both),
        cell("gvtnet-t", f"GVTNet on {t}", gvtnet, "t", looks=both),
        cell("unet-both", f"U-Net on {z} and {t} together", unet, "z", "t", looks=both),
        *(
            cell(f"unet-z-{n}", f"U-Net on {z}, {n} sets", unet, "z", sets=n)
            for n in (2, 6, 12, 24)
        ),
        *(
            cell(f"unet-z-patch{n}", f"U-Net on {z}, crops of {n}", unet, "z", changes={"crop": n})
            for n in (32, 96)
        ),
        cell(
            "unet-dna",
            f"U-Net on {z}, DNA alone",
            unet,
            "z",
            changes={"targets": [dna]},
            looks=dna_looks,
        ),
        cell(
            "dual",
            f"one U-Net for mitochondria and DNA, {z}",
            "hsu2021-dual",
            "z",
            looks=(*_stack_looks("z"), *dna_looks),
        ),
        cell(
            "unet-z-narrow",
            "narrow point spread function",
            unet,
            "z-narrow",
            looks=_stack_looks("z-narrow"),
        ),
        cell(
            "unet-z-doubled",
            "pixels of 0.2 um",
            unet,
            "z-doubled",
            changes=wide,
            looks=_stack_looks("z-doubled"),
        ),
        cell("unet-t-short", f"{t} every 5 s", unet, "t-short", looks=_stack_looks("t-short", "t")),
        cell("unet-t-long", f"{t} every 300 s", unet, "t-long", looks=_stack_looks("t-long", "t")),
    ]


def _ounkomol() -> list[Cell]:
    """Fnet, a model a structure; and a time series by the model of single stacks."""
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
    dna = {
        "targets": [
            {
                "channel": "DNA",
                "normalisation": "plane",
                "output": {
                    "name": "dna",
                    "unit": "sd",
                    "scale": 0.001,
                    "offset": -20.0,
                    "display": [-0.5, 4.0],
                },
            }
        ]
    }
    dna_looks = (Look("dna z", "z/test", "dna"), Look("dna z truth", "z/truth", "dna"))
    zt = (Look("zt", "zt/test"), Look("zt truth", "zt/truth"))
    return [
        Cell(
            "ounkomol",
            "fnet-mitochondria",
            "fnet, mitochondria",
            "ounkomol2017",
            ("z",),
            (*_stack_looks("z"), *zt),
            changes=fine,
            reduced=small,
            sets=30,
        ),
        Cell(
            "ounkomol",
            "fnet-dna",
            "fnet, DNA",
            "ounkomol2017",
            ("z",),
            dna_looks,
            changes=fine | dna,
            reduced=small,
            sets=30,
        ),
        Cell(
            "ounkomol",
            "fnet2d-mitochondria",
            "fnet-2D, mitochondria, plane by plane",
            "ounkomol2017-2d",
            ("z",),
            _stack_looks("z"),
            changes={**fine, "z_step_um": None},
            reduced=flat,
            sets=30,
        ),
    ]


def _koelln() -> list[Cell]:
    """label2label, noise2noise and CycleGAN on two labels of one structure."""
    plain = {
        "split": {"by": "movie", "validation": 0.0},
        "optimiser.schedule": "constant",
        "pixel_size_um": 0.1,
    }
    small = {"network.kwargs.width": 16, "batch_size": 8}
    # Of the papers' five scales the smallest planes allow four.
    ms_ssim = {
        "loss": {
            "l1": 0.0,
            "mse": 0.0,
            "ms_ssim": 1.0,
            "ssim": {"low": -2.0, "high": 8.0, "scales": 4},
        }
    }
    again = "label-1-again"
    takes = {
        "targets": [
            {
                "channel": again,
                "normalisation": "plane",
                "output": {
                    "name": again,
                    "unit": "sd",
                    "scale": 0.001,
                    "offset": -20.0,
                    "display": [-0.5, 4.0],
                },
            }
        ]
    }

    def cell(
        name: str, about: str, base: str, changes: dict[str, Any], reduced: dict[str, Any]
    ) -> Cell:
        return Cell(
            "koelln",
            name,
            about,
            base,
            ("labels",),
            (Look("truth", "labels/truth"),),
            changes={**plain, **changes},
            reduced=reduced,
            counts_invented=True,
        )

    return [
        cell("l2l", "label2label, mean absolute error", "koelln2021-l2l", {}, small),
        cell("l2l-msssim", "label2label, MS-SSIM", "koelln2021-l2l", ms_ssim, small),
        cell("n2n", "noise2noise, mean squared error", "koelln2021-n2n", takes, small),
        cell("n2n-msssim", "noise2noise, MS-SSIM", "koelln2021-n2n", takes | ms_ssim, small),
        cell(
            "cyclegan",
            "CycleGAN, unpaired",
            "koelln2021-cyclegan",
            {},
            {"network.kwargs.width": 16, "cycle.adversarial.discriminator.kwargs.width": 16},
        ),
    ]


def _somani() -> list[Cell]:
    """Compare generator losses, discriminator losses, batch sizes, and a split that leaks."""
    narrow = {"network.kwargs.width": 16, "adversarial.discriminator.kwargs.width": 16}
    verdicts = {"mse": "tn", "focal": "focal", "jaccard": "jaccard", "dice-bce": "dice-bce"}
    found = []
    for verdict, recipe in verdicts.items():
        for generator in ("tn", "l1"):
            loss = {} if generator == "tn" else {"loss": {"tn_l1": 0.0, "l1": 100.0}}
            found.append(
                Cell(
                    "somani",
                    f"{generator}-{verdict}",
                    f"{generator.upper()} generator, {verdict} discriminator",
                    f"somani2021-{recipe}",
                    (REAL,),
                    (Look("held-out", REAL),),
                    changes=loss,
                    reduced=narrow,
                    fold="009",
                )
            )
    for generator in ("tn", "l1"):
        loss = {} if generator == "tn" else {"loss": {"tn_l1": 0.0, "l1": 100.0}}
        found.append(
            Cell(
                "somani",
                f"{generator}-mse-b16",
                f"{generator.upper()} generator, 16 crops a step",
                "somani2021-b16",
                (REAL,),
                (Look("held-out", REAL),),
                changes=loss,
                reduced=narrow,
                fold="009",
            )
        )
    leaky = Cell(
        "somani",
        "tn-mse-leaky",
        "the same as tn-mse, split by random crops of the same frames",
        "somani2021-tn",
        (REAL,),
        (Look("leaky test", f"{REAL}/test split"),),
        changes={"split": {"by": "random_crops_that_leak", "test": 0.1}},
        reduced=narrow,
    )
    return [*found, leaky]


CELLS = {
    name: tuple(cell.name for cell in cells("cpu") if cell.study == name)
    for name in ("real", "somani", "hsu", "ounkomol", "koelln")
}
"""Names of the cells of each study."""

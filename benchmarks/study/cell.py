"""What one training of the study is, and what a scale allows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from study.data import VALIDATION, Scale

__all__ = ["MOVIES", "REAL", "SCALES", "Budget", "Cell", "Scoring"]

MOVIES = ("009", "010", "011")
"""Of the real data; each is left out once."""

REAL = "h9c2-omp25"
"""The real data's name."""


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
    "cuda": Budget(Scale(side=256, depth=32, most=46, some=12, test=12), 1800, 1200, reduces=False),
}


@dataclass(frozen=True)
class Scoring:
    """One scoring of a trained model.

    Attributes
    ----------
    label : str
        Key in the result's `scores`.
    data : str
        Set, and part of it: ``z/test``, ``z/truth``; or the real data's name.
    output : str, optional
        The output that is scored; the first where left out.
    views : int
        Over how many views predictions are averaged.
    by_time : bool
        Whether the error of each time point is told, too.
    movie, split : str, optional
        Of the real data: the movie alone, and the side of the training's split alone.
    """

    label: str
    data: str
    output: str | None = None
    views: int = 1
    by_time: bool = False
    movie: str | None = None
    split: str | None = None


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
    scorings : tuple of Scoring
    changes, reduced : dict
        Keys of the recipe that differ: because of the data or the question, and because of the scale alone.
    fold : str, optional
        The movie that is left out.
    sets : int, optional
        Number of movies trained on, of each set; all where left out.
    steps : int, optional
        Where the recipe fixes them; what the budget buys where left out.
    share : float
        Of the scale's seconds: comparisons that matter most get more.
    after : str, optional
        A cell of the same study, whose model is this one's teacher.
    owed_seconds : float
        What was trained before any of the study's cells, and is needed.
    watches : bool
        Whether a movie is looked at while training; it chooses nothing.
    validates : bool
        Whether that movie is the recipe's validation data, for learning rates that look at it.
    counts_invented : bool
        Whether invented and missed structures are counted.
    """

    study: str
    recipe: str
    about: str
    base: str
    data: tuple[str, ...]
    scorings: tuple[Scoring, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    reduced: dict[str, Any] = field(default_factory=dict)
    fold: str | None = None
    sets: int | None = None
    steps: int | None = None
    share: float = 1.0
    after: str | None = None
    owed_seconds: float = 0.0
    watches: bool = True
    validates: bool = False
    counts_invented: bool = False

    @property
    def name(self) -> str:
        """The cell's name: the recipe's, and the movie left out."""
        return self.recipe if self.fold is None else f"{self.recipe}-not-{self.fold}"

    @property
    def watched(self) -> str:
        """The movie that is looked at while training, where one is."""
        return self.fold if self.fold is not None else str(VALIDATION)

    def seconds(self, scale: str) -> float | None:
        """Return what the training may take; None where its steps are fixed."""
        if self.steps is not None:
            return None
        budget = SCALES[scale]
        return self.share * (budget.real_seconds if REAL in self.data else budget.seconds)

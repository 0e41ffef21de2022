"""Training offline: pairs, augmentation, losses, evaluation, export.

Public names are imported when they are first used, so that importing this room loads neither torch
nor lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livestain.training.evaluation.evaluate import evaluate_bundle
    from livestain.training.evaluation.results import Evaluation, MovieScore
    from livestain.training.export import export_run
    from livestain.training.find import find_pairs
    from livestain.training.pairs import Movie, Pair, PairSet, PairSpec
    from livestain.training.recipe import Recipe, find_recipe, recipe_names
    from livestain.training.trainer import train

__all__ = [
    "Evaluation",
    "Movie",
    "MovieScore",
    "Pair",
    "PairSet",
    "PairSpec",
    "Recipe",
    "evaluate_bundle",
    "export_run",
    "find_pairs",
    "find_recipe",
    "recipe_names",
    "train",
]

_HOMES = {
    "Evaluation": "evaluation.results",
    "Movie": "pairs",
    "MovieScore": "evaluation.results",
    "Pair": "pairs",
    "PairSet": "pairs",
    "PairSpec": "pairs",
    "Recipe": "recipe",
    "evaluate_bundle": "evaluation.evaluate",
    "export_run": "export",
    "find_pairs": "find",
    "find_recipe": "recipe",
    "recipe_names": "recipe",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the file that holds it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"livestain.training.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

from .evaluation.evaluate import evaluate_bundle
from .evaluation.results import Evaluation, MovieScore
from .export import export_run
from .find import find_pairs
from .pairs import Movie, Pair, PairSet, PairSpec
from .recipe import Recipe, find_recipe, recipe_names
from .trainer import train

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

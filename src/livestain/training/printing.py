"""Recipes as people read them: all keys with what they mean, and a table of ours."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import BaseModel

from livestain.training.recipe import Recipe, find_recipe, recipe_names

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Listed", "list_recipes", "recipe_with_comments"]

_WIDTH = 110


class Listed(NamedTuple):
    """A recipe that travels with the package, in a line."""

    name: str
    network: str
    dims: int
    about: str


def list_recipes() -> list[Listed]:
    """Return all recipes that travel with the package, by name."""
    listed = []
    for name in recipe_names():
        recipe = Recipe.from_yaml(find_recipe(name))
        listed.append(Listed(name, recipe.network.name, recipe.dims, recipe.about))
    return listed


def recipe_with_comments(recipe: Recipe) -> str:
    """Return a recipe as YAML with every key, those left out too, and what each means.

    `Recipe.from_yaml` reads it back to the same recipe.
    """
    return "\n".join(_lines(recipe, "")) + "\n"


def _lines(settings: BaseModel, indent: str) -> Iterator[str]:
    for key, field in type(settings).model_fields.items():
        value = getattr(settings, key)
        if field.description:
            told = " ".join(field.description.replace("\n", " ").split())
            yield from textwrap.wrap(
                told, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
        if isinstance(value, BaseModel):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif _is_list_of_settings(value):
            yield f"{indent}{key}:"
            for item in value:
                yield f"{indent}  -"
                yield from _lines(item, indent + "    ")
        else:
            plain = settings.model_dump(mode="json", include={key})[key]
            yield f"{indent}{key}: {_flow(plain)}"


def _is_list_of_settings(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], BaseModel)


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()

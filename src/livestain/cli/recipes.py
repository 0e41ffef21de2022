"""A recipe as the command line names and changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from livestain.training import Recipe

__all__ = ["changed_recipe"]


def changed_recipe(name: str, changes: Iterable[str], given: Mapping[str, Any]) -> Recipe:
    """Return a recipe with what the command line changes of it.

    Parameters
    ----------
    name : str
        Of one of ours, or a file.
    changes : iterable of str
        KEY.PATH=VALUE each, as --set takes them; values are YAML.
    given : mapping
        Values of other options.

    Raises
    ------
    SettingsError
        If there is no such recipe, or a change is none or leaves a wrong one.
    """
    from livestain.training.recipe import Recipe, find_recipe

    file = find_recipe(name)
    values = Recipe.from_yaml(file).model_dump()
    for change in changes:
        _change(values, change)
    return Recipe.parse(values | dict(given), where=str(file))


def _change(values: dict[str, Any], change: str) -> None:
    """Put what ``key.path=value`` says into a recipe's values; the recipe judges it afterwards."""
    import yaml

    path, equals, text = change.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise SettingsError(
            f"--set {change} is not KEY=VALUE. Expected something like optimiser.learning_rate=0.001."
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {change}: {text} is not valid YAML.") from error
    if keys[0] == "source":
        keys[:1] = ["sources", "0"]  # a recipe's own short spelling
        if len(keys) == 2:
            values["sources"] = [value]
            return
    at: Any = values
    for place, key in enumerate(keys):
        last = place == len(keys) - 1
        if isinstance(at, (list, tuple)):
            if not key.isdecimal() or int(key) >= len(at):
                raise SettingsError(
                    f"--set {change}: {'.'.join(keys[:place])} is a list of {len(at)}. Expected a place "
                    f"from 0 to {len(at) - 1}, and not {key!r}."
                )
            at = _exchanged(at, int(key), value, last)
        else:
            at = _exchanged(at, key, value, last)


def _exchanged(at: Any, key: Any, value: Any, last: bool) -> Any:
    """Set a value in a mapping or list, or go one down in it, making mappings where there are none."""
    if last:
        at[key] = value
        return value
    below = at[key] if isinstance(at, list) else at.get(key)
    if isinstance(below, tuple):
        below = list(below)
    if not isinstance(below, (dict, list)):
        below = {}
    at[key] = below
    return below

"""The base of every settings class: frozen, forbids unknown keys, reads and writes YAML."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from livestain.errors import SettingsError

__all__ = ["FiniteSettings", "Settings", "describe_validation_error", "read_yaml"]


class Settings(BaseModel):
    """Frozen settings that refuse keys they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def from_yaml(cls, path: Path | str) -> Self:
        """Read settings from a YAML file.

        Raises
        ------
        SettingsError
            If the file is missing, is not YAML, or does not fit; the message names the key.
        """
        return cls.parse(read_yaml(path), where=str(path))

    @classmethod
    def parse(cls, data: Any, *, where: str) -> Self:
        """Validate `data`, saying in one sentence what is wrong and in which place (`where`)."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            message = f"{where}: {describe_validation_error(error, cls)}"
            raise SettingsError(message) from error

    def to_yaml(self) -> str:
        """Return these settings as YAML text that `from_yaml` reads back."""
        import yaml

        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


class FiniteSettings(Settings):
    """Settings of what is computed with: each number is finite, whatever else its field says of it."""

    model_config = ConfigDict(allow_inf_nan=False)


def read_yaml(path: Path | str) -> Any:
    """Read a YAML file with plain types only.

    Raises
    ------
    SettingsError
        If the file cannot be read or is not YAML.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"Cannot read {path}: {error}. Expected the path of a YAML text file."
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def describe_validation_error(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Put pydantic's findings into one sentence; an unknown key is answered with the nearest known one."""
    parts = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            if not near and known:
                hint = f"; known there: {', '.join(known)}"
            parts.append(f"unknown key '{place}'{hint}")
        else:
            words = item["msg"].removeprefix("Value error, ")
            given = repr(item.get("input"))
            if len(given) > 80:
                given = given[:77] + "..."
            # What is wrong between keys names them; all of them again would hide it.
            shown = "" if isinstance(item.get("input"), dict) else f" (given {given})"
            parts.append((f"'{place}': " if place else "") + words + shown)
    return "; ".join(parts)


def _known_keys(model: type[BaseModel] | None, way: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the settings that lie at the end of a way of keys and places in lists."""
    models = [model] if model is not None else []
    for part in way:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if fields:
            # A place in a list, or the tag of a union, leaves the settings as they are.
            models = [found for field in fields for found in _models_in(field.annotation)]
    return list(dict.fromkeys(key for m in models for key in m.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings that an annotation names, also within lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]

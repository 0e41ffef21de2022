"""The base of every settings class: frozen, forbids unknown keys, reads and writes YAML."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from livestain.errors import SettingsError

__all__ = ["Settings", "describe_validation_error", "read_yaml"]


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
    known = list(model.model_fields) if model is not None else []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"]) or "the whole"
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near and len(item["loc"]) == 1 else ""
            parts.append(f"unknown key '{place}'{hint}")
        else:
            given = repr(item.get("input"))
            if len(given) > 80:
                given = given[:77] + "..."
            parts.append(f"'{place}': {item['msg']} (given {given})")
    return "; ".join(parts)

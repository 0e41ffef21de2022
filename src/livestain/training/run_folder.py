"""The folder of one training: what is written there, and reading it back."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.bundle.description import ReferenceStatistics
from livestain.errors import DataError, LivestainError
from livestain.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = [
    "BEST",
    "CHECKPOINT",
    "RECIPE",
    "RunFolder",
    "StoppedError",
    "check_out",
    "commit_of_checkout",
    "open_run",
    "read_run",
    "write_json",
]

CHECKPOINT = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
TEACHER = "teacher"
CHECKS = "checks.json"
RECIPE = "recipe.yaml"
DATA = "data.json"
FINISHED = "finished.json"
WEIGHTS = "weights.pt"


class StoppedError(LivestainError):
    """A training that had begun can no longer be written; what was written is whole and can be resumed."""


@dataclass(frozen=True)
class RunFolder:
    """A finished training.

    Attributes
    ----------
    path : Path
        The folder.
    recipe : Recipe
        As it was trained by, with its movies.
    data : dict
        `movies` {name: {pairs, sha256}}, `left_out` [names], `reference`.
    finished : dict
        `steps`, `weights_of_step`, `why` it is that step's, `seconds`, `device`, `commit`, `versions`.
    """

    path: Path
    recipe: Recipe
    data: dict[str, Any]
    finished: dict[str, Any]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights, on the CPU."""
        import torch

        state: dict[str, torch.Tensor] = torch.load(
            self.path / WEIGHTS, map_location="cpu", weights_only=True
        )
        return state

    def reference(self) -> ReferenceStatistics:
        """Return the statistics of the training inputs."""
        return ReferenceStatistics.parse(self.data["reference"], where=str(self.path / DATA))


def read_run(folder: Path | str) -> RunFolder:
    """Read a finished training.

    Raises
    ------
    DataError
        If the folder is none, or the training did not finish.
    """
    path = Path(folder)
    if not (path / RECIPE).is_file():
        raise DataError(
            f"{path} is no training run. Expected the folder that `livestain train … --out` wrote."
        )
    if not (path / FINISHED).is_file():
        raise DataError(
            f"The training in {path} did not finish. Go on with `livestain train … --out {path} --resume`."
        )
    return RunFolder(
        path=path,
        recipe=Recipe.from_yaml(path / RECIPE),
        data=json.loads((path / DATA).read_text(encoding="utf-8")),
        finished=json.loads((path / FINISHED).read_text(encoding="utf-8")),
    )


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse a folder that a training cannot go into; touch nothing.

    Raises
    ------
    DataError
        If there is something else, or nothing to resume.
    """
    with _told(out):
        if not resume:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise DataError(
                    f"{out} exists. Choose another folder, or go on with the training in it by "
                    "--resume."
                )
            above = next(place for place in (out, *out.absolute().parents) if place.exists())
            if not above.is_dir():
                raise DataError(
                    f"{out} cannot be made, since {above} is a file. Choose another folder."
                )
            return
        if not all((out / name).is_file() for name in (RECIPE, DATA)):
            raise DataError(f"There is no training to resume in {out}. Leave --resume out.")
        if (out / FINISHED).is_file():
            raise DataError(f"The training in {out} is finished; there is nothing to resume.")


def open_run(
    out: Path, recipe: Recipe, facts: dict[str, Any], checks: dict[str, Any], *, resume: bool
) -> None:
    """Make the folder, or check that it is of this training.

    Parameters
    ----------
    out : Path
        That `check_out` let pass.
    recipe : Recipe
        With its movies.
    facts, checks : dict
        What data.json and checks.json hold.
    resume : bool
        Whether the folder is there already.

    Raises
    ------
    DataError
        If the folder cannot be written, or its recipe or data differ.
    SettingsError
        If the folder's recipe cannot be read.
    """
    if not resume:
        with _told(out):
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / CHECKS, checks)
            write_json(out / DATA, facts)
            (out / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        return
    # Read and written again: a recipe of before a key was there has that key's default.
    began = Recipe.from_yaml(out / RECIPE).to_yaml()
    data = (out / DATA).read_text(encoding="utf-8")
    for name, then, now in (
        (RECIPE, began, recipe.to_yaml()),
        (DATA, data, _as_json(facts)),
    ):
        if then != now:
            what = "recipe" if name == RECIPE else "data"
            raise DataError(
                f"The {what} differs from what the training in {out} began with (see {out / name}). "
                f"Give the same {what}, or start anew in another folder."
            )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a mapping as JSON."""
    path.write_text(_as_json(content), encoding="utf-8")


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Tell in a sentence why a folder cannot be used."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Cannot use the folder {out}: {error.strerror or error}. Expected one that can be written "
            "to, on a disk with space."
        ) from error


def commit_of_checkout() -> str | None:
    """Return the git commit that this code lies in, with `+` where it was changed; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - fixed words, no shell
        ["git", "-C", str(root), *arguments],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
        timeout=20,
    ).stdout.strip()

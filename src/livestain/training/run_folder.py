"""The folder of one training: what is written there, and reading it back."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livestain.bundle.description import ReferenceStatistics
from livestain.errors import DataError
from livestain.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

__all__ = ["CHECKPOINT", "RunFolder", "commit_of_checkout", "read_run"]

CHECKPOINT = Path("checkpoints") / "last.ckpt"
RECIPE = "recipe.yaml"
DATA = "data.json"
FINISHED = "finished.json"
WEIGHTS = "weights.pt"


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
        `steps`, `seconds`, `device`, `commit`, `versions`.
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

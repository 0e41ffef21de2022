"""Which weights are the result, and when a training ends early."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Chosen"]


@dataclass
class Chosen:
    """The best look so far.

    Attributes
    ----------
    pearson : float
        The best score.
    step : int
        Where it was seen; 0: nowhere yet.
    waited : int
        Looks since then.
    ended : bool
        Whether the patience is at its end.
    """

    pearson: float = -math.inf
    step: int = 0
    waited: int = 0
    ended: bool = False

    def look(self, step: int, pearson: float, patience: int | None) -> bool:
        """Take in a score; return whether it is the best."""
        if pearson > self.pearson:
            self.pearson, self.step, self.waited = pearson, step, 0
            return True
        self.waited += 1
        self.ended = patience is not None and self.waited >= patience
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        vars(self).update(state)

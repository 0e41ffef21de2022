"""What happens beside the steps of a training: logs, looks at validation data, checkpoints, the bar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from livestain.training.checkpoint import save_checkpoint
from livestain.training.extra import needs_train_extra
from livestain.training.logs import RunLog, draw_rows
from livestain.training.looking import Look, first_plane, look_at
from livestain.training.run_folder import BEST, CHECKPOINT

with needs_train_extra():
    from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import Trainer

    from livestain.training.losses.total import RecipeLoss
    from livestain.training.modes import StainTraining
    from livestain.training.sampling import WholePairs
    from livestain.training.selection import Chosen

__all__ = ["Watch"]

_CHECKPOINTS = 10
"""Checkpoints a run at least, each in the place of the one before."""

_CHECKPOINT_S = 300.0
"""Seconds of work that are lost at most."""

_LOOKS = 10
"""Looks at validation data, where the recipe says nothing else."""

_LOG_EVERY = 10
"""Steps between two rows of the table; fewer in short runs."""


class Watch(Callback):
    """Do what is due after a step, always in one order: log, look, choose, keep.

    So the checkpoint of a step holds what its look decided, and a resumed run decides alike.

    Parameters
    ----------
    out : Path
        The run's folder.
    log : RunLog or None
        Of the process that writes.
    chosen : Chosen
        Taken up from the checkpoint by a resumed run.
    validation, monitored : WholePairs, optional
        What is looked at; the latter decides nothing.
    loss : RecipeLoss, optional
        Whose value on validation images is logged.
    """

    def __init__(
        self,
        out: Path,
        log: RunLog | None,
        chosen: Chosen,
        *,
        validation: WholePairs | None,
        monitored: WholePairs | None,
        loss: RecipeLoss | None,
    ) -> None:
        self._out = out
        self._log = log
        self._chosen = chosen
        self._validation = validation
        self._monitored = monitored
        self._loss = loss
        self._saved = time.monotonic()
        self.latest: dict[str, float] = {}
        """The loss, and the scores of the last look."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Do what is due after the step that has just been made."""
        training: StainTraining = pl_module
        recipe, step = training.recipe, training.done
        last = step == recipe.steps
        log_every = max(1, min(_LOG_EVERY, recipe.steps // _LOG_EVERY))
        if step % log_every == 0 or step == 1 or last:
            values = training.logged()
            self.latest["loss"] = values["loss"]
            if self._log is not None:
                self._log.metrics(step, values)
        look_every = recipe.selection.every_steps or max(recipe.steps // _LOOKS, 1)
        looks = step % look_every == 0 or last
        if looks:
            self._look(training)
        due = step % max(recipe.steps // _CHECKPOINTS, 1) == 0
        late = time.monotonic() - self._saved > _CHECKPOINT_S
        if self._log is not None and (due or late or looks or last):
            self._log.flush()
            state = {**training.state(), "chosen": self._chosen.state_dict()}
            save_checkpoint(state, self._out / CHECKPOINT)
            self._saved = time.monotonic()
        if self._chosen.ended:
            trainer.should_stop = True

    def _look(self, training: StainTraining) -> None:
        step, rows = training.done, []
        values = {}
        if self._monitored is not None:
            look = look_at(training, self._monitored, self._loss)
            rows = look.rows
            values["monitor_pearson"] = look.pearson
        if self._validation is not None:
            look = look_at(training, self._validation, self._loss)
            rows = look.rows
            values["validation_pearson"] = look.pearson
            if self._loss is not None:
                values["validation_loss"] = look.loss
                training.plateau.look(look.loss)
            self._choose(training, look)
        self.latest |= values
        if self._log is None:
            return
        if not rows:
            rows = [
                tuple(first_plane(image[i]) for image in training.shown.values())
                for i in range(min(3, len(training.shown["source"])))
            ]
        self._log.panel(step, draw_rows(rows))
        if values:
            self._log.metrics(step, values)

    def _choose(self, training: StainTraining, look: Look) -> None:
        selection = training.recipe.selection
        if selection.weights != "best":
            return
        best = self._chosen.look(training.done, look.pearson, selection.patience)
        if best and self._log is not None:
            average = training.average.state_dict()
            content = {"step": training.done, "pearson": look.pearson, "average": average}
            save_checkpoint(content, self._out / BEST)

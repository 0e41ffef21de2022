"""What a run's predictions can be compared with: the recorded fluorescence, or the simulated truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livestain.errors import SequenceError
from livestain.live.dish_camera import DishCamera
from livestain.live.replay_camera import ReplayCamera
from livestain.store import journal_path, read_journal

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from livestain.planes import PlaneIndex
    from livestain.store import StorePlan

__all__ = ["Truth", "check_recording", "truth_of"]


class Truth:
    """The true plane of a virtual plane, where somebody knows it.

    Parameters
    ----------
    core : CMMCorePlus
        The microscope of the run.
    out : path
        The run's store; its journal says what the simulated dish showed.
    """

    def __init__(self, core: CMMCorePlus, out: Path) -> None:
        self._camera = getattr(core, "camera", None)
        self._shown: dict[tuple[int, int], dict[str, float]] = {}
        if isinstance(self._camera, DishCamera):
            for line in read_journal(journal_path(out)):
                if (
                    line["kind"] == "plane"
                    and line.get("shown", {}).get("channel") == "brightfield"
                ):
                    self._shown[line["index"][1], line["index"][3]] = line["shown"]

    def __call__(self, channel: str, index: PlaneIndex) -> NDArray[Any] | None:
        """Return the true plane (y, x) of a virtual channel at a place, or None."""
        if isinstance(self._camera, ReplayCamera):
            source = self._camera.source
            for name in source.channels:
                if name.casefold() == channel.casefold():
                    return source.truth(name, index.t, index.z)
            return None
        shown = self._shown.get((index.t, index.z))
        if shown is None or not isinstance(self._camera, DishCamera) or channel != "mitochondria":
            return None
        return self._camera.dish.truth(
            shown["time_s"], shown["z_um"], (shown["x_um"], shown["y_um"])
        )


def truth_of(core: CMMCorePlus, out: Path) -> Truth | None:
    """Return who knows the truth of a run on this microscope; None for a real one."""
    known = isinstance(getattr(core, "camera", None), DishCamera | ReplayCamera)
    return Truth(core, out) if known else None


def check_recording(core: CMMCorePlus, plan: StorePlan) -> None:
    """Refuse a plan that asks a replayed recording for planes that it does not have.

    Raises
    ------
    SequenceError
        Naming how many time points and depths were recorded, and how many are asked for.
    """
    camera = getattr(core, "camera", None)
    if not isinstance(camera, ReplayCamera):
        return
    source = camera.source
    if plan.n_t > source.n_t or plan.n_z > source.n_z:
        raise SequenceError(
            f"The sequence has {plan.n_t} time points and {plan.n_z} z-planes, the recording "
            f"{source.path} has {source.n_t} and {source.n_z}. Shorten the sequence to what was "
            "recorded."
        )

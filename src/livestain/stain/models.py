"""The deployed models of one worker: loaded, warmed, and asked for planes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import BundleError, StoreError
from livestain.flat_field import FlatField
from livestain.stain.recent import RecentPlanes, bytes_to_keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from numpy.typing import NDArray

    from livestain.inference import Shortage, Stainer
    from livestain.inference.encoding import Counts, CountsPlane
    from livestain.planes import PlaneIndex
    from livestain.stain.backlog import Task
    from livestain.stain.planes import Planes
    from livestain.stain.protocol import WorkerSetup

__all__ = ["Models", "Predicted", "wanted_backend"]


@dataclass(frozen=True, slots=True)
class Predicted:
    """One predicted plane."""

    plane: CountsPlane
    """Encoded as the store keeps it."""

    read_ns: int
    """What reading its sources took."""

    model_ns: int
    """What the prediction took, whether it was made for this plane or for another of its stack."""


@dataclass(frozen=True, slots=True)
class _Last:
    """The last prediction of one model."""

    sources: tuple[PlaneIndex, ...]
    predicted: Counts
    read_ns: int
    model_ns: int


class Models:
    """The models that fill the virtual channels, each loaded once.

    A model's last prediction is kept: channels of several outputs of one model share it, and so do the
    planes of a stack that a model of whole stacks predicts at once.

    Parameters
    ----------
    on_shortage : callable
        Called as ``on_shortage(bundle, shortage)`` where a model finds no memory and goes on otherwise.
    """

    def __init__(self, on_shortage: Callable[[str, Shortage], None]) -> None:
        self._on_shortage = on_shortage
        self._stainers: dict[str, Stainer] = {}
        self._by_channel: dict[int, tuple[str, int]] = {}
        self._last: dict[tuple[str, str], _Last] = {}
        self._warm_ms: dict[str, float] = {}
        self._corrections: dict[int, FlatField] = {}
        self._recent = RecentPlanes()

    def load(self, setup: WorkerSetup, stack: ExitStack) -> float:
        """Load the models and predict once with each, so that the first plane is as fast as the last.

        Parameters
        ----------
        setup : WorkerSetup
            Which models, on which device, for what frames.
        stack : ExitStack
            Closes them.

        Returns
        -------
        float
            Milliseconds of one prediction of the slowest; 0 without models.

        Raises
        ------
        LivestainError
            What `Stainer` refuses, or a bundle that is not the one that the run began with.
        """
        if not setup.models:
            return 0.0
        from livestain.bundle import read_bundle
        from livestain.inference import Stainer

        for model in setup.models:
            stainer = self._stainers.get(model.bundle)
            if stainer is None:
                bundle = read_bundle(model.bundle)
                if bundle.sha256 != model.sha256:
                    raise BundleError(
                        f"The model in {model.bundle} is not the one that the run began with "
                        f"(SHA-256 {bundle.sha256[:12]}, expected {model.sha256[:12]}). "
                        "Restore it; models must not change while a run goes on."
                    )
                stainer = stack.enter_context(
                    Stainer(
                        bundle,
                        device=model.device or setup.device,
                        pixel_size_um=setup.pixel_size_um,
                        z_step_um=setup.z_step_um,
                        threads=setup.threads,
                        backend=model.backend or wanted_backend(setup),
                        shape_yx=setup.shape,
                        n_z=setup.n_z,
                        tile_step=model.tile_step,
                        on_shortage=partial(self._on_shortage, model.bundle),
                    )
                )
                self._warm_ms[model.bundle] = stainer.warm_up(setup.shape, setup.n_z)
                self._stainers[model.bundle] = stainer
            output = stainer.bundle.description.output_index(model.output)
            self._by_channel[model.c] = (model.bundle, output)
            if model.flat_field or model.dark_frame:
                self._corrections[model.c] = FlatField(model.flat_field, model.dark_frame)
        self._recent = RecentPlanes(bytes_to_keep(self._shared_planes(setup), setup.shape))
        return max(self._warm_ms.values())

    def _shared_planes(self, setup: WorkerSetup) -> int:
        """Return how many planes have to be kept so that none is read for two windows."""
        most = 0
        for stainer in self._stainers.values():
            spec = stainer.bundle.description.input
            window = spec.window
            times = window.past + 1 + window.future
            # All positions and depths come between two time points; the depths of one come together.
            each = setup.n_p * setup.n_z * times if times > 1 else window.n_z
            most += len(spec.kinds) * each
        return most

    def facts(self) -> list[dict[str, Any]]:
        """Return what the journal says of each channel's model."""
        if not self._stainers:
            return []
        import torch

        loaded = [
            (c, self._stainers[name], self._warm_ms[name])
            for c, (name, _) in sorted(self._by_channel.items())
        ]
        return [
            {
                "c": c,
                "bundle": stainer.bundle.name,
                "device": stainer.device,
                "backend": stainer.backend,
                "precision": stainer.precision,
                "threads": torch.get_num_threads(),
                "cpu": torch.backends.cpu.get_cpu_capability(),
                "tile": stainer.tile,
                "tile_step": stainer.tile_step,
                "tile_steps": stainer.tile_steps,
                "whole_stack": stainer.bundle.description.input.window.whole_stack,
                "refused": stainer.refused,
                "choice": stainer.choice.facts(),
                "resampled": stainer.resampled,
                "resampled_z": stainer.resampled_z,
                "model_ms": round(warm_ms, 2),
            }
            for c, stainer, warm_ms in loaded
        ]

    def predict(self, there: Planes, task: Task) -> Predicted:
        """Read a task's sources and predict its plane, or find it in the model's last prediction.

        Raises
        ------
        LivestainError
            What the store, a recording or the model refuses.
        """
        name, output = self._by_channel[task.target.c]
        correction = self._corrections.get(task.target.c)
        key = (name, correction.sha256 if correction is not None else "")
        last = self._last.get(key)
        if last is None or last.sources != task.sources:
            self._last.pop(key, None)  # a stack is large: never hold two of one model
            began = perf_counter_ns()
            window = self._stainers[name].bundle.description.input.window
            planes = self._recent.read(there, task.sources, whole_stack=window.whole_stack)
            if correction is not None:
                _correct(planes, task.sources, correction)
            read = perf_counter_ns()
            predicted = self._stainers[name].stain_measured(planes)
            last = _Last(task.sources, predicted, read - began, perf_counter_ns() - read)
            self._last[key] = last
        # Models of whole stacks predict every plane of them.
        stack = last.predicted.counts.ndim == 4
        try:
            plane = last.predicted.plane(output, task.target.z if stack else None)
        except StoreError as error:
            raise StoreError(f"Plane {task.target.words}: {error}") from error
        return Predicted(plane, last.read_ns, last.model_ns)


def wanted_backend(setup: WorkerSetup) -> str:
    """Return the backend that was asked for, by the setup or else by the environment."""
    if setup.backend != "auto":
        return setup.backend
    return os.environ.get("LIVESTAIN_BACKEND") or "auto"


def _correct(
    planes: NDArray[np.uint16], sources: tuple[PlaneIndex, ...], correction: FlatField
) -> None:
    """Correct the planes of the first source in place, to whole counts, as a camera would give them."""
    for plane, index in zip(planes, sources, strict=True):
        if index.c == sources[0].c:
            corrected = correction.correct(plane, f"plane {tuple(index)}")
            plane[...] = np.rint(corrected).clip(0, 65535)

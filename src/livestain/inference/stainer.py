"""The Stainer: a deployed model on a device, held to its own test tensors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np
import torch

from livestain.bundle.read import Bundle, read_bundle
from livestain.errors import BundleError, LivestainError
from livestain.inference.backends import get_backend, preferred_backend
from livestain.inference.device import resolve_device
from livestain.inference.pipeline import Pipeline
from livestain.inference.placement import Placement
from livestain.inference.told import Told
from livestain.inference.upload import Upload
from livestain.inference.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.inference.encoding import Counts, Encodings
    from livestain.inference.placement import Shortage

__all__ = ["Stainer"]

_T = TypeVar("_T")

_WARM_DEPTH = 16
"""Planes of a stack whose depth nobody knows yet."""

_MOST_OVERFLOWS = 2
"""After so many predictions that had to be made again in float32, all are."""


class Stainer(Told):
    """Predict planes with a deployed model; not for several threads at once.

    The bundle's test input is run when the Stainer opens: a backend whose output differs from the
    test output by more than the declared tolerance is refused, and `eager` in float32 used instead.

    Where a device has not enough memory the Stainer says so and goes on in tiles, which give what the
    whole plane gives, then in smaller ones; where these do not help on a GPU, on the CPU. It stays with
    what succeeded.

    Parameters
    ----------
    bundle : Bundle, Path or str
        The model, or its folder.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    pixel_size_um : float, optional
        Of the microscope, in micrometres. Within the model's range, frames are resampled to the
        model's pixel size on the device, and predictions back. None: as the model's.
    z_step_um : float, optional
        Distance of the microscope's planes, in micrometres; checked for models that look at several
        depths. Whole stacks are resampled to the model's z-step, within its range, and back. None:
        as the model's.
    threads : int, optional
        CPU threads of torch, for the whole process, until `close`.
    precision : {"auto", "fp32", "tf32", "fp16", "bf16", "int8"}, optional
        The coarsest arithmetic that may be taken; "bf16" is about twice as fast as "fp32" on CPUs and GPUs
        that have it. Left out: "fp32", or "auto" (whatever gives the test output) with `backend` "auto".
    backend : str, optional
        A backend by name; or "auto": the candidates are timed at `shape_yx` and the fastest is taken,
        which is remembered for the next time. Left out: the precision's usual one, and nothing is timed,
        so that results are the same each time.
    shape_yx : tuple of int, optional
        Height and width of the coming frames, in the microscope's pixels, for "auto".
    n_z : int, optional
        Planes of the coming stacks, for "auto" and models of whole stacks.
    tile_step : int
        Begin with tiles that are so many times smaller; 0: with whole planes.
    on_shortage : callable, optional
        Called with a `Shortage` of memory before the next attempt, and of precision (`stain_measured`); by
        default a warning is logged.

    Raises
    ------
    BundleError
        If the bundle is damaged, does not fit the pixel size or z-step, or fails its own test tensors.
    LivestainError
        If there is no such device, precision or backend, or not enough memory for the weights.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        device: str = "auto",
        pixel_size_um: float | None = None,
        z_step_um: float | None = None,
        threads: int | None = None,
        precision: Literal["auto", "fp32", "tf32", "fp16", "bf16", "int8"] | None = None,
        backend: str | None = None,
        shape_yx: tuple[int, int] | None = None,
        n_z: int | None = None,
        tile_step: int = 0,
        on_shortage: Callable[[Shortage], None] | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self._windows = Windows(self.bundle, pixel_size_um=pixel_size_um, z_step_um=z_step_um)
        if backend is not None and backend != "auto":
            get_backend(backend)
        allowed = precision or ("auto" if backend == "auto" else "fp32")
        preferred_backend(allowed)  # refuses what is no precision
        where = resolve_device(device)
        if threads is not None and threads < 1:
            raise LivestainError(f"threads is {threads}; expected 1 or more. Leave it out for all.")
        self._threads_before = torch.get_num_threads() if threads is not None else None
        self._upload = Upload()
        self._single: tuple[Encodings, Pipeline] | None = None
        self._overflows = 0
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._placed = Placement(
                self.bundle,
                where,
                backend,
                self._upload,
                precision=allowed,
                frame=None if shape_yx is None else self._frame(shape_yx, n_z),
                tile_step=tile_step,
                tell=on_shortage,
            )
        except BaseException:
            self._restore_threads()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Give back the model's memory and the process's threads; a second time does nothing."""
        if self._single is not None:
            self._single[1].close()
            self._single = None
        self._placed.close()
        self._upload.forget()
        self._restore_threads()

    def _restore_threads(self) -> None:
        if self._threads_before is not None:
            torch.set_num_threads(self._threads_before)
            self._threads_before = None

    def _frame(self, shape_yx: tuple[int, int], n_z: int | None) -> tuple[int, int, int]:
        """Return planes, height and width of a frame in the network's pixels."""
        planes = self.bundle.description.input.window.depth or n_z or _WARM_DEPTH
        height, width = (max(1, round(side * (self.resampled or 1))) for side in shape_yx)
        return max(1, round(planes * (self.resampled_z or 1))), height, width

    def warm_up(self, shape_yx: tuple[int, int], n_z: int | None = None) -> float:
        """Predict twice from noise of the coming frames' shape, so that the first frame is not slow.

        Parameters
        ----------
        shape_yx : tuple of int
            Height and width, in pixels.
        n_z : int, optional
            Planes of a stack, for models of whole stacks.

        Returns
        -------
        float
            Milliseconds of the second prediction: what one takes once the model is warm.
        """
        wanted = self.bundle.description.input
        if wanted.window.whole_stack:
            n_planes = wanted.window.depth or n_z or _WARM_DEPTH
        else:
            n_planes = wanted.window.n_planes
        shape = (len(wanted.kinds) * n_planes, *shape_yx)
        noise = np.random.default_rng(0).integers(0, 4096, shape, dtype=np.uint16)
        self.stain_measured(noise)
        warm = time.perf_counter()
        self.stain_measured(noise)
        return (time.perf_counter() - warm) * 1e3

    def stain(self, planes: NDArray[Any]) -> NDArray[np.float32]:
        """Predict from the planes of one window.

        Parameters
        ----------
        planes : array of uint8 or uint16, (planes, y, x)
            Raw counts, in the order of `Window.sources`, source by source where there are several;
            any sides, and for whole stacks any number of planes; may be read-only.

        Returns
        -------
        array of float32, (outputs, y, x)
            In the outputs' units; a new array. For models of whole stacks (outputs, planes, y, x):
            every plane of the stack is predicted.

        Raises
        ------
        BundleError
            If these are not the planes the model takes.
        LivestainError
            If the Stainer is closed, or there is not enough memory for the smallest tiles on the CPU.
        """
        return self.attempt(planes[None], lambda: self._stain(planes))

    def stain_counts(
        self, planes: NDArray[Any], encodings: Encodings | None = None
    ) -> NDArray[np.uint16]:
        """Predict from the planes of one window, encoded as a store keeps it: counts in, counts out.

        Encoded on the device, to the last bit as `livestain.store.encode` does.

        Parameters
        ----------
        planes : array of uint8 or uint16, (planes, y, x)
            As for `stain`.
        encodings : tuple of tuple of float, optional
            Scale and offset of each output; by default the bundle's own.

        Returns
        -------
        array of uint16, (outputs, y, x)
            1 to 65535; a new array. For models of whole stacks (outputs, planes, y, x).

        Raises
        ------
        StoreError
            If the model gave NaN or infinite values: they never become pixels.
        BundleError, LivestainError
            As `stain`.
        """
        return self.stain_measured(planes, encodings).checked()

    def stain_measured(self, planes: NDArray[Any], encodings: Encodings | None = None) -> Counts:
        """Predict as `stain_counts` does, and tell each plane's mean, spread and clipped fraction.

        A plane with values that are NaN or infinite is refused only when it is asked for. Where the backend
        computes in a coarser precision than fp32, such planes are predicted again in fp32 (which is told to
        `on_shortage`); after the second such prediction fp32 stays.
        """
        counts = self._measured(planes, encodings or self.encodings)
        if self.precision == "fp32" or not counts.told[..., 3].any():
            return counts
        return self._in_fp32(planes, encodings or self.encodings) or counts

    def _measured(self, planes: NDArray[Any], encodings: Encodings) -> Counts:
        if self._single is None or self._single[0] != encodings:
            if self._single is not None:
                self._single[1].close()
            self._single = encodings, Pipeline(self, encodings, depth=1)
        return self._single[1].submit(planes[None]).result()[0]

    def _in_fp32(self, planes: NDArray[Any], encodings: Encodings) -> Counts | None:
        """Predict again in float32 what overflowed; None where there is no memory for it."""
        coarse = self._placed
        try:
            self._placed = coarse.in_fp32()
        except LivestainError:
            return None
        try:
            counts = self._measured(planes, encodings)
        except BaseException:
            self._placed.close()
            self._placed = coarse
            raise
        self._overflows += 1
        what = f"The model {self.bundle.name} gave values that are not finite with {coarse.backend}"
        told = "so does fp32" if counts.told[..., 3].any() else "fp32 gave this plane"
        if self._overflows < _MOST_OVERFLOWS:
            self._placed.close()
            self._placed = coarse
            self._placed.say(f"{what}; {told}.")
        else:
            coarse.close()
            self._placed.say(f"{what} again; {told}, and stays from now on.")
        return counts

    def stain_many(self, windows: NDArray[Any], *, batch: int = 4) -> NDArray[np.uint16]:
        """Predict several windows of one shape, as `stain_counts` would one by one.

        Parameters
        ----------
        windows : array of uint8 or uint16, (n, planes, y, x)
        batch : int
            Most windows that a GPU predicts together, if its memory allows; on a CPU, and for whole
            stacks, it is one.

        Returns
        -------
        array of uint16, (n, outputs, [z], y, x)

        Raises
        ------
        StoreError, BundleError, LivestainError
            As `stain_counts`.
        """
        if windows.ndim != 4 or not len(windows):
            raise BundleError(
                f"The windows are {windows.dtype} {windows.shape}; expected (n, planes, y, x), n of 1 "
                "and more."
            )
        found = np.empty(self.predicted_shape(windows), np.uint16)
        with self.pipeline() as pipeline:
            for n, counts in enumerate(pipeline.run(windows, batch=batch)):
                found[n] = counts.checked()
        return found

    def pipeline(self, *, depth: int = 3, encodings: Encodings | None = None) -> Pipeline:
        """Return a pipeline through this Stainer, for many windows that are known to come.

        Parameters
        ----------
        depth : int
            Most submissions on their way at once, on a GPU.
        encodings : tuple of tuple of float, optional
            Scale and offset of each output; by default the bundle's own.
        """
        return Pipeline(self, encodings or self.encodings, depth)

    @property
    def encodings(self) -> Encodings:
        """Scale and offset of each output, as the bundle says."""
        outputs = self.bundle.description.outputs
        return tuple((output.scale, output.offset) for output in outputs)

    # -- what a pipeline needs ---------------------------------------------------------------------

    def predicted_shape(self, planes: NDArray[Any]) -> tuple[int, ...]:
        """Return (n, outputs, [z], y, x) of what is predicted from counts (n, planes, y, x)."""
        return self._windows.predicted_shape(planes)

    def attempt(self, planes: NDArray[Any], work: Callable[[], _T]) -> _T:
        """Do work on counts (n, planes, y, x) that calls `compute`; again in tiles where memory is short.

        Raises
        ------
        BundleError
            If these are not the planes the model takes.
        LivestainError
            If the Stainer is closed, or there is not enough memory for the smallest tiles on the CPU.
        """
        if self._placed.closed:
            raise LivestainError("This Stainer is closed. Open another one.")
        self._windows.check(planes[0])
        height, width = planes.shape[-2:]
        return self._placed.attempt(self._windows.network_sides((height, width)), work)

    def upload(self, window: NDArray[Any]) -> torch.Tensor:
        """Return counts (planes, y, x) as (1, planes, y, x) on the device, until the next call."""
        return self._upload(window, torch.device(self.device))

    def compute(self, counts: torch.Tensor) -> torch.Tensor:
        """Predict on the device, within `attempt` and inference mode.

        Parameters
        ----------
        counts : torch.Tensor, (n, planes, y, x) uint8 or uint16
            On the device.

        Returns
        -------
        torch.Tensor
            float32, (n, outputs, [z], y, x), in the outputs' units, on the device.
        """
        return self._windows.predict(counts, self._placed.module, self._placed.run)

    @torch.inference_mode()
    def _stain(self, planes: NDArray[Any]) -> NDArray[np.float32]:
        predicted = self.compute(self.upload(planes))[0]
        found: NDArray[np.float32] = predicted.cpu().contiguous().numpy()
        return found

"""The Stainer: a deployed model on a device, held to its own test tensors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch

from livestain.bundle.fit import check_pixel_size, check_z_step
from livestain.bundle.read import Bundle, read_bundle
from livestain.errors import BundleError, LivestainError
from livestain.inference.backends import get_backend, preferred_backend
from livestain.inference.device import resolve_device
from livestain.inference.geometry import resample, resample_depth
from livestain.inference.padded import stain_padded
from livestain.inference.placement import Placement
from livestain.inference.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.inference.placement import Shortage

__all__ = ["Stainer"]

_SAME_SIZE = 0.005
"""Relative difference of pixel sizes below which nothing is resampled: 10 pixels in a row of 2048;
likewise of z-steps."""

_WARM_DEPTH = 16
"""Planes of a stack whose depth nobody knows yet."""


class Stainer:
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
    precision : {"fp32", "bf16"}
        Of the arithmetic; "bf16" is about twice as fast on CPUs and GPUs that have it.
    backend : str, optional
        A backend by name, instead of the one that device and precision suggest.
    tile_step : int
        Begin with tiles that are so many times smaller; 0: with whole planes.
    on_shortage : callable, optional
        Called with a `Shortage` of memory before the next attempt; by default a warning is logged.

    Attributes
    ----------
    resampled : float or None
        Given pixel size divided by the model's, or None where nothing is resampled.
    resampled_z : float or None
        The same of the z-step.

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
        precision: Literal["fp32", "bf16"] = "fp32",
        backend: str | None = None,
        tile_step: int = 0,
        on_shortage: Callable[[Shortage], None] | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        description = self.bundle.description
        wanted = description.input
        self.resampled: float | None = None
        if pixel_size_um is not None:
            check_pixel_size(description, pixel_size_um)
            factor = pixel_size_um / wanted.pixel_size_um
            self.resampled = factor if abs(factor - 1) > _SAME_SIZE else None
        self.resampled_z: float | None = None
        if z_step_um is not None and wanted.z_step_um is not None:
            check_z_step(description, z_step_um)
            factor = z_step_um / wanted.z_step_um
            within = wanted.z_step_range_um is not None and abs(factor - 1) > _SAME_SIZE
            self.resampled_z = factor if within else None
        first = get_backend(backend or preferred_backend(precision)).name
        where = resolve_device(device)
        if threads is not None and threads < 1:
            raise LivestainError(f"threads is {threads}; expected 1 or more. Leave it out for all.")
        self._threads_before = torch.get_num_threads() if threads is not None else None
        self._upload = Upload()
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._placed = Placement(
                self.bundle, where, first, self._upload, tile_step=tile_step, tell=on_shortage
            )
        except BaseException:
            self._restore_threads()
            raise

    @property
    def backend(self) -> str:
        """The backend in use."""
        return self._placed.backend

    @property
    def refused(self) -> dict[str, str]:
        """Why a backend that was tried is not used."""
        return self._placed.refused

    @property
    def difference(self) -> float:
        """RMS difference of the backend in use from the test output.

        Relative to the latter's standard deviation, of the worst output.
        """
        return self._placed.difference

    @property
    def device(self) -> str:
        """Where it computes now: "cpu" or "cuda:N"."""
        return self._placed.device

    @property
    def tile(self) -> tuple[int, int] | None:
        """Height and width of the tiles' cores in the last prediction, in the network's pixels.

        None for whole planes.
        """
        return self._placed.tile

    @property
    def tile_step(self) -> int:
        """How many times smaller tiles were taken."""
        return self._placed.tile_step

    @property
    def tile_steps(self) -> int:
        """How many times they can be, for planes like the last ones."""
        return self._placed.tile_steps

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Give back the model's memory and the process's threads; a second time does nothing."""
        self._placed.close()
        self._upload.forget()
        self._restore_threads()

    def _restore_threads(self) -> None:
        if self._threads_before is not None:
            torch.set_num_threads(self._threads_before)
            self._threads_before = None

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
        self.stain(noise)
        warm = time.perf_counter()
        self.stain(noise)
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
        if self._placed.closed:
            raise LivestainError("This Stainer is closed. Open another one.")
        self._check(planes)
        height, width = (max(1, round(side * (self.resampled or 1))) for side in planes.shape[-2:])
        shape = (height, width)
        return self._placed.attempt(shape, lambda: self._stain(planes, shape))

    @torch.inference_mode()
    def _stain(self, planes: NDArray[Any], wanted: tuple[int, int]) -> NDArray[np.float32]:
        sources = len(self.bundle.description.input.kinds)
        shape: tuple[int, int] = planes.shape[-2:]
        x = self._upload(planes, torch.device(self.device))
        if self.resampled is not None:
            x = resample(x, wanted)
        depth = planes.shape[0] // sources
        if self.resampled_z is not None:
            stacks = x.reshape(1, sources, depth, *x.shape[2:])
            x = resample_depth(stacks, max(1, round(depth * self.resampled_z))).flatten(1, 2)
        y = stain_padded(self._placed.module, x, self._placed.run)
        if self.resampled_z is not None:
            y = resample_depth(y, depth)
        if self.resampled is not None:
            y = resample(y, shape)
        predicted: NDArray[np.float32] = y[0].cpu().contiguous().numpy()
        return predicted

    def _check(self, planes: NDArray[Any]) -> None:
        wanted = self.bundle.description.input
        sources = len(wanted.kinds)
        fits = planes.dtype in (np.uint8, np.uint16) and planes.ndim == 3 and 0 not in planes.shape
        if wanted.window.whole_stack and wanted.window.depth is None:
            number = "planes" if sources == 1 else f"{sources} * planes"
            fits = fits and planes.shape[0] % sources == 0
        else:
            number = str(sources * wanted.window.n_planes)
            fits = fits and str(planes.shape[0]) == number
        if not fits:
            raise BundleError(
                f"The planes are {planes.dtype} {planes.shape}; the model {self.bundle.name} expects "
                f"uint8 or uint16 ({number}, y, x). Give the planes of its window."
            )

"""The Stainer: a deployed model on a device, held to its own test tensors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import nn

from livestain.bundle.fit import check_pixel_size, check_z_step
from livestain.bundle.parity import relative_difference
from livestain.bundle.read import Bundle, read_bundle
from livestain.errors import BundleError, LivestainError
from livestain.inference.backends import get_backend, preferred_backend
from livestain.inference.device import resolve_device
from livestain.inference.geometry import resample, resample_depth
from livestain.inference.padded import stain_padded

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from livestain.bundle.module import StainModule
    from livestain.inference.backends import Predict

__all__ = ["Stainer"]

_SAME_SIZE = 0.005
"""Relative difference of pixel sizes below which nothing is resampled: 10 pixels in a row of 2048;
likewise of z-steps."""

_WARM_DEPTH = 16
"""Planes of a stack whose depth nobody knows yet."""


class _Weightless(nn.Module):
    """What a network says of the sizes it takes, without its weights."""

    def __init__(self, module: StainModule) -> None:
        super().__init__()
        self.dims, self.divisor, self.divisor_z = module.dims, module.divisor, module.divisor_z


class Stainer:
    """Predict planes with a deployed model; not for several threads at once.

    The bundle's test input is run when the Stainer opens: a backend whose output differs from the
    test output by more than the declared tolerance is refused, and `eager` in float32 used instead.

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

    Attributes
    ----------
    backend : str
        The backend in use.
    refused : dict of str to str
        Why a backend that was tried is not used.
    device : str
        "cpu" or "cuda:N".
    resampled : float or None
        Given pixel size divided by the model's, or None where nothing is resampled.
    resampled_z : float or None
        The same of the z-step.
    difference : float
        RMS difference of the backend in use from the test output, relative to the latter's standard
        deviation, of the worst output.

    Raises
    ------
    BundleError
        If the bundle is damaged, does not fit the pixel size or z-step, or fails its own test tensors.
    LivestainError
        If there is no such device, precision or backend.
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
        self.device = resolve_device(device)
        if threads is not None and threads < 1:
            raise LivestainError(f"threads is {threads}; expected 1 or more. Leave it out for all.")
        self._threads_before = torch.get_num_threads() if threads is not None else None
        self._device = torch.device(self.device)
        self._pinned: torch.Tensor | None = None
        self.refused: dict[str, str] = {}
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._module = self.bundle.load_module()
            self._predict: Predict | None
            self._predict, self.backend, self.difference = self._choose(first)
            self._module.network = _Weightless(self._module)  # the backend has the weights
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Give back the model's memory and the process's threads; a second time does nothing."""
        self._predict = None
        self._pinned = None
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

    @torch.inference_mode()
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
            If the Stainer is closed.
        """
        if self._predict is None:
            raise LivestainError("This Stainer is closed. Open another one.")
        self._check(planes)
        sources = len(self.bundle.description.input.kinds)
        shape: tuple[int, int] = planes.shape[-2:]
        x = self._to_device(planes)
        if self.resampled is not None:
            height, width = (max(1, round(side * self.resampled)) for side in shape)
            x = resample(x, (height, width))
        depth = planes.shape[0] // sources
        if self.resampled_z is not None:
            stacks = x.reshape(1, sources, depth, *x.shape[2:])
            x = resample_depth(stacks, max(1, round(depth * self.resampled_z))).flatten(1, 2)
        y = self._run(self._predict, x)
        if self.resampled_z is not None:
            y = resample_depth(y, depth)
        if self.resampled is not None:
            y = resample(y, shape)
        predicted: NDArray[np.float32] = y[0].cpu().contiguous().numpy()
        return predicted

    def _run(self, predict: Predict, counts: torch.Tensor) -> torch.Tensor:
        return stain_padded(self._module, counts, predict)

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

    def _to_device(self, planes: NDArray[Any]) -> torch.Tensor:
        """Return (1, planes, y, x) float32 on the device."""
        if self._device.type == "cpu":
            # numpy widens, since torch warns of read-only arrays and has few uint16 operations.
            return torch.from_numpy(planes.astype(np.float32, order="C"))[None]
        # Two bytes a pixel through pinned memory, widened on the device. The buffer is free again
        # when `stain` returns, since bringing the prediction back waits for all before it.
        wanted = torch.uint8 if planes.dtype == np.uint8 else torch.uint16
        if (
            self._pinned is None
            or self._pinned.shape != planes.shape
            or self._pinned.dtype != wanted
        ):
            self._pinned = torch.empty(planes.shape, dtype=wanted, pin_memory=True)
        np.copyto(self._pinned.numpy(), planes)
        return self._pinned.to(self._device, non_blocking=True).to(torch.float32)[None]

    @torch.inference_mode()
    def _choose(self, first: str) -> tuple[Predict, str, float]:
        """Return the first of the chosen backend and `eager` that passes, its name and difference."""
        network = self._module.network
        counts, expected = self.bundle.test_tensors()
        for name in dict.fromkeys((first, "eager")):
            try:
                predict = get_backend(name).load(network, self._device)
                difference = self._difference(predict, counts, expected)
            except Exception as error:  # a foreign runtime may raise anything: refused by name
                self.refused[name] = " ".join(f"{type(error).__name__}: {error}".split())[:500]
                continue
            if difference <= self.bundle.description.tolerance:
                return predict, name, difference
            self.refused[name] = (
                f"differs from the test output by {difference:.2g} of its standard deviation; "
                f"the bundle allows {self.bundle.description.tolerance:g}"
            )
        reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
        raise BundleError(
            f"The bundle {self.bundle.path} fails its own test tensors on {self.device}: {reasons}. "
            "Export the model again, or choose another device."
        )

    def _difference(
        self, predict: Predict, counts: NDArray[np.uint16], expected: NDArray[np.float32]
    ) -> float:
        planes = counts[0].reshape(-1, *counts.shape[-2:])  # of sources and depth
        output = self._run(predict, self._to_device(planes))
        return relative_difference(output.cpu().numpy(), expected)

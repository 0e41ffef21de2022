"""Where a network runs, and in what tiles; both change where memory is short."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from livestain.errors import LivestainError
from livestain.inference.backends import get_backend
from livestain.inference.choosing import choose_backend
from livestain.inference.memory import in_brief, is_out_of_memory, trim_heap
from livestain.inference.network import network_of
from livestain.inference.proving import close, forget
from livestain.inference.tiling import core_sizes, predict_tiled, tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from livestain.bundle.foreign_module import ForeignModule
    from livestain.bundle.module import StainModule
    from livestain.bundle.read import Bundle
    from livestain.inference.backends import Predict
    from livestain.inference.choosing import Choice
    from livestain.inference.trials import Trial
    from livestain.inference.upload import Upload

__all__ = ["Placement", "Shortage"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shortage:
    """Memory was exhausted, or the precision was too coarse for a plane, and what is done from now on.

    Attributes
    ----------
    why : str
        A sentence on both.
    device, backend : str
        Where the model computes now.
    tile : tuple of int or None
        Height and width of the tiles' cores, in the network's pixels; None for whole planes.
    tile_step : int
        How many times smaller tiles were taken: `Stainer`'s parameter for another one like this.
    tile_steps : int
        How many times they can be, on this device.
    precision : str
        The backend's.
    """

    why: str
    device: str
    backend: str
    tile: tuple[int, int] | None
    tile_step: int
    tile_steps: int
    precision: str


class _Weightless(nn.Module):
    """What a network says of the sizes it takes, without its weights."""

    def __init__(self, module: StainModule | ForeignModule) -> None:
        super().__init__()
        self.dims, self.divisor, self.divisor_z = module.dims, module.divisor, module.divisor_z


class Placement:
    """A bundle's network on a device: whole planes first, then ever smaller tiles, then the CPU.

    Parameters
    ----------
    bundle : Bundle
        The model.
    device : str
        "cpu" or "cuda:N".
    backend : str, optional
        See `choose_backend`; the choice is made again where the device changes.
    upload : Upload
        Brings the test input to the device.
    precision : str
        See `choose_backend`.
    frame : tuple of int, optional
        See `choose_backend`. Where tiles are taken from the start, candidates are timed with one.
    tile_step : int
        Begin with tiles that are so many times smaller; 0: with whole planes.
    tell : callable, optional
        Called with each `Shortage`, before the next attempt; by default a warning is logged.

    Raises
    ------
    BundleError
        If the bundle is damaged or fails its own test tensors.
    LivestainError
        If there is not enough memory for its weights.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str,
        backend: str | None,
        upload: Upload,
        *,
        precision: str = "fp32",
        frame: tuple[int, int, int] | None = None,
        tile_step: int = 0,
        tell: Callable[[Shortage], None] | None = None,
    ) -> None:
        self.device = device
        self.tile: tuple[int, int] | None = None
        self.tile_step = tile_step
        self.tile_steps = 0
        self._bundle = bundle
        self._wanted = backend
        self._precision = precision
        self._frame = frame
        self._upload = upload
        self._halo: int | None = None
        self._tell = tell or (lambda shortage: _log.warning("%s", shortage.why))
        self._predict: Predict | None = None
        self._trial: Trial | None = None
        self.closed = False
        self._load()

    def close(self) -> None:
        """Give the weights back."""
        self._forget()
        self.closed = True

    def in_fp32(self) -> Placement:
        """Return another one for the same bundle on the same device, in float32."""
        return Placement(
            self._bundle,
            self.device,
            None,
            self._upload,
            frame=self._frame,
            tile_step=self.tile_step,
            tell=self._tell,
        )

    def attempt(self, shape: tuple[int, int], predict: Callable[[], _T]) -> _T:
        """Call a function that calls `run`, again after each shortage of memory.

        Parameters
        ----------
        shape : tuple of int
            Height and width of the planes that `run` will be given, in the network's pixels.
        predict : callable
            What is tried; its result is returned.

        Raises
        ------
        LivestainError
            If there is not enough memory for the smallest tiles on the CPU.
        """
        grid = self.module.divisor
        on_grid = (shape[0] + -shape[0] % grid, shape[1] + -shape[1] % grid)
        sizes = core_sizes(on_grid, divisor=grid, halo=self._halo)
        if self._predict is None:  # there was no room on the CPU either; by now there may be
            self._load()
        self.tile_steps = len(sizes) - 1
        while True:
            step = min(self.tile_step, self.tile_steps)
            self.tile = sizes[step] if step else None
            try:
                return predict()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                why = in_brief(error)
            finally:
                self._end_trial()
            # Here, since an error that is being handled holds the tensors of its traceback.
            self._make_do(why, sizes, step)

    def run(self, x: torch.Tensor) -> torch.Tensor:
        """Predict (n, outputs, [z], y, x) float32 from planes that are normalised and on the grid."""
        assert self._predict is not None  # noqa: S101 - `attempt` has looked
        if self.tile is None:
            return self._predict(x)
        assert self._halo is not None  # noqa: S101 - without one there are no tiles
        return predict_tiled(
            self._predict, x, self.tile, divisor=self.module.divisor, halo=self._halo
        )

    def _make_do(self, why: str, sizes: tuple[tuple[int, int], ...], step: int) -> None:
        """Take smaller tiles, or the CPU, and say so; an error if there is nothing smaller."""
        if self._predict is not None:
            forget(self._predict)
        self._let_go()
        what = f"{'tiles' if step else 'planes'} of {sizes[step][0]} x {sizes[step][1]} pixels"
        lack = f"The model {self._bundle.name} lacks memory on {self.device} for {what} ({why})"
        if step + 1 < len(sizes):
            self.tile_step = step + 1
            self.tile = sizes[self.tile_step]
            self.say(f"{lack}: it goes on in tiles of {self.tile[0]} x {self.tile[1]}.")
            return
        if self._halo is None:
            lack += "; it sees the whole plane and cannot be cut into tiles"
        elif step:
            lack += "; smaller ones would be margin alone"
        if self.device == "cpu":
            raise LivestainError(
                f"{lack}. Close other programs, or use a smaller field or another model."
            )
        self._move_to_cpu()
        self._load()
        self.say(f"{lack}: it goes on on the CPU.")

    def _load(self) -> None:
        """Load the weights: on the CPU where the device has no room for them."""
        lack = ""
        while True:
            try:
                self.module = self._bundle.load_module()
                if network_of(self._bundle, self.module).module is None:
                    self.device = (
                        "cpu"  # runtimes of ONNX compute there, and copies would cost time
                    )
                chosen = choose_backend(
                    self._bundle,
                    self.module,
                    self._wanted,
                    torch.device(self.device),
                    self._upload,
                    precision=self._precision,
                    frame=self._timed(),
                )
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                why = in_brief(error)
            self._let_go()
            lack = f"The model {self._bundle.name} finds no room on {self.device} ({why})"
            if self.device == "cpu":
                raise LivestainError(f"{lack}. Close other programs, or use another model.")
            self._move_to_cpu()
        self._halo = self.module.halo
        self.module.network = _Weightless(self.module)  # the backend has the weights
        self._predict, self.backend = chosen.predict, chosen.name
        self.difference, self.refused = chosen.difference, chosen.refused
        self.choice: Choice = chosen.choice
        self._trial = chosen.trial
        if lack:
            self.say(f"{lack}: it goes on on the CPU.")

    def _timed(self) -> tuple[int, int, int] | None:
        """Return the frame by which candidates are timed: a tile of it where there is no memory for more."""
        if self._frame is None or not self.tile_step:
            return self._frame
        grid, halo = self.module.divisor, self.module.halo
        depth, height, width = self._frame
        whole = (height + -height % grid, width + -width % grid)
        sizes = core_sizes(whole, divisor=grid, halo=halo)
        if halo is None or len(sizes) == 1:
            return self._frame
        core = sizes[min(self.tile_step, len(sizes) - 1)]
        largest = max(tiles(whole, core, divisor=grid, halo=halo), key=lambda tile: tile.pixels)
        rows, columns = (part.stop - part.start for part in largest.seen)
        return (depth, rows, columns)

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._trial.end()
            self._trial = None

    def _forget(self) -> None:
        self._end_trial()
        if self._predict is not None:
            close(self._predict)
        self._predict = None

    def _move_to_cpu(self) -> None:
        self._forget()
        self._upload.forget()
        self._let_go()
        self.device, self.tile_step, self.tile = "cpu", 0, None

    def _let_go(self) -> None:
        """Give back what a failed attempt may still hold."""
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        trim_heap()

    def say(self, why: str) -> None:
        """Tell how it computes from now on, and why."""
        precision = get_backend(self.backend).precision
        steps = self.tile_step, self.tile_steps
        self._tell(Shortage(why, self.device, self.backend, self.tile, *steps, precision))

"""What a Stainer tells of where and how it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livestain.inference.backends import get_backend

if TYPE_CHECKING:
    from livestain.inference.backends import Precision
    from livestain.inference.choosing import Choice
    from livestain.inference.placement import Placement
    from livestain.inference.windows import Windows

__all__ = ["Told"]


class Told:
    """The properties of a `Stainer`."""

    _windows: Windows
    _placed: Placement

    @property
    def resampled(self) -> float | None:
        """Given pixel size divided by the model's, or None where nothing is resampled."""
        return self._windows.resampled

    @property
    def resampled_z(self) -> float | None:
        """The same of the z-step."""
        return self._windows.resampled_z

    @property
    def backend(self) -> str:
        """The backend in use."""
        return self._placed.backend

    @property
    def precision(self) -> Precision:
        """Its arithmetic."""
        return get_backend(self._placed.backend).precision

    @property
    def refused(self) -> dict[str, str]:
        """Why a backend that was tried is not used."""
        return self._placed.refused

    @property
    def choice(self) -> Choice:
        """How the backend was chosen."""
        return self._placed.choice

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

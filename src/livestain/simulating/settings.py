"""What a simulated movie is made of: with these settings each of its pixels can be computed again."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from livestain.settings import Settings
from livestain.simulate import Profile, find_profile
from livestain.simulate.profiles import DEFAULT_PROFILE

__all__ = ["KINDS", "MovieSettings"]

_Side = Annotated[int, Field(ge=16)]

KINDS: dict[str, dict[str, Any]] = {
    "2d": {"fields": 4},
    "stack": {"fields": 2, "planes": 11},
    "time": {"times": 20},
}
"""What is usual for a kind of movie, where nothing else is said."""


class MovieSettings(Settings):
    """One simulated movie: a dish, and what is taken of it."""

    profile: Profile = Field(default_factory=lambda: find_profile(DEFAULT_PROFILE))
    """Cells, objective, camera and light, in full."""

    seed: int = Field(default=1, ge=0)
    """Which dish; also decides where the fields lie and how far they are out of focus."""

    size: tuple[_Side, _Side] = (256, 256)
    """Height and width of a plane in pixels."""

    fields: int = Field(default=1, ge=1)
    """Fields of view; so far apart that no cell is in two of them."""

    planes: int = Field(default=1, ge=1)
    """Planes of a stack, its middle in focus."""

    z_step_um: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Distance of the planes in micrometres; that of the profile where left out."""

    times: int = Field(default=1, ge=1)
    """Time points."""

    interval_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Seconds from one time point to the next."""

    focus_spread_um: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Standard deviation, in micrometres, of how far fields are out of focus, as users' are; where left
    out 0.3 of single planes and 0 of stacks, which hold the focus anyway."""

    brightfield_ms: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Exposure of brightfield in milliseconds."""

    exposure_ms: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    """Exposure of fluorescence in milliseconds; the longer, the less noise."""

    dna: bool = False
    """Whether there is a second label, of DNA."""

    @model_validator(mode="after")
    def _filled_in(self) -> Self:
        # Frozen for users; what was left out is part of what the movie is.
        if self.z_step_um is None:
            object.__setattr__(self, "z_step_um", self.profile.z_step_um)
        if self.focus_spread_um is None:
            spread = 0.3 if self.planes == 1 else 0.0
            object.__setattr__(self, "focus_spread_um", spread)
        return self

    @property
    def z_step(self) -> float:
        """Distance of the planes in micrometres."""
        return self.z_step_um or self.profile.z_step_um

    @property
    def focus_spread(self) -> float:
        """Standard deviation of how far fields are out of focus, in micrometres."""
        return self.focus_spread_um or 0.0

    @property
    def n_planes(self) -> int:
        """Places (field, time point, z) of the movie; each has a plane a channel."""
        return self.fields * self.times * self.planes

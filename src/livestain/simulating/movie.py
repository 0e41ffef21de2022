"""A simulated movie: where its planes lie in the dish, what they show, and the plan of its store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from livestain.errors import StoreError
from livestain.planes import PlaneIndex
from livestain.simulate import Dish
from livestain.simulating.settings import MovieSettings
from livestain.store import ChannelPlan, PlannedBlock, PositionPlan, StorePlan
from livestain.store.plan import TruthPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from livestain.simulate import NetworkNumbers
    from livestain.simulate.dish import Label
    from livestain.store import Store

__all__ = ["Shown", "SimulatedMovie", "channels_of"]

_THICKEST_UM = 10.0
"""Micrometres of label, one above the other, whose light the truth's counts can hold at least."""

_FIELDS_A_TIME = 4
"""Fields between which planes are made by turns: a dish remembers that many with room to spare."""

_START = 1.25
"""Where the first field may lie: within a square of this many fields, around the dish's middle."""


@dataclass(frozen=True)
class Shown:
    """What a plane shows: the arguments of the dish's methods.

    Attributes
    ----------
    time_s : float
        Age of the dish in seconds.
    z_um : float
        Height of the focal plane.
    xy_um : (float, float)
        Centre of the field.
    frame : int
        Number of the frame, which seeds its noise.
    """

    time_s: float
    z_um: float
    xy_um: tuple[float, float]
    frame: int


@dataclass(frozen=True)
class _Content:
    """What a channel shows."""

    label: Label | None = None
    truth: bool = False
    color: str = "FFFFFF"


_CHANNELS = {
    "Brightfield": _Content(),
    "Mitochondria": _Content("mitochondria", color="00FF00"),
    "Mitochondria truth": _Content("mitochondria", truth=True, color="00FF00"),
    "DNA": _Content("dna", color="4080FF"),
    "DNA truth": _Content("dna", truth=True, color="4080FF"),
}


def channels_of(settings: MovieSettings) -> tuple[str, ...]:
    """Return the names of a movie's channels, in the store's order."""
    return tuple(
        name for name, content in _CHANNELS.items() if settings.dna or content.label != "dna"
    )


class SimulatedMovie:
    """The planes of one movie, computed when they are asked for; the same settings give the same pixels.

    All channels of a place show the dish at one moment: the truth fits each of them pixel by pixel. Planes of
    a stack, too, are of one moment.

    Parameters
    ----------
    settings : MovieSettings

    Attributes
    ----------
    settings : MovieSettings
    channels : tuple of str
        In the store's order.
    focus_um : tuple of float
        How far each field is out of focus.
    centres_um : tuple of (float, float)
        Centre (x, y) of each field.
    """

    def __init__(self, settings: MovieSettings) -> None:
        self.settings = settings
        self.channels = channels_of(settings)
        # A stream of its own: the dish's begin with the seed and something else.
        rng = np.random.default_rng([settings.seed, 0xF1E1D5])
        start = rng.uniform(-0.5, 0.5, 2)
        high, wide = (side * settings.profile.pixel_size_um for side in settings.size)
        # With a largest cell between them no cell is in two fields, which would be one in training and in
        # validation.
        apart = 2 * settings.profile.cells.reach_um
        across = math.ceil(math.sqrt(settings.fields))
        self.centres_um = tuple(
            (
                round(float(start[0] * _START * wide + n % across * (wide + apart)), 3),
                round(float(start[1] * _START * high + n // across * (high + apart)), 3),
            )
            for n in range(settings.fields)
        )
        away = rng.standard_normal(settings.fields) * settings.focus_spread
        self.focus_um = tuple(round(float(z), 3) for z in away)

    @cached_property
    def dish(self) -> Dish:
        """The dish, made when it is first looked at: it takes memory."""
        return Dish(self.settings.seed, self.settings.profile, shape=self.settings.size)

    @classmethod
    def of_store(cls, store: Store) -> SimulatedMovie:
        """Return the movie that a store was made from, to compute its planes again.

        Raises
        ------
        StoreError
            If it is no simulated movie.
        SettingsError
            If another version of livestain made it, with settings that are not known here.
        """
        made = store.attributes.get("simulation")
        if not isinstance(made, dict) or "settings" not in made:
            raise StoreError(
                f"{store.path} was not made by livestain simulate. Expected a store that it has written."
            )
        where = f"the simulation of {store.path}"
        return cls(MovieSettings.parse(made["settings"], where=where))

    # -- where ---------------------------------------------------------------------------------------

    def shown(self, p: int, t: int, z: int) -> Shown:
        """Return what the planes at a place show."""
        settings = self.settings
        up = (z - (settings.planes - 1) / 2) * settings.z_step if settings.planes > 1 else 0.0
        return Shown(
            time_s=t * settings.interval_s,
            z_um=round(self.focus_um[p] + up, 6),
            xy_um=self.centres_um[p],
            frame=(p * settings.times + t) * settings.planes + z,
        )

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Yield all places (p, t, z) in the order in which they are computed soonest.

        What costs most is a new focus, then a new field: so all fields and times of one focus come together.
        """
        settings = self.settings
        for first in range(0, settings.fields, _FIELDS_A_TIME):
            fields = range(first, min(first + _FIELDS_A_TIME, settings.fields))
            for z in range(settings.planes):
                for p in fields:
                    for t in range(settings.times):
                        yield p, t, z

    # -- what ----------------------------------------------------------------------------------------

    def exposure_ms(self, channel: str) -> float | None:
        """Return the exposure of a channel in milliseconds; None of a truth."""
        content = _CHANNELS[channel]
        if content.truth:
            return None
        settings = self.settings
        return settings.brightfield_ms if content.label is None else settings.exposure_ms

    def plane(self, channel: str, p: int, t: int, z: int) -> NDArray[Any]:
        """Return a plane: the camera's counts, or, of a truth, float32 in its unit; (y, x)."""
        at, content = self.shown(p, t, z), _CHANNELS[channel]
        if content.label is None:
            return self.dish.brightfield(
                at.time_s,
                at.z_um,
                at.xy_um,
                exposure_ms=self.settings.brightfield_ms,
                frame=at.frame,
            )
        if content.truth:
            return self.dish.truth(at.time_s, at.z_um, at.xy_um, content.label)
        return self.dish.fluorescence(
            at.time_s,
            at.z_um,
            at.xy_um,
            exposure_ms=self.settings.exposure_ms,
            frame=at.frame,
            label=content.label,
        )

    def mask(self, p: int, t: int, z: int) -> NDArray[np.bool_]:
        """Return which pixels mitochondria cover; see `Dish.mask`."""
        at = self.shown(p, t, z)
        return self.dish.mask(at.time_s, at.z_um, at.xy_um)

    def network(self, p: int, t: int) -> NetworkNumbers:
        """Return length and number of the mitochondria in a field, at all heights."""
        at = self.shown(p, t, 0)
        return self.dish.network(at.time_s, at.xy_um)

    # -- its store -----------------------------------------------------------------------------------

    def coding(self, channel: str) -> TruthPlan | None:
        """Return how a truth is stored; None of what a camera takes."""
        content, profile = _CHANNELS[channel], self.settings.profile
        if not content.truth:
            return None
        brightness = (
            profile.fluorescence_electrons_per_ms
            if content.label == "mitochondria"
            else profile.dna_electrons_per_ms
        )
        # A round number, and the same for all movies of a profile.
        scale = 10.0 ** math.ceil(math.log10(brightness * _THICKEST_UM / 65534))
        return TruthPlan(
            scale=scale,
            offset=-scale,  # stored 1 is darkness: 0 stands for what is not known
            unit="photo-electrons per pixel and millisecond",
        )

    def store_plan(self) -> StorePlan:
        """Return the plan of its store."""
        settings = self.settings
        several = settings.fields > 1
        everywhere = PlannedBlock(
            p=tuple(range(settings.fields)),
            t=tuple(range(settings.times)),
            z=tuple(range(settings.planes)),
        )
        return StorePlan(
            positions=tuple(
                PositionPlan(
                    name=f"field-{p + 1:03d}",
                    path=str(p) if several else "",
                    x_um=self.centres_um[p][0],
                    y_um=self.centres_um[p][1],
                    z_um=self.shown(p, 0, 0).z_um,
                )
                for p in range(settings.fields)
            ),
            n_t=settings.times,
            n_z=settings.planes,
            height=settings.size[0],
            width=settings.size[1],
            pixel_size_um=settings.profile.pixel_size_um,
            z_step_um=settings.z_step if settings.planes > 1 else None,
            t_interval_s=settings.interval_s if settings.times > 1 else None,
            channels=tuple(
                ChannelPlan(
                    name=name,
                    kind="raw",
                    color=_CHANNELS[name].color,
                    planned=(everywhere,),
                    truth=self.coding(name),
                )
                for name in self.channels
            ),
        )

    def index(self, channel: str, p: int, t: int, z: int) -> PlaneIndex:
        """Return where a plane lies in the store."""
        return PlaneIndex(p, t, self.channels.index(channel), z)

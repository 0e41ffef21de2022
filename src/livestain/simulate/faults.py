"""What goes wrong at a microscope, each by its own switch: numbers alone, all off by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from livestain.errors import SettingsError
from livestain.settings import FiniteSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Bubble", "Faults", "LampDrop"]

# Streams of random numbers, so that one fault leaves another's as they are.
_DROPPED, _FAILED, _JITTER, _FLICKER, _BUBBLE = range(5)

_OFF = "off"


def _not_a_bare_number(value: Any) -> Any:
    # 1 in a text is frame 1, and as a share all frames: nobody should have to guess which is meant.
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(
            f"expected a share with a decimal point ({float(value)}) or a tuple of numbers of frames "
            f"(({value},))"
        )
    return value


def _share_or_numbers(value: float | tuple[int, ...]) -> float | tuple[int, ...]:
    if isinstance(value, tuple):
        if any(n < 0 for n in value):
            raise ValueError("numbers of frames are 0 or greater")
    elif not 0 <= value <= 1:
        raise ValueError("a share lies between 0 and 1")
    return value


_Frames = Annotated[
    tuple[int, ...] | float,
    BeforeValidator(_not_a_bare_number),
    AfterValidator(_share_or_numbers),
]
"""Which frames: a share of them, at random, or their numbers, counted from 0 as the camera shows them."""


class LampDrop(FiniteSettings):
    """The light grows weaker at once and stays so."""

    frame: int = Field(ge=0)
    """The first frame that is darker."""

    remaining: float = Field(ge=0, le=1)
    """Share of the light that is left."""


class Bubble(FiniteSettings):
    """An air bubble drifts through the medium, above the cells."""

    frame: int = Field(ge=0)
    """The first frame in which it can be seen."""

    frames: int = Field(ge=1)
    """For how many frames it passes."""


class Faults(FiniteSettings):
    """Switches of what goes wrong; the same settings give the same faults.

    Frames are numbered from 0 as the camera shows them, lost ones counted.

    Examples
    --------
    >>> faults = Faults.of_text(["dropped_frames=3,7", "flicker=0.05"])
    >>> faults.drops(7), faults.drops(8)
    (True, False)
    >>> faults.text("dropped_frames")
    '3,7'
    """

    seed: int = Field(default=0, ge=0)
    """Which chance."""

    dropped_frames: _Frames = 0.0
    """Frames that are lost on their way from the camera: in a triggered burst a number is left out, a snap
    fails. The cells get their light all the same."""

    failed_snaps: _Frames = 0.0
    """Snaps that the camera fails to take; triggered bursts have none."""

    slow_readout_ms: float = Field(default=0.0, ge=0, le=60_000)
    """How much longer the camera takes for each frame, in milliseconds."""

    focus_drift_um_per_min: float = 0.0
    """How fast the focal plane moves up in the dish by itself, in micrometres per minute of its age."""

    stage_jitter_um: float = Field(default=0.0, ge=0)
    """How far a stage misses its position: standard deviation in x and in y, in micrometres; anew at each
    position and time point of a run, and for each frame outside one."""

    flicker: float = Field(default=0.0, ge=0, le=1)
    """Relative standard deviation of the light's brightness from frame to frame."""

    lamp_drop: LampDrop | None = None
    """When the light grows weaker, and how much of it is left."""

    bubble: Bubble | None = None
    """When an air bubble passes the field, out of focus, in the transmitted light."""

    wrong_objective: str | None = None
    """Label of the objective that the light really goes through, whatever Micro-Manager believes; its pixel
    size is then false."""

    @classmethod
    def of_text(cls, options: Sequence[str], *, where: str = "fault") -> Faults:
        """Read NAME=VALUE words, as the command line has them.

        Parameters
        ----------
        options : sequence of str
            Values are numbers; for `dropped_frames` and `failed_snaps` a share with a decimal point
            (0.1) or the numbers of frames (3,7); for `lamp_drop` FRAME:SHARE; for `bubble`
            FRAME:FRAMES; "off" for any.
        where : str
            What to call them in errors.

        Raises
        ------
        SettingsError
            If a name is not known, comes twice, or a value does not fit.
        """
        values: dict[str, Any] = {}
        for option in options:
            name, equals, text = option.partition("=")
            if not (name and equals and text):
                raise SettingsError(
                    f"{where} {option!r} is not NAME=VALUE, for example dropped_frames=0.05; names "
                    f"are {', '.join(cls.names())}."
                )
            if name in values:
                raise SettingsError(f"{where} was given twice for {name!r}; give it once.")
            values[name] = _value(name, text.strip(), f"{where} {option!r}")
        return cls.parse({n: v for n, v in values.items() if v != _OFF}, where=where)

    @classmethod
    def described(cls) -> dict[str, str]:
        """Return what each switch does and the form of its value, by name."""
        return {
            name: f"{' '.join((field.description or '').split())} VALUE: {_FORMS[name]}."
            for name, field in cls.model_fields.items()
        }

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all switches."""
        return tuple(cls.model_fields)

    def with_text(self, name: str, text: str, *, where: str = "fault") -> Faults:
        """Return these faults with one switch set as `of_text` reads it."""
        value = _value(name, text.strip(), f"{where} {name}={text}")
        kept = {n: v for n, v in self.model_dump().items() if n != name}
        return Faults.parse(kept if value == _OFF else {**kept, name: value}, where=where)

    def text(self, name: str) -> str:
        """Return a switch's value as `of_text` reads it."""
        value = getattr(self, name)
        if value is None:
            return _OFF
        if isinstance(value, LampDrop):
            return f"{value.frame}:{value.remaining!r}"
        if isinstance(value, Bubble):
            return f"{value.frame}:{value.frames}"
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    # -------------------------------------------------------------- what happens

    def drops(self, frame: int) -> bool:
        """Return whether a frame is lost on its way."""
        return self._happens(self.dropped_frames, _DROPPED, frame)

    def fails(self, frame: int) -> bool:
        """Return whether the camera fails to take a frame, if it is a snap."""
        return self._happens(self.failed_snaps, _FAILED, frame)

    def focus_um(self, time_s: float) -> float:
        """Return how far the focal plane has drifted at an age of the dish, in micrometres."""
        return self.focus_drift_um_per_min * time_s / 60

    def stage_um(self, *visit: int) -> tuple[float, float]:
        """Return by how much (x, y) the stage misses its position, in micrometres.

        Parameters
        ----------
        *visit : int
            Which visit of which position: the same numbers give the same miss.
        """
        if not self.stage_jitter_um:
            return 0.0, 0.0
        x, y = self._rng(_JITTER, *visit).normal(0.0, self.stage_jitter_um, 2)
        return float(x), float(y)

    def brightness(self, frame: int) -> float:
        """Return the light's brightness in a frame, relative to what it should be."""
        light = 1.0
        if self.flicker:
            light = max(0.0, float(self._rng(_FLICKER, frame).normal(1.0, self.flicker)))
        if self.lamp_drop is not None and frame >= self.lamp_drop.frame:
            light *= self.lamp_drop.remaining
        return light

    def shadow(self, frame: int, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Return what a passing bubble leaves of the transmitted light, or None where there is none.

        Air in water is a strong diverging lens: light that meets it off its middle leaves the aperture
        or is totally reflected, so that it shows as a disc that is dark but for its middle. It floats
        far above the focal plane: its edge is soft. Fluorescence is excited and seen from below it.

        Parameters
        ----------
        frame : int
            Number of the frame.
        shape : (int, int)
            Size (y, x) of the frame in pixels.

        Returns
        -------
        array of float32, (y, x), or None
            Relative brightness.
        """
        bubble = self.bubble
        if bubble is None or not 0 <= frame - bubble.frame < bubble.frames:
            return None
        height, width = shape
        high, size = self._rng(_BUBBLE, bubble.frame).uniform((0.35, 0.25), (0.65, 0.35))
        radius = float(size) * min(shape)
        way = (frame - bubble.frame + 0.5) / bubble.frames
        x = np.arange(width, dtype=np.float32) - np.float32(way * width)
        y = np.arange(height, dtype=np.float32) - np.float32(high * height)
        rho = np.sqrt(y[:, None] ** 2 + x[None, :] ** 2) / np.float32(radius)
        inside = 1 / (1 + np.exp(np.minimum((rho - 1) / np.float32(0.1), np.float32(60))))
        middle = np.exp(-((rho / np.float32(0.3)) ** 2))
        return np.asarray(1 - inside * (0.6 - 0.5 * middle), dtype=np.float32)

    def _happens(self, which: float | tuple[int, ...], stream: int, frame: int) -> bool:
        if isinstance(which, tuple):
            return frame in which
        return which > 0 and bool(self._rng(stream, frame).random() < which)

    def _rng(self, stream: int, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1000 + stream, *numbers])


def _value(name: str, text: str, what: str) -> Any:
    """Return a switch's value from its text; a name that is not known goes on to be refused."""
    if text == _OFF or name not in Faults.model_fields or name == "wrong_objective":
        return text
    try:
        if name in ("lamp_drop", "bubble"):
            first, second = text.split(":")
            key = "remaining" if name == "lamp_drop" else "frames"
            return {"frame": int(first), key: float(second) if name == "lamp_drop" else int(second)}
        if name in ("dropped_frames", "failed_snaps"):
            if "," in text or text.isdecimal():
                return tuple(int(part) for part in text.split(",") if part.strip())
            return float(text)
        return int(text) if name == "seed" else float(text)
    except ValueError:
        raise SettingsError(
            f"{what} has a value that cannot be read; expected {_FORMS[name]}."
        ) from None


_FORMS = {
    "seed": "a whole number",
    "dropped_frames": "a share with a decimal point (0.05) or numbers of frames (3,7)",
    "failed_snaps": "a share with a decimal point (0.05) or numbers of frames (3,7)",
    "slow_readout_ms": "milliseconds",
    "focus_drift_um_per_min": "micrometres per minute",
    "stage_jitter_um": "micrometres",
    "flicker": "a relative standard deviation (0.05)",
    "lamp_drop": "FRAME:SHARE, the first darker frame and the share of the light that is left (30:0.4)",
    "wrong_objective": "a label of the turret, or 20x, 60x, 100x",
    "bubble": "FRAME:FRAMES, the first frame with the bubble and for how many it passes (10:20)",
}

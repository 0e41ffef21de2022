"""Profiles: a kind of cell, an objective, a camera and their light, under one name."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from livestain.errors import SettingsError
from livestain.settings import FiniteSettings, read_yaml
from livestain.simulate.kinds import CellKind
from livestain.simulate.light_dose import Illumination
from livestain.simulate.optics import Optics
from livestain.simulate.sensor import Sensor

__all__ = ["DEFAULT_PROFILE", "Profile", "find_profile", "profile_names"]

DEFAULT_PROFILE = "hela-60x"
"""The profile of the demo and of the model that it shows."""


def _apart(scales: tuple[float, float]) -> tuple[float, float]:
    if not scales[0] < scales[1]:
        # A pattern between two equal scales has nothing in it.
        raise ValueError(f"expected the finer scale first; given {scales[0]} and {scales[1]}")
    return scales


_Scale = Annotated[float, Field(ge=0.01)]
_Scales = Annotated[tuple[_Scale, _Scale], AfterValidator(_apart)]


class Profile(FiniteSettings):
    """Everything about a simulated microscope and its cells but the seed and the frame's size."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Short name."""

    about: str = ""
    """What it is like, in a sentence; shown by `livestain simulate --list`."""

    pixel_size_um: float = Field(default=0.1, gt=0)
    """Side of a pixel in the sample, in micrometres."""

    z_step_um: float = Field(default=0.5, gt=0)
    """Distance of the planes of a stack that suits the objective, in micrometres."""

    cells: CellKind = CellKind()
    """What lies in the dish."""

    optics: Optics = Optics()
    """Objective, condenser and wavelengths."""

    sensor: Sensor = Sensor()
    """The camera."""

    light: Illumination = Illumination()
    """How bright the light is, and what it does to label and cells."""

    brightfield_electrons_per_ms: float = Field(default=500.0, gt=0)
    """Photo-electrons per pixel and millisecond where nothing is in the light's way."""

    fluorescence_electrons_per_ms: float = Field(default=6.0, gt=0)
    """Photo-electrons per pixel and millisecond of a micrometre of labelled matrix."""

    dna_electrons_per_ms: float = Field(default=1.5, gt=0)
    """Photo-electrons per pixel and millisecond of a micrometre of nucleus."""

    autofluorescence: float = Field(default=0.03, ge=0)
    """Photo-electrons per pixel and millisecond of a micrometre of cell, whatever its label."""

    glow: float = Field(default=0.02, ge=0)
    """Photo-electrons per pixel and millisecond of medium, glass and stray light."""

    absorption: float = Field(default=0.06, ge=0)
    """Amplitude absorption per radian of phase: light that organelles scatter out of the aperture."""

    uneven: float = Field(default=0.03, ge=0, lt=0.3)
    """How much the lamp's brightness falls off towards the corners, and at most slopes, as shares."""

    texture: float = Field(default=0.0, ge=0, lt=0.5)
    """Standard deviation, as a share, of the brightfield's fixed pattern: out-of-focus dust, fringes of the
    camera's window."""

    texture_um: _Scales = (0.15, 0.4)
    """Finest and coarsest scale of that pattern, in micrometres in the sample."""


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that come with livestain."""
    folder = resources.files("livestain.simulate") / "profiles"
    return tuple(
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
    )


def find_profile(name: str | Path) -> Profile:
    """Return a profile by name, or from a YAML file of one's own.

    Raises
    ------
    SettingsError
        If there is no such profile, or the file does not fit.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return Profile.from_yaml(path)
    known = profile_names()
    if str(name) not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SettingsError(
            f"There is no profile {name}; expected one of {', '.join(known)}, or a YAML file.{hint}"
        )
    with resources.as_file(
        resources.files("livestain.simulate") / "profiles" / f"{name}.yaml"
    ) as file:
        return Profile.parse(read_yaml(file), where=f"profile {name}")

"""Kinds of cells: how large they are, and what is in them and how much, in numbers."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from livestain.settings import FiniteSettings

__all__ = [
    "Amounts",
    "Bodies",
    "CellKind",
    "Factors",
    "Mitochondria",
    "Nucleus",
    "Numbers",
    "Sizes",
    "Span",
]


_Number = TypeVar("_Number", int, float)


def _ordered(span: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
    if span[0] > span[1]:
        raise ValueError(f"expected the smaller number first; given {span[0]} to {span[1]}")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""A range that is drawn from evenly: least and greatest, of either sign."""

_Amount = Annotated[float, Field(ge=0)]
_Size = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=0)]

Amounts = Annotated[tuple[_Amount, _Amount], AfterValidator(_ordered)]
"""A range of what may be 0."""

Sizes = Annotated[tuple[_Size, _Size], AfterValidator(_ordered)]
"""A range of what cannot be 0: lengths, times."""

_Factor = Annotated[float, Field(ge=1)]

Factors = Annotated[tuple[_Factor, _Factor], AfterValidator(_ordered)]
"""A range of factors that make longer."""

Numbers = Annotated[tuple[_Count, _Count], AfterValidator(_ordered)]
"""A range of whole numbers."""


class Bodies(FiniteSettings):
    """Small round bodies of one sort, none of them a mitochondrion."""

    number: Amounts = (0, 0)
    """Bodies a cell, least and greatest."""

    radius_um: Sizes = (0.15, 0.35)
    """Radius in micrometres."""

    index: Span = (0.01, 0.03)
    """Refractive index above the cytoplasm's."""

    inner: float = Field(default=1.05, ge=0)
    """How near to the nucleus: in units of the nucleus' outline (1 is its edge, 0 its centre)."""

    outer: float = Field(default=0.9, gt=0)
    """How near to the cell's edge: in units of its outline; above 1 outside."""

    height: Amounts = (0.1, 0.7)
    """Height above the glass as a share of the cell's thickness there; above 1 it floats over the cell."""

    crowded: float = Field(default=0.0, ge=0, le=1)
    """Share of them that lies in the crowd beside the nucleus (the centrosome's side), not anywhere."""

    floating: bool = False
    """Whether they are not within the cell but on or above it, as debris is."""


class Nucleus(FiniteSettings):
    """The nucleus, its nucleoli and its chromatin."""

    radii_um: tuple[Sizes, Sizes] = ((3.0, 4.0), (2.5, 3.2))
    """Long and short half axis in micrometres."""

    height_um: float = Field(default=2.6, ge=0)
    """Thickness at its middle, at most four fifths of the cell's there."""

    index: float = -0.006
    """Refractive index above the cytoplasm's: nuclei are below it."""

    envelope: float = Field(default=0.0, ge=0)
    """Optical path of the nuclear envelope seen edge-on, in micrometres."""

    nucleoli: Numbers = (2, 4)
    """Nucleoli, least and greatest."""

    nucleolus_radius_um: Sizes = (0.45, 0.85)
    """Their radius in micrometres."""


class Mitochondria(FiniteSettings):
    """The network of mitochondria."""

    number: Amounts = (34, 50)
    """Tubes and fragments a cell."""

    length_um: float = Field(default=3.6, gt=0)
    """Median length of a tube; lengths are log-normal."""

    length_spread: float = Field(default=0.55, ge=0)
    """Standard deviation of the lengths' logarithm."""

    longest_um: float = Field(default=10.9, gt=0)
    """No tube is longer."""

    diameter_um: float = Field(default=0.42, ge=0.3, le=0.8)
    """Median diameter; diameters are log-normal within 0.3 and 0.8."""

    diameter_spread: float = Field(default=0.2, ge=0)
    """Standard deviation of the diameters' logarithm."""

    rounded: float = Field(default=0.15, ge=0, le=1)
    """Share of mitochondria that are round fragments."""

    branching: float = Field(default=0.33, ge=0, lt=1)
    """Share of tubes that begin on another one."""

    turning: float = Field(default=0.17, ge=0)
    """Standard deviation of the turn a tenth of a micrometre, in radians: how curled tubes are."""

    index: Span = (0.034, 0.050)
    """Refractive index above the cytoplasm's."""

    crowded: float = Field(default=0.0, ge=0, le=1)
    """Share that lies in the crowd beside the nucleus, not anywhere."""

    outer: float = Field(default=0.85, gt=0)
    """How near to the cell's edge tubes begin, in units of its outline."""

    height: Amounts = (0.25, 0.7)
    """Height above the glass as a share of the cell's thickness where the tube begins."""

    label: Literal["matrix", "membrane"] = "matrix"
    """Where the dye is: all through the tube (MitoTracker), or in its outer membrane alone (OMP25), so that
    its walls are brighter than its middle."""

    wander_um: float = Field(default=0.3, ge=0)
    """How far a tube wanders from its place within minutes, in micrometres."""

    fission_s: Sizes = (120, 500)
    """Seconds in which a place of a tube divides and fuses again."""


class CellKind(FiniteSettings):
    """One kind of cell, of which a dish is full."""

    spacing_um: float = Field(default=17.0, gt=0)
    """Side of the square that one cell sits in."""

    jitter_um: float = Field(default=3.5, ge=0)
    """How far from the middle of its square a cell may sit."""

    radius_um: Sizes = (8.0, 10.0)
    """Mean radius of the outline."""

    stretch: Factors = (1.0, 1.35)
    """How much longer than round; the other axis is shorter by as much."""

    roughness: tuple[_Amount, ...] = (0.10, 0.07, 0.05, 0.04)
    """Standard deviation of the outline's waves of 2, 3, 4 … periods, as shares of the radius."""

    height_um: Sizes = (3.2, 4.2)
    """Thickness at the middle."""

    edge_um: float = Field(default=0.9, gt=0)
    """Thickness near the edge."""

    peak: float = Field(default=1.0, gt=0)
    """How much of the thickness is around the middle: 1 is a dome, 3 a flat cell with a hump."""

    crowd_um: float = Field(default=3.0, gt=0)
    """Standard deviation of the crowd beside the nucleus, where organelles gather."""

    index: float = 0.022
    """Refractive index of the cytoplasm above the medium's."""

    nucleus: Nucleus = Nucleus()
    """The nucleus."""

    nucleus_offset_um: float = Field(default=1.0, ge=0)
    """Standard deviation of the nucleus' distance from the middle, along each axis."""

    mitochondria: Mitochondria = Mitochondria()
    """What a model is to find."""

    droplets: Bodies = Bodies(
        number=(25, 60), radius_um=(0.15, 0.38), index=(0.075, 0.10), outer=0.8
    )
    """Lipid droplets: small, and of the highest index."""

    vesicles: Bodies = Bodies(
        number=(60, 120), radius_um=(0.15, 0.4), index=(-0.022, -0.010), inner=0.3, outer=0.95
    )
    """Vesicles: filled with water, below the cytoplasm's index."""

    granules: Bodies = Bodies(
        number=(80, 150), radius_um=(0.13, 0.34), index=(0.014, 0.035), inner=0.0, outer=0.95
    )
    """Lysosomes, granules and the like: of the mitochondria's size and index."""

    debris: Bodies = Bodies(
        number=(0, 3),
        radius_um=(0.3, 0.7),
        index=(0.03, 0.07),
        inner=0.0,
        outer=1.2,
        height=(0.8, 1.1),
        floating=True,
    )
    """What floats above the cells."""

    grains: int = Field(default=3500, ge=0)
    """Faint bodies of either sign (reticulum, ribosomes): the cytoplasm's unevenness."""

    grain_path: float = Field(default=0.0008, ge=0)
    """Standard deviation of a grain's volume times index, in cubic micrometres."""

    fibres: int = Field(default=7, ge=0)
    """Stress fibres: thin, straight, near the glass."""

    @property
    def reach_um(self) -> float:
        """How far a cell reaches from its middle at most, in micrometres.

        Of an outline with waves larger than three of their standard deviations at once there is one in
        thousands, which reaches farther.
        """
        return self.radius_um[1] * self.stretch[1] * (1 + 3 * math.hypot(*self.roughness))

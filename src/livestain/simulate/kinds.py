"""Kinds of cells: how large they are, and what is in them and how much, in numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from livestain.settings import Settings

__all__ = ["Bodies", "CellKind", "Mitochondria", "Nucleus", "Span"]


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"expected the smaller number first; given {span[0]} to {span[1]}")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""A range that is drawn from evenly: least and greatest."""


class Bodies(Settings):
    """Small round bodies of one sort, none of them a mitochondrion."""

    number: Span = (0, 0)
    """Bodies a cell, least and greatest."""

    radius_um: Span = (0.15, 0.35)
    """Radius in micrometres."""

    index: Span = (0.01, 0.03)
    """Refractive index above the cytoplasm's."""

    inner: float = 1.05
    """How near to the nucleus: in units of the nucleus' outline (1 is its edge, 0 its centre)."""

    outer: float = 0.9
    """How near to the cell's edge: in units of its outline; above 1 outside."""

    height: Span = (0.1, 0.7)
    """Height above the glass as a share of the cell's thickness there; above 1 it floats over the cell."""

    crowded: float = Field(default=0.0, ge=0, le=1)
    """Share of them that lies in the crowd beside the nucleus (the centrosome's side), not anywhere."""

    floating: bool = False
    """Whether they are not within the cell but on or above it, as debris is."""


class Nucleus(Settings):
    """The nucleus, its nucleoli and its chromatin."""

    radii_um: tuple[Span, Span] = ((3.0, 4.0), (2.5, 3.2))
    """Long and short half axis in micrometres."""

    height_um: float = 2.6
    """Thickness at its middle, at most four fifths of the cell's there."""

    index: float = -0.006
    """Refractive index above the cytoplasm's: nuclei are below it."""

    envelope: float = Field(default=0.0, ge=0)
    """Optical path of the nuclear envelope seen edge-on, in micrometres."""

    nucleoli: tuple[int, int] = (2, 4)
    """Nucleoli, least and greatest."""

    nucleolus_radius_um: Span = (0.45, 0.85)
    """Their radius in micrometres."""


class Mitochondria(Settings):
    """The network of mitochondria."""

    number: Span = (34, 50)
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

    turning: float = 0.17
    """Standard deviation of the turn a tenth of a micrometre, in radians: how curled tubes are."""

    index: Span = (0.036, 0.052)
    """Refractive index above the cytoplasm's."""

    crowded: float = Field(default=0.0, ge=0, le=1)
    """Share that lies in the crowd beside the nucleus, not anywhere."""

    outer: float = 0.85
    """How near to the cell's edge tubes begin, in units of its outline."""

    height: Span = (0.25, 0.7)
    """Height above the glass as a share of the cell's thickness where the tube begins."""

    label: Literal["matrix", "membrane"] = "matrix"
    """Where the dye is: all through the tube (MitoTracker), or in its outer membrane alone (OMP25), so that
    its walls are brighter than its middle."""

    wander_um: float = Field(default=0.3, ge=0)
    """How far a tube wanders from its place within minutes, in micrometres."""

    fission_s: Span = (120, 500)
    """Seconds in which a place of a tube divides and fuses again."""


class CellKind(Settings):
    """One kind of cell, of which a dish is full."""

    spacing_um: float = Field(default=17.0, gt=0)
    """Side of the square that one cell sits in."""

    jitter_um: float = Field(default=3.5, ge=0)
    """How far from the middle of its square a cell may sit."""

    radius_um: Span = (8.0, 10.0)
    """Mean radius of the outline."""

    stretch: Span = (1.0, 1.35)
    """How much longer than round; the other axis is shorter by as much."""

    roughness: tuple[float, ...] = (0.10, 0.07, 0.05, 0.04)
    """Standard deviation of the outline's waves of 2, 3, 4 … periods, as shares of the radius."""

    height_um: Span = (3.2, 4.2)
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

    nucleus_offset_um: float = 1.0
    """Standard deviation of the nucleus' distance from the middle, along each axis."""

    mitochondria: Mitochondria = Mitochondria()
    """What a model is to find."""

    droplets: Bodies = Bodies(
        number=(14, 40), radius_um=(0.15, 0.38), index=(0.075, 0.10), outer=0.8
    )
    """Lipid droplets: small, and of the highest index."""

    vesicles: Bodies = Bodies(
        number=(45, 90), radius_um=(0.15, 0.4), index=(-0.022, -0.010), inner=0.3, outer=0.95
    )
    """Vesicles: filled with water, below the cytoplasm's index."""

    granules: Bodies = Bodies(
        number=(50, 100), radius_um=(0.13, 0.34), index=(0.014, 0.035), inner=0.0, outer=0.95
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

    grain_path: float = 0.0008
    """Standard deviation of a grain's volume times index, in cubic micrometres."""

    fibres: int = Field(default=7, ge=0)
    """Stress fibres: thin, straight, near the glass."""

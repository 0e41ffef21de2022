"""Living cells as points and heights: an endless, seeded dish, at any time, without a state.

The dish is tiled; the cell of a tile depends on the seed and the tile alone, so that overlapping
fields of view show the same cells, and any time can be asked for in any order.

Refractive indices follow the review of P. Y. Liu et al., "Cell refractive index for cell biology and
disease diagnosis: past, present and future", Lab Chip 16:634 (2016): medium 1.335, cytoplasm 1.36,
mitochondria 1.38 to 1.41, lipid 1.46; nuclei are below the cytoplasm (M. Schürmann et al.,
J. Biophotonics 9:1068 (2016)).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from livestain.simulate.blobs import Blobs
from livestain.simulate.mitochondria import Network, Wandering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from livestain.simulate.kinds import Bodies, CellKind
    from livestain.simulate.mitochondria import Inside, NetworkNumbers

    Array = NDArray[np.float64]

__all__ = ["GLASS_UM", "Cell", "cell_at", "cells_near"]

GLASS_UM = -1.2
"""Height of the cover glass; height 0 is where the focus is found first."""

_FIBRE_STEP_UM = 0.09
"""Distance of the points along a stress fibre, at most."""


class Seat(NamedTuple):
    """Where a cell sits and how large it is: what has to be known before its organelles are drawn."""

    centre: Array
    radius: float
    angle: float
    stretch: float
    modes: tuple[Array, Array]
    half_um: tuple[float, float]
    """Half the width and height (x, y) of a box that the cell does not leave, in micrometres."""


def cells_near(
    seed: int, kind: CellKind, xy_um: tuple[float, float], half_um: tuple[float, float]
) -> list[Cell]:
    """Return the cells that may reach into a field of view.

    Parameters
    ----------
    seed : int
        The dish.
    kind : CellKind
        What cells it is full of.
    xy_um : (float, float)
        Centre (x, y) of the field in micrometres.
    half_um : (float, float)
        Half its width and height.
    """
    about = kind.reach_um + kind.jitter_um
    low, high = (
        [
            int(np.floor((c + sign * (h + about)) / kind.spacing_um))
            for c, h in zip(xy_um, half_um, strict=True)
        ]
        for sign in (-1, 1)
    )
    found = []
    for i in range(low[0], high[0] + 1):
        for j in range(low[1], high[1] + 1):
            _, seat = _seat(seed, kind, i, j)
            if all(
                abs(at - c) < h + own
                for at, c, h, own in zip(seat.centre, xy_um, half_um, seat.half_um, strict=True)
            ):
                found.append(cell_at(seed, kind, i, j))
    return found


@functools.lru_cache(maxsize=48)
def cell_at(seed: int, kind: CellKind, i: int, j: int) -> Cell:
    """Return a tile's cell; neighbouring fields share many."""
    return Cell(seed, kind, i, j)


def _seat(seed: int, kind: CellKind, i: int, j: int) -> tuple[np.random.Generator, Seat]:
    """Return a tile's source of chance, and what is drawn of its cell first of all."""
    # Seeds are non-negative; zig-zag maps the tiles' signed numbers onto those.
    rng = np.random.default_rng([seed, *(2 * n if n >= 0 else -2 * n - 1 for n in (i, j))])
    jitter = rng.uniform(-kind.jitter_um, kind.jitter_um, 2)
    centre = np.array([i + 0.5, j + 0.5]) * kind.spacing_um + jitter
    radius = float(rng.uniform(*kind.radius_um))
    modes = rng.normal(0, kind.roughness), rng.uniform(0, 2 * np.pi, len(kind.roughness))
    angle, stretch = float(rng.uniform(0, np.pi)), float(rng.uniform(*kind.stretch))
    widest = radius * (1 + float(np.abs(modes[0]).sum()))
    long, short = widest * stretch, widest / stretch
    cos, sin = np.cos(angle), np.sin(angle)
    half = float(np.hypot(long * cos, short * sin)), float(np.hypot(long * sin, short * cos))
    return rng, Seat(centre, radius, angle, stretch, modes, half)


class Cell:
    """One cell: its outline and height, its organelles, and where they are at a time.

    Parameters
    ----------
    seed : int
        The dish.
    kind : CellKind
        What sort of cell.
    i, j : int
        The tile.
    """

    def __init__(self, seed: int, kind: CellKind, i: int, j: int) -> None:
        self.kind = kind
        rng, seat = _seat(seed, kind, i, j)
        self.centre, self.radius, self.half_um = seat.centre, seat.radius, seat.half_um
        self._modes, self._angle, self._stretch = seat.modes, seat.angle, seat.stretch
        self._height = rng.uniform(*kind.height_um)
        self.nucleus_centre = self.centre + rng.normal(0, kind.nucleus_offset_um, 2)
        long, short = kind.nucleus.radii_um
        self.nucleus_radii = np.array([rng.uniform(*long), rng.uniform(*short)])
        self._nucleus_angle = self._angle + rng.normal(0, 0.5)
        side = rng.uniform(0, 2 * np.pi)
        beside = float(self.nucleus_radii.mean()) + kind.crowd_um * 0.8
        self._crowd = self.nucleus_centre + beside * np.array([np.cos(side), np.sin(side)])
        self._flow_setup(rng)
        self.nucleoli = self._nucleoli(rng)
        self.static = Blobs.joined([self.nucleoli, self._grain(rng), self._fibres(rng)])
        self.chromatin = self._chromatin(rng)
        self.network = Network(
            rng,
            kind.mitochondria,
            begin=lambda n: self._gathered(
                rng, n, 1.1, kind.mitochondria.outer, kind.mitochondria.crowded
            ),
            heading=self._outwards,
            blocked=lambda x, y: (self.rho(x, y) > 0.9) | (self.nucleus_rho(x, y) < 1.08),
            thickness=self.height,
            glass_um=GLASS_UM,
        )
        self._lookalikes(rng)

    # ------------------------------------------------------------------ shape

    def rho(self, x: Array, y: Array) -> Array:
        """Return the distance from the centre in units of the outline (1 = the cell's edge)."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        cos, sin = np.cos(self._angle), np.sin(self._angle)
        u, v = (cos * dx + sin * dy) / self._stretch, (cos * dy - sin * dx) * self._stretch
        away = np.hypot(u, v)
        # The waves of the angle's multiples, as powers of a number of the unit circle: no cosine a wave.
        unit = (u + 1j * v) / np.maximum(away, 1e-9)
        turning = unit.copy()
        outline = np.ones_like(away)
        for a, p in zip(*self._modes, strict=True):
            turning *= unit
            outline += (a * np.cos(p)) * turning.real - (a * np.sin(p)) * turning.imag
        return np.asarray(away / (self.radius * np.maximum(outline, 0.2)))

    def nucleus_rho(self, x: Array, y: Array) -> Array:
        """Return the distance from the nucleus' centre in units of its outline."""
        dx, dy = x - self.nucleus_centre[0], y - self.nucleus_centre[1]
        cos, sin = np.cos(self._nucleus_angle), np.sin(self._nucleus_angle)
        a, b = self.nucleus_radii
        return np.asarray(np.hypot((cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b))

    def height(self, x: Array, y: Array) -> Array:
        """Return the thickness of the cell in micrometres, 0 outside."""
        kind = self.kind
        rho = np.minimum(self.rho(x, y), 1.0)
        # The edge falls off within half a micrometre or so, whatever the cell's size.
        rim = np.clip((1.0 - rho) * self.radius / 0.54, 0.0, 1.0)
        edge = min(kind.edge_um, self._height)
        hump = np.maximum(1.0 - rho**2, 0.0) ** kind.peak
        return np.asarray(edge * rim * rim * (3 - 2 * rim) + (self._height - edge) * hump)

    def nucleus_thickness(self, x: Array, y: Array, height: Array) -> Array:
        """Return the thickness of the nucleus in micrometres, 0 outside, where the cell is of a height."""
        inside = np.maximum(1 - self.nucleus_rho(x, y) ** 2, 0.0)
        return np.asarray(np.minimum(self.kind.nucleus.height_um * np.sqrt(inside), 0.8 * height))

    def envelope(self, x: Array, y: Array) -> Array:
        """Return how much of the nuclear envelope stands upright at a place, 0 to 1."""
        away = (self.nucleus_rho(x, y) - 1) * self.nucleus_radii.mean()
        return np.asarray(np.exp(-0.5 * (away / 0.12) ** 2))

    def _within(self, rng: np.random.Generator, n: int, inner: float, outer: float) -> Array:
        """Return n random points (2, n) outside the nucleus and inside the outline."""
        found: list[Array] = []
        missing = n
        for _ in range(12):
            angle = rng.uniform(0, 2 * np.pi, 3 * missing + 8)
            distance = self.radius * 1.2 * np.sqrt(rng.uniform(0, 1, len(angle)))
            u, v = (
                distance * np.cos(angle) * self._stretch,
                distance * np.sin(angle) / self._stretch,
            )
            cos, sin = np.cos(self._angle), np.sin(self._angle)
            x = self.centre[0] + cos * u - sin * v
            y = self.centre[1] + sin * u + cos * v
            fits = (self.rho(x, y) < outer) & (self.nucleus_rho(x, y) > inner)
            found.append(np.stack([x[fits], y[fits]])[:, :missing])
            missing -= found[-1].shape[1]
            if missing <= 0:
                break
        points = np.concatenate(found, axis=1)
        if not points.shape[1]:  # a cell that is nearly all nucleus
            points = self.centre[:, None]
        return points[:, np.arange(n) % points.shape[1]]

    def _gathered(
        self, rng: np.random.Generator, n: int, inner: float, outer: float, crowded: float
    ) -> Array:
        """Return n points (2, n) as `_within`, of which a share lies in the crowd beside the nucleus."""
        points = self._within(rng, n, inner, outer)
        there = self._crowd[:, None] + rng.normal(0, self.kind.crowd_um, (2, n))
        fits = (self.rho(*there) < outer) & (self.nucleus_rho(*there) > inner)
        return np.where((rng.uniform(size=n) < crowded) & fits, there, points)

    def _outwards(self, x: Array, y: Array) -> Array:
        """Return the direction (radians) away from the nucleus, in long cells along the cell."""
        away = np.arctan2(y - self.nucleus_centre[1], x - self.nucleus_centre[0])
        if self._stretch < 1.5:
            return np.asarray(away)
        along = np.cos(away - self._angle) < 0
        return np.asarray(self._angle + np.where(along, np.pi, 0.0))

    # -------------------------------------------------------------- organelles

    def _nucleoli(self, rng: np.random.Generator) -> Blobs:
        least, greatest = self.kind.nucleus.nucleoli
        n = int(rng.integers(least, greatest + 1))
        angle = rng.uniform(0, 2 * np.pi, n)
        distance = rng.uniform(0.06, 0.5, n) * self.nucleus_radii.mean()
        x = self.nucleus_centre[0] + distance * np.cos(angle)
        y = self.nucleus_centre[1] + distance * np.sin(angle)
        radius = rng.uniform(*self.kind.nucleus.nucleolus_radius_um, n)
        z = GLASS_UM + self.height(x, y) * rng.uniform(0.3, 0.6, n)
        return Blobs.spheres(x, y, z, radius, np.full(n, 0.018))

    def _chromatin(self, rng: np.random.Generator) -> Blobs:
        """Return the labelled DNA: denser and thinner places all over the nucleus, none in nucleoli."""
        n = 700
        angle, distance = rng.uniform(0, 2 * np.pi, n), 0.96 * np.sqrt(rng.uniform(0, 1, n))
        u, v = (
            distance * f(angle) * r
            for f, r in zip((np.cos, np.sin), self.nucleus_radii, strict=True)
        )
        cos, sin = np.cos(self._nucleus_angle), np.sin(self._nucleus_angle)
        x = self.nucleus_centre[0] + cos * u - sin * v
        y = self.nucleus_centre[1] + sin * u + cos * v
        height = self.height(x, y)
        thick = self.nucleus_thickness(x, y, height)
        z = GLASS_UM + height / 2 + thick * rng.uniform(-0.5, 0.5, n)
        dense = rng.lognormal(0, 0.7, n) * thick / max(self.kind.nucleus.height_um, 1e-6)
        for k in range(len(self.nucleoli.x)):
            away = np.hypot(x - self.nucleoli.x[k], y - self.nucleoli.y[k])
            dense *= np.clip(away / (2.2 * self.nucleoli.sigma[k]) - 0.4, 0.05, 1.0)
        volume = (
            4 / 3 * np.pi * float(np.prod(self.nucleus_radii)) * self.kind.nucleus.height_um / 2
        )
        return Blobs(x, y, z, np.full(n, 0.35), np.zeros(n), dense * volume / n)

    def _grain(self, rng: np.random.Generator) -> Blobs:
        """Return the cytoplasm's unevenness (reticulum, ribosomes): faint bodies of either sign."""
        n = self.kind.grains
        x, y = self._within(rng, n, 0.0, 0.97)
        top = self.height(x, y)
        return Blobs(
            x=x,
            y=y,
            z=GLASS_UM + top * rng.uniform(0.05, 0.9, n),
            sigma=rng.uniform(0.08, 0.22, n),
            path=rng.normal(0, self.kind.grain_path, n),
            label=np.zeros(n),
        )

    def _fibres(self, rng: np.random.Generator) -> Blobs:
        """Return stress fibres: thin, straight, near the glass; tubes that are not mitochondria."""
        n = self.kind.fibres
        long = rng.uniform(0.55, 1.1, n) * self.radius * self._stretch
        points = int(np.ceil(1.1 * self.radius * self._stretch / _FIBRE_STEP_UM))
        start = self._within(rng, n, 0.9, 0.8)
        heading = self._angle + rng.normal(0, 0.25 / self._stretch, n)
        along = np.linspace(-0.5, 0.5, points)[None, :] * long[:, None]
        x = (start[0][:, None] + along * np.cos(heading)[:, None]).ravel()
        y = (start[1][:, None] + along * np.sin(heading)[:, None]).ravel()
        step = np.repeat(long / points, points)
        inside = self.rho(x, y) < 0.93
        x, y, step = x[inside], y[inside], step[inside]
        return Blobs(
            x=x,
            y=y,
            z=np.full(len(x), GLASS_UM + 0.25),
            sigma=np.full(len(x), 0.08),
            path=0.012 * np.pi * 0.13**2 * step,
            label=np.zeros(len(x)),
        )

    def _bodies(self, rng: np.random.Generator, bodies: Bodies) -> Blobs:
        n = round(rng.uniform(*bodies.number))
        x, y = self._gathered(rng, n, bodies.inner, bodies.outer, bodies.crowded)
        thick = np.full(n, self._height) if bodies.floating else self.height(x, y)
        radius = rng.uniform(*bodies.radius_um, n)
        z = GLASS_UM + np.maximum(thick * rng.uniform(*bodies.height, n), radius)
        return Blobs.spheres(x, y, z, radius, rng.uniform(*bodies.index, n))

    def _lookalikes(self, rng: np.random.Generator) -> None:
        """Lipid droplets, vesicles, granules, and debris that floats above."""
        kind = self.kind
        sorts = (kind.droplets, kind.vesicles, kind.granules, kind.debris)
        self._others = Blobs.joined([self._bodies(rng, sort) for sort in sorts])
        self._others_wandering = Wandering.drawn(rng, len(self._others.x), 0.7)

    # ------------------------------------------------------------------ motion

    def _flow_setup(self, rng: np.random.Generator) -> None:
        angle = rng.uniform(0, 2 * np.pi, 4)
        number = 2 * np.pi / rng.uniform(5, 14, 4)
        self._flow_k = number * np.cos(angle), number * np.sin(angle)
        self._flow_amplitude = rng.normal(0, 0.2, (2, 4))
        self._flow_rate = 2 * np.pi / rng.uniform(70, 280, 4)
        self._flow_phase = rng.uniform(0, 2 * np.pi, 4)

    def _flow(self, x: Array, y: Array, time_s: float) -> tuple[Array, Array]:
        """Return where the streaming cytoplasm carries what rests at (x, y)."""
        kx, ky = self._flow_k
        wave = np.sin(
            kx[:, None] * x
            + ky[:, None] * y
            + (self._flow_rate * time_s + self._flow_phase)[:, None]
        )
        dx, dy = self._flow_amplitude @ wave
        return x + dx, y + dy

    def organelles(self, time_s: float) -> Blobs:
        """Return mitochondria and look-alikes, where they are at a time (seconds)."""
        o = self._others
        away = self._others_wandering.at(time_s)
        ox, oy = self._flow(o.x + away[0], o.y + away[1], time_s)
        network = self.network.blobs(time_s, lambda x, y: self._flow(x, y, time_s))
        return Blobs.joined([*network, Blobs(ox, oy, o.z, o.sigma, o.path, o.label)])

    def outline(self, time_s: float) -> tuple[Array, Array, Array, Array]:
        """Return x, y, z and radius (n,), in micrometres, of points along the mitochondria."""
        return self.network.outline(time_s, lambda x, y: self._flow(x, y, time_s))

    def numbers(self, time_s: float, inside: Inside) -> NetworkNumbers:
        """Return length and number of the mitochondria inside; see `Network.numbers`."""
        return self.network.numbers(time_s, lambda x, y: self._flow(x, y, time_s), inside)

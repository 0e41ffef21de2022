"""Living cells as points and heights: an endless, seeded dish, at any time, without a state.

The dish is tiled; the cell of a tile depends on the seed and the tile alone, so that overlapping
fields of view show the same cells, and any time can be asked for in any order.

Refractive indices follow the review of P. Y. Liu et al., "Cell refractive index for cell biology and
disease diagnosis: past, present and future", Lab Chip 16:634 (2016): medium 1.335, cytoplasm 1.36,
mitochondria 1.38 to 1.41, lipid 1.46; nuclei are below the cytoplasm (M. Schürmann et al.,
J. Biophotonics 9:1068 (2016)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livestain.simulate.blobs import Blobs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["GLASS_UM", "REACH_UM", "TILE_UM", "Cell", "cells_near"]

TILE_UM = 17.0
"""Side of the tile that holds one cell, in micrometres."""

GLASS_UM = -1.2
"""Height of the cover glass; the mitochondria lie around height 0."""

REACH_UM = 17.0
"""No part of a cell is further from its tile's centre."""

_STEP_UM = 0.1
"""Distance of the points along a mitochondrion."""


def cells_near(seed: int, xy_um: tuple[float, float], half_um: tuple[float, float]) -> list[Cell]:
    """Return the cells that may reach into a field of view.

    Parameters
    ----------
    seed : int
        The dish.
    xy_um : (float, float)
        Centre (x, y) of the field in micrometres.
    half_um : (float, float)
        Half its width and height.
    """
    low = [int(np.floor((c - h - REACH_UM) / TILE_UM)) for c, h in zip(xy_um, half_um, strict=True)]
    high = [int(np.ceil((c + h + REACH_UM) / TILE_UM)) for c, h in zip(xy_um, half_um, strict=True)]
    found = []
    for i in range(low[0], high[0] + 1):
        for j in range(low[1], high[1] + 1):
            _, centre, radius = _seat(seed, i, j)
            away = [abs(a - c) - h for a, c, h in zip(centre, xy_um, half_um, strict=True)]
            if max(away) < 1.6 * radius:
                found.append(Cell(seed, i, j))
    return found


def _seat(seed: int, i: int, j: int) -> tuple[np.random.Generator, Array, float]:
    """Return a tile's source of chance, and its cell's centre and radius, drawn first of all."""
    # Seeds are non-negative; zig-zag maps the tiles' signed numbers onto those.
    rng = np.random.default_rng([seed, *(2 * n if n >= 0 else -2 * n - 1 for n in (i, j))])
    centre = np.array([i + 0.5, j + 0.5]) * TILE_UM + rng.uniform(-3.5, 3.5, 2)
    return rng, centre, float(rng.uniform(8.0, 10.0))


class Cell:
    """One cell: its outline and height, its organelles, and where they are at a time.

    Parameters
    ----------
    seed, i, j : int
        The dish's seed and the tile.
    """

    def __init__(self, seed: int, i: int, j: int) -> None:
        rng, self.centre, self.radius = _seat(seed, i, j)
        self._modes = rng.normal(0, [0.10, 0.07, 0.05, 0.04]), rng.uniform(0, 2 * np.pi, 4)
        self._angle, self._stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
        self._height = rng.uniform(3.2, 4.2)
        self.nucleus_centre = self.centre + rng.normal(0, 1.0, 2)
        self.nucleus_radii = rng.uniform([3.0, 2.5], [4.0, 3.2])
        self._nucleus_angle = rng.uniform(0, np.pi)
        self._flow_setup(rng)
        self.static = Blobs.joined([self._nucleoli(rng), self._grain(rng), self._fibres(rng)])
        self._mitochondria(rng)
        self._lookalikes(rng)

    # ------------------------------------------------------------------ shape

    def rho(self, x: Array, y: Array) -> Array:
        """Return the distance from the centre in units of the outline (1 = the cell's edge)."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        cos, sin = np.cos(self._angle), np.sin(self._angle)
        u, v = (cos * dx + sin * dy) / self._stretch, (cos * dy - sin * dx) * self._stretch
        theta = np.arctan2(v, u)
        amplitudes, phases = self._modes
        outline = 1.0 + sum(
            a * np.cos((m + 2) * theta + p)
            for m, (a, p) in enumerate(zip(amplitudes, phases, strict=True))
        )
        return np.asarray(np.hypot(u, v) / (self.radius * outline))

    def nucleus_rho(self, x: Array, y: Array) -> Array:
        """Return the distance from the nucleus' centre in units of its outline."""
        dx, dy = x - self.nucleus_centre[0], y - self.nucleus_centre[1]
        cos, sin = np.cos(self._nucleus_angle), np.sin(self._nucleus_angle)
        a, b = self.nucleus_radii
        return np.asarray(np.hypot((cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b))

    def height(self, x: Array, y: Array) -> Array:
        """Return the thickness of the cell in micrometres, 0 outside."""
        rho = np.minimum(self.rho(x, y), 1.0)
        rim = np.clip((1.0 - rho) / 0.06, 0.0, 1.0)
        return np.asarray((0.9 * rim * rim * (3 - 2 * rim)) + (self._height - 0.9) * (1 - rho**2))

    def _within(self, rng: np.random.Generator, n: int, inner: float, outer: float) -> Array:
        """Return n random points (2, n) outside the nucleus and inside the outline."""
        angle = rng.uniform(0, 2 * np.pi, 6 * n)
        distance = self.radius * 1.3 * np.sqrt(rng.uniform(0, 1, 6 * n))
        x = self.centre[0] + distance * np.cos(angle)
        y = self.centre[1] + distance * np.sin(angle)
        fits = np.flatnonzero((self.rho(x, y) < outer) & (self.nucleus_rho(x, y) > inner))
        fits = np.resize(fits, n)
        return np.stack([x[fits], y[fits]])

    # -------------------------------------------------------------- organelles

    def _nucleoli(self, rng: np.random.Generator) -> Blobs:
        n = int(rng.integers(2, 5))
        angle, distance = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.2, 1.6, n)
        radius = rng.uniform(0.45, 0.85, n)
        return Blobs(
            x=self.nucleus_centre[0] + distance * np.cos(angle),
            y=self.nucleus_centre[1] + distance * np.sin(angle),
            z=rng.uniform(-0.2, 0.8, n),
            sigma=radius / np.sqrt(5),
            path=0.018 * 4 / 3 * np.pi * radius**3,
            label=np.zeros(n),
        )

    def _grain(self, rng: np.random.Generator) -> Blobs:
        """Return the cytoplasm's unevenness (reticulum, ribosomes): faint bodies of either sign."""
        n = 3500
        x, y = self._within(rng, n, 0.0, 0.97)
        top = self.height(x, y)
        return Blobs(
            x=x,
            y=y,
            z=GLASS_UM + top * rng.uniform(0.05, 0.9, n),
            sigma=rng.uniform(0.08, 0.22, n),
            path=rng.normal(0, 0.0006, n),
            label=np.zeros(n),
        )

    def _fibres(self, rng: np.random.Generator) -> Blobs:
        """Return stress fibres: thin, straight, near the glass; tubes that are not mitochondria."""
        n, points = 7, 90
        start = self._within(rng, n, 0.9, 0.8)
        heading = self._angle + rng.normal(0, 0.25, n)
        along = np.linspace(-0.5, 0.5, points)[None, :] * rng.uniform(5, 10, n)[:, None]
        x = (start[0][:, None] + along * np.cos(heading)[:, None]).ravel()
        y = (start[1][:, None] + along * np.sin(heading)[:, None]).ravel()
        inside = self.rho(x, y) < 0.93
        x, y = x[inside], y[inside]
        return Blobs(
            x=x,
            y=y,
            z=np.full(len(x), GLASS_UM + 0.25),
            sigma=np.full(len(x), 0.08),
            path=np.full(len(x), 0.012 * np.pi * 0.13**2 * 0.085),
            label=np.zeros(len(x)),
        )

    def _mitochondria(self, rng: np.random.Generator) -> None:
        """Grow the network: persistent random walks, a third of them branching off the others."""
        n = int(rng.integers(34, 50))
        steps = 110
        length = np.clip(rng.lognormal(np.log(3.6), 0.55, n), 0.5, _STEP_UM * (steps - 1))
        diameter = np.clip(rng.lognormal(np.log(0.42), 0.2, n), 0.3, 0.8)
        rounded = rng.uniform(size=n) < 0.15
        length = np.where(rounded, rng.uniform(0.2, 0.5, n), length)
        diameter = np.where(rounded, rng.uniform(0.5, 0.8, n), diameter)
        start = self._within(rng, n, 1.1, 0.85)
        z = rng.uniform(-0.6, 0.6, n)
        heading = np.arctan2(*(start - self.nucleus_centre[:, None])[::-1])
        heading = heading + rng.normal(0, 0.9, n)
        first = n - n // 3
        x, y, heights = (np.zeros((n, steps)) for _ in range(3))
        turns = rng.normal(0, 0.17, (n, steps))
        swing, phase = rng.uniform(0.0, 0.25, n), rng.uniform(0, 2 * np.pi, n)
        for part in (slice(0, first), slice(first, n)):
            if part.start:  # the branches: they begin somewhere on a tube of the first part
                parent = rng.integers(0, first, n - first)
                place = (rng.uniform(0, 1, n - first) * length[parent] / _STEP_UM).astype(int)
                start[:, part] = x[parent, place], y[parent, place]
                z[part] = heights[parent, place]
            px, py, h = start[0, part].copy(), start[1, part].copy(), heading[part].copy()
            side = np.where(turns[part, 0] > 0, 0.5, -0.5)
            for step in range(steps):
                x[part, step], y[part, step] = px, py
                h += turns[part, step]
                ax, ay = px + 0.5 * np.cos(h), py + 0.5 * np.sin(h)
                blocked = (self.rho(ax, ay) > 0.9) | (self.nucleus_rho(ax, ay) < 1.08)
                h += np.where(blocked, side, 0.0)
                px, py = px + _STEP_UM * np.cos(h), py + _STEP_UM * np.sin(h)
            s = np.arange(steps) * _STEP_UM
            heights[part] = z[part, None] + swing[part, None] * (
                np.sin(s[None, :] * 0.9 + phase[part, None]) - np.sin(phase[part, None])
            )
        s = np.arange(steps)[None, :] * _STEP_UM
        keep = s <= length[:, None]
        owner = np.broadcast_to(np.arange(n)[:, None], keep.shape)[keep]
        x, y = x[keep], y[keep]
        ceiling = GLASS_UM + 0.9 * self.height(x, y) - 0.15
        z_all = np.clip(heights[keep], GLASS_UM + 0.25, np.maximum(ceiling, GLASS_UM + 0.3))
        volume = np.pi / 4 * diameter**2 * _STEP_UM
        index = rng.normal(0.044, 0.004, n)
        bright = rng.lognormal(0, 0.2, n)
        self._mito = Blobs(
            x, y, z_all, diameter[owner] / 4, (volume * index)[owner], (volume * bright)[owner]
        )
        self._owner = owner
        self._drift = self._wander(rng, n, 0.30)
        # Fission and fusion: at a place every 2.5 um or so, a tube thins out and closes again.
        gap = rng.uniform(0.6, 2.4, n)[owner] + 2.5 * np.floor(
            np.broadcast_to(s, keep.shape)[keep] / 2.5
        )
        self._gap = np.exp(-(((np.broadcast_to(s, keep.shape)[keep] - gap) / 0.22) ** 2))
        self._gap_rate = 2 * np.pi / rng.uniform(120, 500, n)[owner]
        self._gap_phase = rng.uniform(0, 2 * np.pi, n)[owner] + gap

    def _lookalikes(self, rng: np.random.Generator) -> None:
        """Lipid droplets, vesicles, granules, and debris that floats above."""
        parts = []
        for n, inner, outer, sizes, index, z in (
            (int(rng.integers(6, 22)), 1.05, 0.6, (0.15, 0.38), (0.075, 0.10), (-0.7, 0.9)),
            (int(rng.integers(25, 50)), 1.05, 0.9, (0.15, 0.36), (-0.020, -0.008), (-0.7, 0.9)),
            (int(rng.integers(20, 45)), 0.6, 0.9, (0.13, 0.32), (0.014, 0.035), (-0.7, 0.9)),
            (int(rng.integers(0, 4)), 0.0, 1.2, (0.3, 0.7), (0.03, 0.07), (1.8, 2.6)),
        ):
            if n == 0:
                continue
            x, y = self._within(rng, n, inner, outer)
            radius = rng.uniform(*sizes, n)
            path = rng.uniform(*index, n) * 4 / 3 * np.pi * radius**3
            parts.append(Blobs(x, y, rng.uniform(*z, n), radius / np.sqrt(5), path, np.zeros(n)))
        self._others = Blobs.joined(parts)
        self._others_drift = self._wander(rng, len(self._others.x), 0.7)

    # ------------------------------------------------------------------ motion

    @staticmethod
    def _wander(rng: np.random.Generator, n: int, amplitude: float) -> tuple[Array, Array, Array]:
        """Return amplitudes, angular rates (1/s) and phases (2, 2, n) of slow two-tone wandering."""
        tones = np.array([1.0, 0.5])[:, None, None]
        return (
            amplitude * tones * rng.rayleigh(0.8, (2, 2, n)),
            2 * np.pi / rng.uniform(60, 300, (2, 2, n)) / np.sqrt(tones),
            rng.uniform(0, 2 * np.pi, (2, 2, n)),
        )

    @staticmethod
    def _wandered(drift: tuple[Array, Array, Array], time_s: float) -> Array:
        """Return the displacement (2, n) at a time."""
        amplitude, rate, phase = drift
        return np.asarray((amplitude * np.sin(rate * time_s + phase)).sum(0))

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
        m = self._mito
        drift = self._wandered(self._drift, time_s)[:, self._owner]
        mx, my = self._flow(m.x + drift[0], m.y + drift[1], time_s)
        shut = np.clip(1.5 * np.sin(self._gap_rate * time_s + self._gap_phase) - 0.3, 0.0, 1.0)
        share = 1.0 - shut * self._gap
        o = self._others
        away = self._wandered(self._others_drift, time_s)
        ox, oy = self._flow(o.x + away[0], o.y + away[1], time_s)
        return Blobs.joined(
            [
                Blobs(mx, my, m.z, m.sigma, m.path * share, m.label * share),
                Blobs(ox, oy, o.z, o.sigma, o.path, o.label),
            ]
        )

"""The mitochondria of a cell: tubes that move, divide and fuse, at any time, without a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from livestain.simulate.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from livestain.simulate.kinds import Mitochondria

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]
    Inside = Callable[[Array, Array], NDArray[np.bool_]]
    """Whether places (x, y) in micrometres count."""

__all__ = ["STEP_UM", "Network", "NetworkNumbers", "Wandering"]

STEP_UM = 0.1
"""Distance of the points along a mitochondrion."""

_GAP_EVERY_UM = 2.5
"""Distance of the places of a tube at which it can divide."""

_RETRACTED_UM = 0.3
"""How far both ends draw back where a tube has divided."""

_WALL_SIGMA_UM = 0.08
"""Standard deviation of a piece of labelled membrane, with what it moves during an exposure."""

_WALL_POINTS = 8
"""Pieces of membrane that one drawn point stands for, at any angle: the label of a membrane is grainy."""


class NetworkNumbers(NamedTuple):
    """What can be counted of a network at a time."""

    length_um: float
    """Length of all tubes and fragments along their middle, in micrometres."""

    number: int
    """Mitochondria: pieces of the network that hang together."""


@dataclass(frozen=True, slots=True)
class Wandering:
    """Slow wandering of n things about their places, in two tones.

    Attributes
    ----------
    amplitude, rate, phase : array of float64, (tone, axis, n)
        In micrometres, radians a second, and radians.
    """

    amplitude: Array
    rate: Array
    phase: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, n: int, amplitude_um: float) -> Wandering:
        """Draw it for n things, most of which stay within `amplitude_um`."""
        tones = np.array([1.0, 0.5])[:, None, None]
        return cls(
            amplitude_um * tones * rng.rayleigh(0.8, (2, 2, n)),
            2 * np.pi / rng.uniform(60, 300, (2, 2, n)) / np.sqrt(tones),
            rng.uniform(0, 2 * np.pi, (2, 2, n)),
        )

    def at(self, time_s: float) -> Array:
        """Return the displacement (axis, n) in micrometres at a time."""
        return np.asarray((self.amplitude * np.sin(self.rate * time_s + self.phase)).sum(0))


class Network:
    """The mitochondria of one cell.

    Persistent random walks, of which a share begins on another one. A tube can divide at places 2.5 um
    apart, and a branch can let go of the tube that it began on; each such place opens and closes again in a
    period of its own, and its ends draw back while it is open. A tube and its branches wander together.

    Parameters
    ----------
    rng : numpy Generator
        The source of chance.
    kind : Mitochondria
        How many, how long, how wide.
    begin : function
        ``begin(n)``: places (2, n) in micrometres where tubes begin.
    heading : function
        ``heading(x, y)``: the direction in radians in which a tube at (x, y) sets out, chance aside.
    blocked : function
        Whether a place is where no tube may grow.
    thickness : function
        ``thickness(x, y)``: the cell's, in micrometres.
    glass_um : float
        Height of the cover glass.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        kind: Mitochondria,
        *,
        begin: Callable[[int], Array],
        heading: Callable[[Array, Array], Array],
        blocked: Inside,
        thickness: Callable[[Array, Array], Array],
        glass_um: float,
    ) -> None:
        self._kind = kind
        n = round(rng.uniform(*kind.number))
        steps = int(np.ceil(kind.longest_um / STEP_UM)) + 1
        length = np.clip(
            rng.lognormal(np.log(kind.length_um), kind.length_spread, n), 0.5, kind.longest_um
        )
        diameter = rng.lognormal(np.log(kind.diameter_um), kind.diameter_spread, n)
        rounded = rng.uniform(size=n) < kind.rounded
        length = np.where(rounded, rng.uniform(0.2, 0.5, n), length)
        diameter = np.where(rounded, diameter * rng.uniform(1.2, 1.6, n), diameter)
        diameter = np.clip(diameter, 0.3, 0.8)
        start = begin(n)
        low, high = kind.height
        z = glass_um + thickness(*start) * rng.uniform(low, high, n)
        way = heading(*start) + rng.normal(0, 0.9, n)
        turns = rng.normal(0, kind.turning, (n, steps))
        swing, phase = rng.uniform(0.0, 0.25, n), rng.uniform(0, 2 * np.pi, n)
        s = np.arange(steps) * STEP_UM
        first = n - int(kind.branching * n)
        parent: Places = np.arange(n, dtype=np.intp)
        place: Places = np.zeros(n, np.intp)
        parent[first:] = rng.integers(0, max(first, 1), n - first)
        place[first:] = (rng.uniform(0, 1, n - first) * length[parent[first:]] / STEP_UM).astype(
            int
        )
        x, y, heights = (np.zeros((n, steps)) for _ in range(3))
        for part in (slice(0, first), slice(first, n)):
            if part.start:  # the branches: they begin somewhere on a tube of the first part
                on = parent[part], place[part]
                start[:, part] = x[on], y[on]
                z[part] = heights[on]
            self._walk(x[part], y[part], start[:, part], way[part], turns[part], blocked)
            wave = np.sin(s[None, :] * 0.9 + phase[part, None]) - np.sin(phase[part, None])
            heights[part] = z[part, None] + swing[part, None] * wave
        keep = s[None, :] <= length[:, None]
        self._owner: Places = np.broadcast_to(np.arange(n, dtype=np.intp)[:, None], keep.shape)[
            keep
        ]
        self._s = np.broadcast_to(s[None, :], keep.shape)[keep]
        self._x, self._y = x[keep], y[keep]
        ceiling = glass_um + 0.9 * thickness(self._x, self._y) - 0.15
        self._z = np.clip(heights[keep], glass_um + 0.25, np.maximum(ceiling, glass_um + 0.3))
        self._diameter = diameter[self._owner]
        volume = np.pi / 4 * diameter**2 * STEP_UM
        self._path = (volume * rng.uniform(*kind.index, n))[self._owner]
        self._bright = (volume * rng.lognormal(0, 0.2, n))[self._owner]
        self._wandering = Wandering.drawn(rng, n, kind.wander_um)
        # A tube is its own parent: branches are not branched again.
        self._root = parent[self._owner]
        # Two steps are drawn as one body: 5 of them a micrometre are more than any objective tells apart.
        # Each tube begins with an even step, so no body is of two tubes.
        self._drawn = np.flatnonzero(np.rint(self._s / STEP_UM).astype(np.intp) % 2 == 0)
        self._places_to_divide(rng, length, first, parent, place)
        self._wall(rng, x, y, keep)

    @staticmethod
    def _walk(x: Array, y: Array, start: Array, way: Array, turns: Array, blocked: Inside) -> None:
        """Fill x and y (tube, step) with walks that turn away from where they may not grow."""
        px, py, way = start[0].copy(), start[1].copy(), way.copy()
        side = np.where(turns[:, 0] > 0, 0.5, -0.5)
        for step in range(x.shape[1]):
            x[:, step], y[:, step] = px, py
            way += turns[:, step]
            ahead = blocked(px + 0.5 * np.cos(way), py + 0.5 * np.sin(way))
            way += np.where(ahead, side, 0.0)
            px, py = px + STEP_UM * np.cos(way), py + STEP_UM * np.sin(way)

    # ------------------------------------------------------- division, fusion

    def _places_to_divide(
        self, rng: np.random.Generator, length: Array, first: int, parent: Places, place: Places
    ) -> None:
        """Lay out gaps and segments: gap g lies between two segments, of one tube or of branch and tube."""
        n = len(length)
        offset = rng.uniform(0.6, 0.6 + _GAP_EVERY_UM - 0.7, n)
        gaps = np.maximum(np.floor((length - 0.6 - offset) / _GAP_EVERY_UM).astype(np.intp) + 1, 0)
        first_gap = np.concatenate([[0], np.cumsum(gaps)[:-1]])
        first_segment = first_gap + np.arange(n)  # every tube has one segment more than gaps
        self._n_segments = int(gaps.sum() + n)
        tube: Places = np.repeat(np.arange(n, dtype=np.intp), gaps)
        within = np.arange(len(tube)) - first_gap[tube]
        branches: Places = np.arange(first, n, dtype=np.intp)

        def segment_of(owner: Places, s: Array) -> Places:
            passed = np.clip(
                np.ceil((s - offset[owner]) / _GAP_EVERY_UM).astype(np.intp), 0, gaps[owner]
            )
            return np.asarray(first_segment[owner] + passed)

        self._segment = segment_of(self._owner, self._s)
        self._joins = np.concatenate(
            [
                np.stack([first_segment[tube] + within, first_segment[tube] + within + 1]),
                np.stack(
                    [
                        first_segment[branches],
                        segment_of(parent[branches], STEP_UM * place[branches].astype(np.float64)),
                    ]
                ),
            ],
            axis=1,
        )
        n_gaps = len(tube) + len(branches)
        self._gap_rate = 2 * np.pi / rng.uniform(*self._kind.fission_s, n_gaps)
        self._gap_phase = rng.uniform(0, 2 * np.pi, n_gaps)
        # The distance of each point to the nearest gap of its tube, and to the start of its branch.
        nearest = np.clip(
            np.rint((self._s - offset[self._owner]) / _GAP_EVERY_UM).astype(np.intp),
            0,
            np.maximum(gaps[self._owner] - 1, 0),
        )
        has = gaps[self._owner] > 0
        self._gap = np.where(has, first_gap[self._owner] + nearest, -1)
        centre = offset[self._owner] + _GAP_EVERY_UM * nearest
        self._from_gap = np.where(has, np.abs(self._s - centre), np.inf)
        branch = self._owner >= first
        self._joint = np.where(branch, len(tube) + self._owner - first, -1)

    def _opened(self, time_s: float) -> Array:
        """Return how far the ends at each gap have drawn back, in micrometres (0: closed)."""
        swing = 1.5 * np.sin(self._gap_rate * time_s + self._gap_phase) - 0.6
        return np.asarray(_RETRACTED_UM * np.clip(swing, 0.0, 0.9) / 0.9)

    def _share(self, opened: Array) -> Array:
        """Return how much is there of each point, 0 to 1."""
        # -1, no gap there, takes the last one, which is of width 0.
        wide = np.append(opened, 0.0)
        share = np.ones(len(self._s))
        for gap, distance in ((self._gap, self._from_gap), (self._joint, self._s)):
            width = wide[gap]
            ramp = np.clip((distance - width) / STEP_UM + 0.5, 0.0, 1.0)
            share *= np.where(width > 0, ramp, 1.0)
        return share

    # --------------------------------------------------------------- at a time

    def _wall(self, rng: np.random.Generator, x: Array, y: Array, keep: NDArray[np.bool_]) -> None:
        """Place the labelled pieces of membrane around the tube's middle."""
        if self._kind.label != "membrane":
            return
        along_y, along_x = (np.gradient(a, axis=1)[keep] for a in (y, x))
        norm = np.maximum(np.hypot(along_x, along_y), 1e-9)
        here = self._drawn
        turn = rng.uniform(0, 2 * np.pi, (_WALL_POINTS, len(here)))
        radius = self._diameter[here] / 2
        across = radius * np.cos(turn) / norm[here]
        self._wall_x = -across * along_y[here]
        self._wall_y = across * along_x[here]
        self._wall_z = radius * np.sin(turn)

    def _places(
        self, time_s: float, flow: Callable[[Array, Array], tuple[Array, Array]]
    ) -> tuple[Array, Array]:
        drift = self._wandering.at(time_s)[:, self._root]
        return flow(self._x + drift[0], self._y + drift[1])

    def blobs(
        self, time_s: float, flow: Callable[[Array, Array], tuple[Array, Array]]
    ) -> list[Blobs]:
        """Return the network where it is at a time (seconds), carried by the streaming cytoplasm."""
        here = self._drawn
        x, y = (a[here] for a in self._places(time_s, flow))
        z, sigma = self._z[here], self._diameter[here] / 4
        share = self._share(self._opened(time_s))
        path, label = (np.add.reduceat(a * share, here) for a in (self._path, self._bright))
        if self._kind.label == "matrix":
            return [Blobs(x, y, z, sigma, path, label)]
        nothing = np.zeros(len(here))
        wall = Blobs(
            (x + self._wall_x).ravel(),
            (y + self._wall_y).ravel(),
            (z + self._wall_z).ravel(),
            np.full(self._wall_x.size, _WALL_SIGMA_UM),
            np.zeros(self._wall_x.size),
            np.broadcast_to(label / _WALL_POINTS, self._wall_x.shape).ravel(),
        )
        return [Blobs(x, y, z, sigma, path, nothing), wall]

    def outline(
        self, time_s: float, flow: Callable[[Array, Array], tuple[Array, Array]]
    ) -> tuple[Array, Array, Array, Array]:
        """Return x, y, z and radius (n,), in micrometres, of the points of which there is more than half."""
        x, y = self._places(time_s, flow)
        there = self._share(self._opened(time_s)) > 0.5
        return x[there], y[there], self._z[there], self._diameter[there] / 2

    def numbers(
        self,
        time_s: float,
        flow: Callable[[Array, Array], tuple[Array, Array]],
        inside: Inside,
    ) -> NetworkNumbers:
        """Return length and number of the mitochondria of which a part is `inside`.

        The length is that of the parts inside.
        """
        opened = self._opened(time_s)
        x, y = self._places(time_s, flow)
        seen = inside(x, y) & (self._share(opened) > 0.5)
        closed = self._joins[:, opened <= 0]
        graph = sparse.coo_matrix(
            (np.ones(closed.shape[1]), tuple(closed)), shape=(self._n_segments, self._n_segments)
        )
        _, piece = csgraph.connected_components(graph, directed=False)
        pieces = np.unique(piece[self._segment[seen]])
        return NetworkNumbers(float(seen.sum() * STEP_UM), len(pieces))

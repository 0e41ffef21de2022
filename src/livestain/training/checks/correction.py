"""Pairs whose targets are moved to where their sources are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from livestain.training.pairs import PairData, PairSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from livestain.training.checks.affine import Affine
    from livestain.training.pairs import LeakingCrops, Pair

__all__ = ["Correction", "Margins", "corrected"]

_SPLINE_PX = 12
"""Pixels around a part that a cubic spline is fitted to as well; beyond, they weigh less than 1e-6."""


@dataclass(frozen=True, slots=True)
class Margins:
    """Pixels that are cut off each side, of source and target alike: nothing is known of the target there."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def union(self, other: Margins) -> Margins:
        """Return what contains both."""
        return Margins(
            max(self.top, other.top),
            max(self.bottom, other.bottom),
            max(self.left, other.left),
            max(self.right, other.right),
        )

    def inside(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return what is left of a plane."""
        return shape[0] - self.top - self.bottom, shape[1] - self.left - self.right


@dataclass(frozen=True, slots=True)
class Correction:
    """Moves target planes onto their source planes.

    The target's structures lie at ``(y, x) + shift + stretch @ ((y, x) - centre)`` where the source shows
    them at (y, x); so the corrected plane takes its value at (y, x) from there, by cubic spline.

    Attributes
    ----------
    dy, dx : float
        Displacement of the target at the plane's centre, in pixels.
    stretch : 2 x 2 floats, rows y and x
        Its gradient; zeros for a mere shift.
    dz : int
        Displacement in z, in planes: the corrected plane k is the target's plane k + dz.
    """

    dy: float = 0.0
    dx: float = 0.0
    stretch: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    dz: int = 0

    @classmethod
    def of_affine(cls, affine: Affine, dz: int = 0) -> Correction:
        """Return the correction of a fitted map."""
        return cls(affine.shift[0], affine.shift[1], affine.stretch, dz)

    @property
    def moves(self) -> bool:
        """Whether anything moves within the plane."""
        return (self.dy, self.dx) != (0.0, 0.0) or bool(np.any(self.stretch))

    def margins(self, shape: tuple[int, int]) -> Margins:
        """Return the borders for which the target has no pixels.

        Parameters
        ----------
        shape : (int, int)
            Of the planes, in pixels.
        """
        if not self.moves:
            return Margins()
        corners = np.array([(y, x) for y in (0, shape[0] - 1) for x in (0, shape[1] - 1)], float)
        moved = self._displacement(corners, shape)
        low, high = moved.min(axis=0), moved.max(axis=0)
        return Margins(
            top=max(0, math.ceil(-low[0] - 1e-6)),
            bottom=max(0, math.ceil(high[0] - 1e-6)),
            left=max(0, math.ceil(-low[1] - 1e-6)),
            right=max(0, math.ceil(high[1] - 1e-6)),
        )

    def _displacement(
        self, places: NDArray[np.float64], shape: tuple[int, int]
    ) -> NDArray[np.float64]:
        centre = (np.array(shape) - 1) / 2
        moved = np.array([self.dy, self.dx]) + (places - centre) @ np.array(self.stretch).T
        return np.asarray(moved)

    def apply(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """Return target planes where their sources are; at the `margins` they repeat the border.

        Parameters
        ----------
        target : array, (..., y, x)
            Whole planes.

        Returns
        -------
        array of float32, (..., y, x)
            `dz` is not applied: which planes are read is the caller's.
        """
        shape = (int(target.shape[-2]), int(target.shape[-1]))
        return self.take(target, (0, 0), (0, 0, *shape), shape)

    def take(
        self,
        target: NDArray[Any],
        origin: tuple[int, int],
        box: tuple[int, int, int, int],
        shape: tuple[int, int],
    ) -> NDArray[np.float32]:
        """Return a part of the corrected planes, from a part of the recorded ones.

        Parameters
        ----------
        target : array, (..., rows, columns)
            Recorded pixels, from `origin` (y, x) on; at least those that `needs` names.
        origin : (int, int)
            See there.
        box : (int, int, int, int)
            The part that is wanted: its first row and column, its height and width.
        shape : (int, int)
            Of whole planes.
        """
        from scipy.ndimage import affine_transform

        if not self.moves:
            y, x = box[0] - origin[0], box[1] - origin[1]
            cut = target[..., y : y + box[2], x : x + box[3]]
            return np.asarray(cut, np.float32)
        matrix = np.eye(2) + np.array(self.stretch)
        start = np.array(box[:2], float)
        offset = start + self._displacement(start, shape) - np.array(origin)
        planes = target.reshape(-1, *target.shape[-2:]).astype(np.float32)
        found = np.empty((len(planes), *box[2:]), np.float32)
        for plane, out in zip(planes, found, strict=True):
            affine_transform(
                plane, matrix, offset, output_shape=box[2:], output=out, order=3, mode="nearest"
            )
        return found.reshape(*target.shape[:-2], *box[2:])

    def needs(self, box: tuple[int, int, int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
        """Return the rows and columns of the recorded planes that a part is taken from."""
        y, x, height, width = box
        corners = np.array([(i, j) for i in (y, y + height - 1) for j in (x, x + width - 1)], float)
        places = corners + self._displacement(corners, shape)
        reach = _SPLINE_PX if self.moves else 0
        low = np.floor(places.min(axis=0)).astype(int) - reach
        high = np.ceil(places.max(axis=0)).astype(int) + reach + 1
        return (
            slice(max(0, min(low[0], shape[0] - 1)), max(1, min(high[0], shape[0]))),
            slice(max(0, min(low[1], shape[1] - 1)), max(1, min(high[1], shape[1]))),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "dy_px": self.dy,
            "dx_px": self.dx,
            "stretch": [list(row) for row in self.stretch],
            "dz_planes": self.dz,
        }


class CorrectedPairs(PairSet):
    """Pairs whose targets are corrected when they are read; else as the set they are of.

    Source and target lose the same margins, so that no pixel is made up: planes are smaller than recorded.
    Where a correction in z leaves no target for a plane, it is not present. Hashes are of what
    was recorded.

    Parameters
    ----------
    raw : PairSet
        Closed with this one.
    corrections : mapping of str to sequence of Correction
        By movie, one a target; movies that are not named stay as they are.
    """

    def __init__(
        self,
        raw: PairSet,
        corrections: Mapping[str, tuple[Correction, ...]],
    ) -> None:
        super().__init__(raw.movies, raw.reader, raw.spec, crops=raw.crops)
        self._raw = raw
        self._corrections = dict(corrections)

    def only(self, pairs: Iterable[Pair], *, crops: LeakingCrops | None = None) -> PairSet:
        """Return the set of some pairs alone, corrected likewise."""
        return CorrectedPairs(self._raw.only(pairs, crops=crops), self._corrections)

    def sha256(self) -> dict[str, str]:
        """Return the hashes of what was recorded."""
        return self._raw.sha256()

    def present(self, pair: Pair) -> NDArray[np.bool_]:
        """Return which target planes are there after the correction: bool, (targets, depth)."""
        there = self._raw.present(pair)
        return np.stack(
            [
                _moved(row, each.dz if pair.axis == "z" else 0)
                for row, each in zip(there, self._of(pair), strict=True)
            ]
        )

    def read(
        self,
        pair: Pair,
        depth: slice | None = None,
        *,
        part: tuple[slice, slice] | None = None,
        swapped: bool = False,
        only: Literal["both", "source", "target"] = "both",
    ) -> PairData:
        """Return a pair's counts, corrected: see `PairSet.read`."""
        if pair.movie not in self._corrections:
            return self._raw.read(pair, depth, part=part, swapped=swapped, only=only)
        if swapped:
            # The two takes change roles after one of them was moved onto the other.
            role: dict[str, Literal["both", "source", "target"]]
            role = {"both": "both", "source": "target", "target": "source"}
            data = self.read(pair, depth, part=part, only=role[only])
            there = np.ones((len(data.source), data.source.shape[1]), dtype=bool)
            return PairData(source=data.target, target=data.source, present=there)
        half: Literal["source", "target"] = "source" if pair.has_source else "target"
        shape = self._raw.shape(pair, only=half)
        margins = self._margins(pair, shape)
        box = _box(part, margins, shape)
        inside = (slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3]))
        if only == "source" or not pair.has_target:
            return self._raw.read(pair, depth, part=inside, only=only)
        target, present = self._targets(pair, depth, box, shape)
        if only == "target" or not pair.has_source:
            source = np.zeros((0, target.shape[1], *box[2:]), target.dtype)
        else:
            source = self._raw.read(pair, depth, part=inside, only="source").source
        return PairData(source=source, target=target, present=present)

    def _targets(
        self,
        pair: Pair,
        depth: slice | None,
        box: tuple[int, int, int, int],
        shape: tuple[int, int],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rows = range(*(depth or slice(None)).indices(pair.depth))
        corrections = self._of(pair)
        found = np.zeros((len(corrections), len(rows), *box[2:]), np.float32)
        present = self.present(pair)[:, rows.start : rows.stop]
        for k, each in enumerate(corrections):
            dz = each.dz if pair.axis == "z" else 0
            part = each.needs(box, shape)
            origin = (part[0].start, part[1].start)
            for i in np.flatnonzero(present[k]):
                row = rows[int(i)] + dz
                data = self._raw.read(pair, slice(row, row + 1), part=part, only="target")
                found[k, i] = each.take(data.target[k, 0], origin, box, shape)
        return found, present

    def _of(self, pair: Pair) -> tuple[Correction, ...]:
        none = (Correction(),) * len(self.spec.targets)
        return self._corrections.get(pair.movie, none)

    def _margins(self, pair: Pair, shape: tuple[int, int]) -> Margins:
        found = Margins()
        for each in self._of(pair):
            found = found.union(each.margins(shape))
        return found


def corrected(pairs: PairSet, corrections: Mapping[str, tuple[Correction, ...]]) -> PairSet:
    """Return pairs whose targets are moved when they are read.

    Parameters
    ----------
    pairs : PairSet
        As recorded.
    corrections : mapping of str to tuple of Correction
        By movie, one a target. Empty: `pairs` themselves.
    """
    return CorrectedPairs(pairs, corrections) if corrections else pairs


def _moved(row: NDArray[np.bool_], dz: int) -> NDArray[np.bool_]:
    found = np.zeros_like(row)
    n = len(row)
    kept = range(max(0, -dz), min(n, n - dz))
    found[kept.start : kept.stop] = row[kept.start + dz : kept.stop + dz]
    return found


def _box(
    part: tuple[slice, slice] | None, margins: Margins, shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return first row and column, height and width of a part of the planes without their margins."""
    height, width = margins.inside(shape)
    ys, xs = part or (slice(None), slice(None))
    rows, columns = range(*ys.indices(max(height, 0))), range(*xs.indices(max(width, 0)))
    return margins.top + rows.start, margins.left + columns.start, len(rows), len(columns)


def without_small(correction: Correction, least_px: float) -> Correction:
    """Return the correction without a shift that is smaller than can be told from none."""
    if not np.any(correction.stretch) and max(abs(correction.dy), abs(correction.dx)) < least_px:
        return replace(correction, dy=0.0, dx=0.0)
    return correction

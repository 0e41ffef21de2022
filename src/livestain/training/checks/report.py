"""What the checks found, told as JSON, in words, or as a refusal."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from livestain.bundle.description import ReferenceStatistics
from livestain.errors import DataError
from livestain.training.checks.correction import Correction, corrected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livestain.training.checks.quality import BadPair
    from livestain.training.checks.registration import Registration
    from livestain.training.pairs import Pair, PairSet
    from livestain.training.recipe import Recipe

__all__ = ["CheckReport", "PairFigures", "TargetStatistics"]

TOLERANCE_PX = 5.0
"""Of a displacement in the plane, where the recipe names none."""


class TargetStatistics(NamedTuple):
    """Of normalised targets, over all pixels of the pairs asked for."""

    mean: float
    std: float
    minimum: float
    maximum: float


@dataclass(slots=True)
class PairFigures:
    """Counts of one pair.

    Attributes
    ----------
    source : list of (float, float)
        Mean and standard deviation of each source plane, in counts.
    target : list of lists of (pixels, mean, square mean, minimum, maximum)
        By target, of each plane that is normalised by itself: each, or the whole stack.
    """

    source: list[tuple[float, float]] = field(default_factory=list)
    target: list[list[tuple[float, float, float, float, float]]] = field(default_factory=list)


@dataclass
class CheckReport:
    """What was found in the data before a training.

    Attributes
    ----------
    recipe : Recipe
        What it was looked at for.
    recorded : PairSet
        What was looked at.
    registration : tuple of Registration
        By movie and target; empty where it is off, or the data is unpaired.
    bad : tuple of BadPair
        Pairs that should not be learnt from.
    problems : tuple of str
        What no recipe allows, each in a sentence: planes smaller than a crop, constant targets.
    figures : dict
        Counts by pair.
    corrections : dict
        By movie, what `pairs` are corrected by.
    """

    recipe: Recipe
    recorded: PairSet
    registration: tuple[Registration, ...] = ()
    bad: tuple[BadPair, ...] = ()
    problems: tuple[str, ...] = ()
    figures: dict[Pair, PairFigures] = field(default_factory=dict)
    corrections: dict[str, tuple[Correction, ...]] = field(default_factory=dict)

    @property
    def pairs(self) -> PairSet:
        """What is to be trained on: corrected, and without bad pairs if the recipe drops them."""
        kept = self.recorded
        if self.bad and self.recipe.checks.bad_pairs == "drop":
            names = {(bad.movie, bad.pair) for bad in self.bad}
            kept = kept.only(pair for pair in kept.pairs if (pair.movie, pair.name) not in names)
        return corrected(kept, self.corrections)

    @property
    def reference(self) -> ReferenceStatistics:
        """Statistics of the source planes of `pairs`."""
        return self.reference_of(self.pairs.pairs)

    def reference_of(self, pairs: Iterable[Pair]) -> ReferenceStatistics:
        """Return statistics of the source planes of some pairs."""
        planes = np.array([both for pair in pairs for both in self.figures[pair].source])
        mean, std = planes[:, 0], planes[:, 1]
        return ReferenceStatistics(
            planes=len(planes),
            mean=float(mean.mean()),
            mean_spread=float(mean.std()),
            std=float(std.mean()),
            std_spread=float(std.std()),
        )

    def target_statistics(self, pairs: Iterable[Pair]) -> tuple[TargetStatistics, ...]:
        """Return statistics of the normalised targets of some pairs, one a target.

        A target that none of the pairs has gives zeros.
        """
        wanted = [self.figures[pair].target for pair in pairs]
        return tuple(
            _statistics(
                [one for figures in wanted if figures for one in figures[k]],
                by_plane=target.normalisation == "plane",
            )
            for k, target in enumerate(self.recipe.targets)
        )

    # -- what follows from it ----------------------------------------------------------------------

    @property
    def tolerance_px(self) -> float:
        """Largest displacement in the plane that is not refused, in pixels."""
        given = self.recipe.checks.tolerance_um
        return TOLERANCE_PX if given is None else given / self.recipe.pixel_size_um

    @property
    def tolerance_planes(self) -> float:
        """Largest displacement in z that is not refused, in planes."""
        given, step = self.recipe.checks.tolerance_z_um, self.recipe.z_step_um
        return 1.0 if given is None or step is None else given / step

    def beyond(self) -> tuple[Registration, ...]:
        """Return the displacements that are larger than the tolerance."""
        return tuple(
            one
            for one in self.registration
            if one.told
            and (
                max(abs(one.dy_px), abs(one.dx_px)) > self.tolerance_px
                or abs(one.dz_planes or 0.0) > self.tolerance_planes
            )
        )

    def refuse(self) -> None:
        """Refuse the data in one sentence, if the recipe says so.

        Raises
        ------
        DataError
            If there are `problems`; if a displacement is beyond the tolerance and is not corrected; or if
            pairs are bad and the recipe refuses such, or drops them and none is left.
        """
        if self.problems:
            more = f" ({len(self.problems) - 1} more likewise.)" if len(self.problems) > 1 else ""
            raise DataError(self.problems[0] + more)
        checks = self.recipe.checks
        far = self.beyond() if checks.registration == "report" else ()
        if far:
            raise DataError(
                f"{far[0].target} lies {self.words(far[0])} from its source in movie {far[0].movie}; "
                f"expected at most {self._tolerance_words()}. Align the channels, correct them by "
                "checks.registration: shift (or affine) in the recipe, or allow it by checks.tolerance_um "
                "and checks.tolerance_z_um."
            )
        if self.bad and checks.bad_pairs == "refuse":
            first = self.bad[0]
            raise DataError(
                f"{len({(bad.movie, bad.pair) for bad in self.bad})} pairs are bad; the first is "
                f"{first.pair} in movie {first.movie}: {first.why} Remove them, or let the recipe drop them "
                "(checks.bad_pairs: drop)."
            )
        bad = {(one.movie, one.pair) for one in self.bad}
        if bad and checks.bad_pairs == "drop" and len(bad) >= len(self.recorded.pairs):
            raise DataError(
                f"All {len(bad)} pairs are bad; the first is {self.bad[0].pair} in movie "
                f"{self.bad[0].movie}: {self.bad[0].why} Give other data, or checks.bad_pairs: report."
            )

    def _tolerance_words(self) -> str:
        words = f"{self.tolerance_px:.3g} px"
        return f"{words} and {self.tolerance_planes:.3g} planes" if self.recipe.z_step_um else words

    def words(self, one: Registration) -> str:
        """Return a displacement in words: "3.4 px down and 7.2 px left"."""
        if not one.told:
            return "cannot tell"
        y, x = ("down" if one.dy_px >= 0 else "up"), ("right" if one.dx_px >= 0 else "left")
        text = f"{abs(one.dy_px):.1f} px {y} and {abs(one.dx_px):.1f} px {x}"
        if one.dz_planes is not None:
            z = "later" if one.dz_planes >= 0 else "earlier"
            # Two digits: a displacement of 1.03 is beyond a tolerance of 1.
            text += f" and {abs(one.dz_planes):.2f} planes {z} in z"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain JSON types."""
        counted = Counter(bad.kind for bad in self.bad)
        return {
            "pairs": len(self.recorded.pairs),
            "registration": [self._registration(one) for one in self.registration],
            "tolerance_px": self.tolerance_px,
            "tolerance_planes": self.tolerance_planes if self.recipe.z_step_um else None,
            "corrections": {
                movie: [one.to_dict() for one in each] for movie, each in self.corrections.items()
            },
            "bad": {"count": dict(counted), "pairs": [_plain(asdict(bad)) for bad in self.bad]},
            "what_bad_pairs_do": self.recipe.checks.bad_pairs,
            "problems": list(self.problems),
        }

    def _registration(self, one: Registration) -> dict[str, Any]:
        um = self.recipe.pixel_size_um
        told = {
            "movie": one.movie,
            "target": one.target,
            "told": one.told,
            "why_not": one.why_not or None,
            "dy_px": one.dy_px,
            "dx_px": one.dx_px,
            "dy_um": one.dy_px * um,
            "dx_um": one.dx_px * um,
            "interval_y_px": one.interval_y_px,
            "interval_x_px": one.interval_x_px,
            "dz_planes": one.dz_planes,
            "interval_z_planes": one.interval_z_planes,
            "peak_sd": one.z,
            "peak_ratio": one.ratio,
            "looks": one.looks,
            "relief_px": one.relief_px,
            "frames": one.frames,
            "pairs_looked_at": len(one.pairs),
            "pairs_that_tell": sum(pair.told for pair in one.pairs),
            "tiles": [tile._asdict() for tile in one.tiles],
            "affine": None
            if one.affine is None
            else {
                "scale": one.affine.scale,
                "rotation_deg": one.affine.rotation_deg,
                "shear": one.affine.shear,
                "residual_px": one.affine.residual_px,
            },
        }
        plain: dict[str, Any] = _plain(told)
        return plain


def _statistics(
    parts: list[tuple[float, float, float, float, float]], *, by_plane: bool
) -> TargetStatistics:
    if not parts:
        return TargetStatistics(0.0, 0.0, 0.0, 0.0)
    count, mean, square, low, high = np.array(parts, dtype=float).T
    if by_plane:
        std = np.sqrt(np.maximum(square - mean**2, 1e-12))
        low, high = (low - mean) / std, (high - mean) / std
        mean, square = np.zeros_like(mean), np.ones_like(mean)
    weight = count / count.sum()
    centre = float(weight @ mean)
    spread = math.sqrt(max(float(weight @ square) - centre**2, 0.0))
    return TargetStatistics(centre, spread, float(low.min()), float(high.max()))


def _plain(value: Any) -> Any:
    """Return JSON types: infinities and NaN, which JSON has not, become null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value

"""How raw counts are normalised: the settings, which `livestain.bundle.normalisation` carries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from livestain.settings import Settings

if TYPE_CHECKING:
    from livestain.bundle.description import WindowSpec

__all__ = ["NormalisationSettings"]

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
# In thousandths of a percent ranks are whole numbers, and alike wherever they are computed.
_Percentile = Annotated[float, Field(ge=0, le=100), AfterValidator(lambda p: round(p, 3))]


class NormalisationSettings(Settings):
    """How raw counts become what the network sees: ``clamp((counts - mean) / std, -clip, clip)``.

    With the statistic `percentile` the counts at the low percentile stand for the mean, and the distance
    from there to the high percentile for the standard deviation.
    """

    kind: Literal["frame", "frozen", "running"] = "frame"
    """`frame`: statistics of the planes at hand; `frozen`: of the training data, given below; `running`: of
    the window's time points up to the plane's own, each plane's statistics averaged."""

    scope: Literal["plane", "window"] = "plane"
    """For `frame` and `running`: each plane (at a time point) of the window by itself, or all of them
    together."""

    statistic: Literal["mean_std", "percentile"] = "mean_std"
    """Mean and standard deviation, or two percentiles (as CSBDeep normalises), which a few bright pixels
    do not move."""

    low: _Percentile = 1.0
    """For `percentile`: the percentile that becomes 0; to three decimals."""

    high: _Percentile = 99.8
    """For `percentile`: the percentile that becomes 1; to three decimals."""

    subsample: Annotated[int, Field(ge=1)] | None = None
    """Statistics look at every so many-th row and column, in pixels; where left out 1, but 4 for
    `percentile` and for `running`, which looks at many planes. Where a side is shorter than 64 times that,
    at more of it: at least 64 rows or columns are left, or all there are."""

    floor: _Positive = 0.5
    """Smallest std (or distance of the percentiles) in counts, so that an empty or saturated plane gives
    zeros and not noise."""

    clip: _Positive = 10.0
    """Largest magnitude after normalisation, in standard deviations (or distances of the percentiles),
    against hot pixels."""

    mean: _Finite | None = None
    """For `frozen`: mean of the training data, in counts."""

    std: _Positive | None = None
    """For `frozen`: standard deviation of the training data, in counts."""

    low_counts: _Finite | None = None
    """For `frozen` with `percentile`: the low percentile of the training data, in counts."""

    high_counts: _Finite | None = None
    """For `frozen` with `percentile`: the high percentile of the training data, in counts."""

    sees_past: int = Field(default=0, ge=0)
    """For `running`: so many of the window's time points before the plane's own are given to the network
    too; the others are read for the statistics alone."""

    @model_validator(mode="after")
    def _frozen_needs_statistics(self) -> Self:
        percentile = self.statistic == "percentile"
        given = (self.mean is not None, self.std is not None)
        if given != ((self.kind == "frozen" and not percentile),) * 2:
            raise ValueError("mean and std are given for 'frozen', both, and only for it")
        given = (self.low_counts is not None, self.high_counts is not None)
        if given != ((self.kind == "frozen" and percentile),) * 2:
            raise ValueError(
                "low_counts and high_counts are given for 'frozen' with 'percentile', both, and only for it"
            )
        if self.low_counts is not None and self.high_counts is not None:
            if not self.low_counts < self.high_counts:
                raise ValueError("low_counts is less than high_counts")
        return self

    @model_validator(mode="after")
    def _percentiles_are_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low is a smaller percentile than high")
        return self

    @model_validator(mode="after")
    def _only_running_has_a_past(self) -> Self:
        if self.sees_past and self.kind != "running":
            raise ValueError("sees_past is given for 'running' alone; others see the whole window")
        return self

    @property
    def step(self) -> int:
        """Rows and columns from one that the statistics look at to the next, in pixels."""
        sampled = self.statistic == "percentile" or self.kind == "running"
        return self.subsample or (4 if sampled else 1)

    def seen(self, window: WindowSpec) -> WindowSpec:
        """Return the part of a window that the network is given: of `running`, a shorter past."""
        if self.kind != "running":
            return window
        return window.model_copy(update={"past": self.sees_past})

    def check_window(self, window: WindowSpec, dims: int) -> None:
        """Refuse a window of which these statistics cannot be had.

        Raises
        ------
        ValueError
            If `running` has no earlier time points, or a 3-D network.
        """
        if self.kind != "running":
            return
        if dims != 2:
            raise ValueError(
                "normalisation 'running' is for 2-D networks; give 'frame' or 'frozen' to a 3-D one"
            )
        if window.past < 1 or self.sees_past > window.past:
            raise ValueError(
                "normalisation 'running' averages over the window's time points up to the plane's own: give "
                f"window.past, 1 or more, and sees_past not above it; given {window.past} and "
                f"{self.sees_past}"
            )

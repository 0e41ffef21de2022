"""The papers' claims, and the cells of ours that answer to them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from livestain.errors import SettingsError
from livestain.settings import Settings, read_yaml
from study.finished import STATISTICS
from study.judging import judge, parse
from study.markdown import METRICS, number

if TYPE_CHECKING:
    from pathlib import Path

    from study.estimate import Estimate
    from study.finished import Finished
    from study.judging import Verdict

__all__ = [
    "PAPERS",
    "Claim",
    "Difference",
    "Value",
    "arrival",
    "estimates",
    "read_claims",
    "verdict",
]

PAPERS = ("somani", "hsu", "ounkomol", "koelln")
"""In the order of the page; also the names of the studies whose cells answer."""


class Value(Settings):
    """One number of a claim: the paper's, and the cell of ours that answers to it."""

    label: str
    """What the number is of, in `orders` as well."""

    theirs: Decimal | None = None
    """As the paper prints it; in quotes where it ends in a zero. None where only an order is told."""

    recipe: str | None = None
    """Name of our cell without its fold; None where we have none."""

    study: str | None = None
    """Of the cell, where it is not the paper's."""

    metric: str | None = None
    """Where it is not the claim's; likewise `scored` and `statistic`."""

    scored: str | None = None

    statistic: str | None = None


class Difference(Settings):
    """What we have to say where the order is not the paper's."""

    why: str
    """Our best explanation."""

    tried: str
    """What we tried."""


class Claim(Settings):
    """One claim of a paper that has a number or an order."""

    id: str
    """Begins with the paper's name."""

    paper: Literal["somani", "hsu", "ounkomol", "koelln"]

    claim: str
    """In our own words."""

    where: str
    """In the paper."""

    metric: str = "pearson"
    """Of `study.markdown.METRICS`."""

    scored: str = "held-out"
    """What was predicted on: a key of the result's `scores`."""

    statistic: str = "mean"
    """Of `study.finished.STATISTICS`."""

    values: tuple[Value, ...] = ()

    orders: tuple[str, ...] = ()
    """What must hold, of labels: "a > b > c", "a = b within 0.03", "a not above b + 0.03", "a below 1",
    "a above its control"."""

    repeats: str = ""
    """Id of the claim whose order this one's is a part of: shown, and not counted again."""

    not_run: str = ""
    """Why there is no cell for it."""

    note: str = ""
    """What is always said beside it."""

    differs: dict[Literal["cpu", "cuda"], Difference] = Field(default_factory=dict)
    """By scale: shown where the order is not the same."""

    @field_validator("orders")
    @classmethod
    def _orders_are_of_labels(
        cls, orders: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        labels = {value.label for value in info.data.get("values", ())}
        for order in orders:
            for label in parse(order).labels:
                if label not in labels:
                    known = ", ".join(sorted(labels))
                    raise ValueError(
                        f"the order {order!r} names {label!r}, which no value is called; there are: {known}"
                    )
        return orders

    @model_validator(mode="after")
    def _is_answered(self) -> Claim:
        if not self.id.startswith(f"{self.paper}-"):
            raise ValueError(f"the id begins with the paper: {self.paper}-...")
        if bool(self.not_run) == any(value.recipe for value in self.values):
            raise ValueError("a claim has a recipe that answers, or says in `not_run` why not")
        for value in self.values:
            _, _, metric, _, statistic = self.asked(value)
            if metric not in METRICS or statistic not in STATISTICS:
                raise ValueError(f"there is no metric {metric!r} with the statistic {statistic!r}")
        return self

    def asked(self, value: Value) -> tuple[str, str | None, str, str, str]:
        """Return study, recipe, metric, set and statistic of a value."""
        return (
            value.study or self.paper,
            value.recipe,
            value.metric or self.metric,
            value.scored or self.scored,
            value.statistic or self.statistic,
        )

    def metric_of(self, value: Value) -> str:
        """Return a value's metric."""
        return value.metric or self.metric

    def printed(self, label: str) -> str:
        """Return the paper's number of a label, as the paper prints it; "-" where it prints none."""
        for value in self.values:
            if value.label == label and value.theirs is not None:
                whole = value.theirs == value.theirs.to_integral_value()
                metric = self.metric_of(value)
                return number(float(value.theirs), metric) if whole else str(value.theirs)
        return "-"

    def compared(self) -> tuple[Value, ...]:
        """Return the values that an order names."""
        labels = {label for order in self.orders for label in parse(order).labels}
        return tuple(value for value in self.values if value.label in labels)


def read_claims(path: Path) -> tuple[Claim, ...]:
    """Read claims.yaml.

    Raises
    ------
    SettingsError
        If a claim is not complete, or two have one id.
    """
    found = read_yaml(path)
    if not isinstance(found, list):
        raise SettingsError(f"{path}: expected a list of claims.")
    claims = tuple(
        Claim.parse(
            one, where=f"{path}: claim {one.get('id', i + 1) if isinstance(one, dict) else i + 1}"
        )
        for i, one in enumerate(found)
    )
    ids = [claim.id for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise SettingsError(f"{path}: two claims are called {', '.join(twice)}; expected one.")
    for claim in claims:
        if claim.repeats and claim.repeats not in ids:
            raise SettingsError(
                f"{path}: claim {claim.id} repeats {claim.repeats!r}, which is no claim's id; expected one."
            )
    return claims


def estimates(claim: Claim, finished: Finished) -> dict[str, Estimate | None]:
    """Return our numbers of a claim, by label."""
    found: dict[str, Estimate | None] = {}
    for value in claim.values:
        study, recipe, metric, on, statistic = claim.asked(value)
        found[value.label] = (
            None
            if recipe is None
            else finished.estimate(study, recipe, metric, on=on, statistic=statistic)
        )
    return found


def verdict(claim: Claim, finished: Finished) -> Verdict:
    """Say whether our numbers have a claim's order.

    What is left of the unspecific signal is judged by its magnitude: to take away too much is an error, too.
    """
    numbers = estimates(claim, finished)
    for value in claim.values:
        found = numbers[value.label]
        if found is not None and claim.metric_of(value) == "unspecific":
            numbers[value.label] = found.magnitude()
    return judge(claim.orders, numbers)


def arrival(claim: Claim, finished: Finished) -> Literal["", "not at plateau", "plateau not known"]:
    """Say whether the trainings that a claim compares had arrived; nothing where all had.

    Where a learning rate went to 0, or nothing was looked at, that is not known.
    """
    states = {
        cell.plateau
        for value in claim.compared()
        if value.recipe is not None
        for cell in finished.of(value.study or claim.paper, value.recipe)
    }
    if "not reached" in states:
        return "not at plateau"
    return "plateau not known" if states - {"reached"} else ""

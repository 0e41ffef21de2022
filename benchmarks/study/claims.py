"""The papers' claims, and whether our cells show the same order."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from livestain.errors import SettingsError
from livestain.settings import Settings, read_yaml
from study.finished import STATISTICS, Estimate, Finished
from study.markdown import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Claim", "Difference", "Value", "Verdict", "estimates", "judge", "read_claims"]

Word = Literal["same", "different", "not told apart", "not run", "no order"]

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
    """What must hold, of labels: "a > b > c", "a = b within 0.03", "a below 1", "a above its control"."""

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
            for label in _parse(order).labels:
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


@dataclass(frozen=True)
class Verdict:
    """Whether an order is the same, of all comparisons that it is made of.

    Attributes
    ----------
    word : str
        "same" if every comparison is; "different" if one is the other way round, by intervals that are
        apart; else "not told apart" if one is not; else "not run".
    parts : tuple of str
        The word of each comparison of two numbers.
    """

    word: Word
    parts: tuple[Word, ...] = ()

    @property
    def text(self) -> str:
        """The word, and what it is made of where that is more than one comparison."""
        if len(self.parts) < 2 or len(set(self.parts)) == 1:
            return self.word
        kinds: tuple[Word, ...] = ("same", "different", "not told apart", "not run")
        counts = [(kind, self.parts.count(kind)) for kind in kinds]
        return f"{self.word} ({', '.join(f'{n} {kind}' for kind, n in counts if n)})"


@dataclass(frozen=True)
class _Order:
    """An order, parsed: `kind` is ">", "=", "below", "above" or "control"."""

    kind: str
    labels: tuple[str, ...]
    limit: float = 0.0


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


def judge(orders: Iterable[str], numbers: Mapping[str, Estimate | None]) -> Verdict:
    """Say whether numbers have an order.

    Two numbers are told apart where their intervals do not overlap; a number is told from a limit where its
    interval lies on one side of it. "within" asks that the interval of the difference, its half widths those
    of the two in quadrature, lies within the limit.

    Parameters
    ----------
    orders : iterable of str
        See `Claim.orders`.
    numbers : mapping of str to Estimate or None
        By label; None where a cell has not been run.

    Returns
    -------
    Verdict
        "no order" where there is none.
    """
    parts: list[Word] = []
    for text in orders:
        order = _parse(text)
        found = [numbers.get(label) for label in order.labels]
        if order.kind == ">":
            parts += [_told(a, b) for a, b in itertools.combinations(found, 2)]
        elif order.kind == "=":
            parts.append(_alike(found[0], found[1], order.limit))
        elif order.kind == "control":
            controls = [
                None if a is None or a.control is None else Estimate(a.control) for a in found
            ]
            parts += [_told(a, b) for a, b in zip(found, controls, strict=True)]
        else:
            limit = Estimate(order.limit)
            parts += [_told(a, limit) if order.kind == "above" else _told(limit, a) for a in found]
    if not parts:
        return Verdict("no order")
    # What is not the same already stays so, whatever is still to be run; "same" has to wait for all of it.
    word: Word = "same"
    for other in ("different", "not told apart", "not run"):
        if other in parts:
            word = other
            break
    return Verdict(word, tuple(parts))


def _told(more: Estimate | None, less: Estimate | None) -> Word:
    if more is None or less is None:
        return "not run"
    (low, high), (other_low, other_high) = more.ends, less.ends
    if low > other_high:
        return "same"
    return "different" if high < other_low else "not told apart"


def _alike(a: Estimate | None, b: Estimate | None, limit: float) -> Word:
    if a is None or b is None:
        return "not run"
    difference = a.value - b.value
    (a_low, a_high), (b_low, b_high) = a.ends, b.ends
    low = difference - ((a.value - a_low) ** 2 + (b_high - b.value) ** 2) ** 0.5
    high = difference + ((a_high - a.value) ** 2 + (b.value - b_low) ** 2) ** 0.5
    if low >= -limit and high <= limit:
        return "same"
    return "different" if low > limit or high < -limit else "not told apart"


def _parse(text: str) -> _Order:
    if match := re.fullmatch(r"(.+) = (.+) within ([\d.]+)", text):
        return _Order("=", match.group(1, 2), float(match[3]))
    if match := re.fullmatch(r"(.+) (below|above) ([\d.]+)", text):
        return _Order(match[2], (match[1],), float(match[3]))
    if match := re.fullmatch(r"(.+) above its control", text):
        return _Order("control", (match[1],))
    labels = tuple(text.split(" > "))
    if len(labels) < 2:
        raise ValueError(
            f"the order {text!r} is none; expected 'a > b', 'a = b within 0.03', 'a below 1', 'a above 1' or "
            "'a above its control'"
        )
    return _Order(">", labels)

"""Whether numbers have an order, as far as their intervals tell."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from study.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Order", "Verdict", "Word", "judge", "parse"]

Word = Literal["same", "different", "not told apart", "not run", "no order"]


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
class Order:
    """An order, parsed: `kind` is ">", "=", "not above", "below", "above" or "control"."""

    kind: str
    labels: tuple[str, ...]
    limit: float = 0.0


def judge(orders: Iterable[str], numbers: Mapping[str, Estimate | None]) -> Verdict:
    """Say whether numbers have an order.

    Two numbers are told apart where their intervals do not overlap; a number is told from a limit where its
    interval lies on one side of it. "within" asks that the interval of the difference, its half widths those
    of the two in quadrature, lies within the limit; "not above b + x" that it lies below the limit. A number
    without an interval is told apart from nothing.

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
        order = parse(text)
        found = [numbers.get(label) for label in order.labels]
        if order.kind == ">":
            parts += [_told(a, b) for a, b in itertools.combinations(found, 2)]
        elif order.kind == "=":
            parts.append(_between(*found, -order.limit, order.limit))
        elif order.kind == "not above":
            parts.append(_between(*found, -math.inf, order.limit))
        elif order.kind == "control":
            controls = [
                None if a is None or a.control is None else Estimate.exact(a.control) for a in found
            ]
            parts += [_told(a, b) for a, b in zip(found, controls, strict=True)]
        else:
            limit = Estimate.exact(order.limit)
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
    if not more.apart(less):
        return "not told apart"
    return "same" if more.value > less.value else "different"


def _between(a: Estimate | None, b: Estimate | None, least: float, most: float) -> Word:
    """Say whether a - b lies between two limits, by the interval of the difference."""
    if a is None or b is None:
        return "not run"
    ends = _difference(a, b)
    if ends is None:
        return "not told apart"
    low, high = ends
    if low >= least and high <= most:
        return "same"
    return "different" if low > most or high < least else "not told apart"


def _difference(a: Estimate, b: Estimate) -> tuple[float, float] | None:
    """Return the interval of a - b; None where one of the two has none."""
    if a.ends is None or b.ends is None:
        return None
    difference = a.value - b.value
    (a_low, a_high), (b_low, b_high) = a.ends, b.ends
    low = difference - ((a.value - a_low) ** 2 + (b_high - b.value) ** 2) ** 0.5
    high = difference + ((a_high - a.value) ** 2 + (b.value - b_low) ** 2) ** 0.5
    return low, high


def parse(text: str) -> Order:
    """Read an order of labels; see `claims.Claim.orders`.

    Raises
    ------
    ValueError
        If it is none.
    """
    if match := re.fullmatch(r"(.+) = (.+) within ([\d.]+)", text):
        return Order("=", match.group(1, 2), float(match[3]))
    if match := re.fullmatch(r"(.+) not above (.+) \+ ([\d.]+)", text):
        return Order("not above", match.group(1, 2), float(match[3]))
    if match := re.fullmatch(r"(.+) (below|above) ([\d.]+)", text):
        return Order(match[2], (match[1],), float(match[3]))
    if match := re.fullmatch(r"(.+) above its control", text):
        return Order("control", (match[1],))
    labels = tuple(text.split(" > "))
    if len(labels) < 2:
        raise ValueError(
            f"the order {text!r} is none; expected 'a > b', 'a = b within 0.03', 'a not above b + 0.03', "
            "'a below 1', 'a above 1' or 'a above its control'"
        )
    return Order(">", labels)

"""Requirements on figures: `success >= 0.95, hub_accuracy.low >= 0.97`.

Goes in: an expression, and figures by name (a rate is a mapping with `value`, `low`, `high`, `n`).
Comes out: what was found for each requirement. Does not know where the figures come from.

    >>> requirement, = parse("success >= 0.95", "--require 'success >= 0.95'")
    >>> str(requirement.on({"success": {"value": 0.9, "low": 0.856, "high": 0.938, "n": 200}}))
    'success is 0.9 [0.856, 0.938], n = 200, required >= 0.95'
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from subterra.runtime.errors import UsageError

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}

_CLAUSE = re.compile(r"\s*([\w.%-]+?)\s*(>=|<=|==|!=|>|<)\s*([\w.+-]+)\s*")

Figures = Mapping[str, Any]
Actual = float | str | None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One clause of an expression."""

    path: str
    symbol: str
    wanted: str
    example: str
    """What a right expression looks like, for the hint."""

    def __str__(self) -> str:
        return f"{self.path} {self.symbol} {self.wanted}"

    @property
    def number(self) -> float:
        """The limit as a number.

        Raises:
            UsageError: it is none.
        """
        try:
            limit = float(self.wanted)
        except ValueError:
            limit = math.nan
        if math.isnan(limit):
            words = f"{self.wanted!r} is no number in the requirement '{self}'"
            raise UsageError(words, hint=self.example)
        return limit

    def on(self, figures: Figures) -> "Finding":
        """Hold the requirement against figures; what was not measured does not meet it.

        Raises:
            KeyError: the figures have no such number.
            UsageError: the limit of a number is no number.
        """
        actual, rate = find(self.path, figures)
        limit = self.wanted if isinstance(actual, str) else self.number
        met = actual is not None and COMPARISONS[self.symbol](actual, limit)
        return Finding(self, actual, rate, met)


@dataclass(frozen=True, slots=True)
class Finding:
    """A requirement and what was measured."""

    requirement: Requirement
    actual: Actual
    rate: Figures
    """Value, interval and n of the rate that the requirement is about; empty for other figures."""
    met: bool

    def __str__(self) -> str:
        wanted = f"required {self.requirement.symbol} {self.requirement.wanted}"
        if self.actual is None:
            return f"{self.requirement.path} is not measured, {wanted}"
        interval = ""
        if {"low", "high", "n"} <= self.rate.keys():
            bounds = f"[{_digits(self.rate['low'])}, {_digits(self.rate['high'])}]"
            interval = f" {bounds}, n = {self.rate['n']}"
        return f"{self.requirement.path} is {_digits(self.actual)}{interval}, {wanted}"

    def to_json(self) -> dict[str, object]:
        """Give the finding for a JSON document."""
        bounds = {name: self.rate.get(name) for name in ("low", "high", "n")}
        return {
            "requirement": str(self.requirement),
            "met": self.met,
            "actual": self.actual,
        } | bounds


def parse(expression: str, example: str) -> tuple[Requirement, ...]:
    """Read requirements that are parted by commas.

    Raises:
        UsageError: a clause does not parse; `example` is the hint.
    """
    found = []
    for clause in expression.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(f"cannot read the requirement {clause.strip()!r}", hint=example)
        found.append(Requirement(match[1], match[2], match[3], example))
    return tuple(found)


def find(path: str, figures: Figures) -> tuple[Actual, Figures]:
    """Look a figure up by its dotted path; give the rate that it belongs to as well.

    A rate stands for its value. None: not measured.

    Raises:
        KeyError: there is no number or text at this path.
    """
    rest, found = path, None
    rate: Figures = {}
    scope: Any = figures
    while rest:
        if not isinstance(scope, Mapping):
            raise KeyError(path)
        fits = [key for key in scope if rest == key or rest.startswith(f"{key}.")]
        key = max(fits, key=len, default=None)  # the longest: p99.9 has a dot of its own
        if key is None:
            raise KeyError(path)
        found = scope = scope[key]
        if found is None:
            return None, rate
        if isinstance(scope, Mapping) and "value" in scope:
            rate = scope
        rest = rest[len(key) + 1 :]
    if isinstance(found, Mapping) and "value" in found:
        found = found["value"]
    if found is not None and not isinstance(found, str | int | float):
        raise KeyError(path)
    return found, rate


def _digits(actual: float | str) -> str:
    return f"{actual:.4g}" if isinstance(actual, float) else str(actual)

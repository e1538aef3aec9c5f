"""The gate on a score: `subterra score --require 'success >= 0.95, hub_accuracy.low >= 0.97'`.

Goes in: expressions, and the metrics of an agent. Comes out: what was found for each requirement.
Rates are compared as measured, not as rounded for people; `.low` and `.high` are the ends of their
Wilson interval.

    >>> missed = [f for f in findings(requirements(["success >= 0.95"]), metrics) if not f.met]
"""

from collections.abc import Sequence
from dataclasses import fields

from subterra.compile.metrics import Metrics
from subterra.compile.rates import Rate
from subterra.compile.requirements import Finding, Requirement, parse
from subterra.runtime.errors import UsageError

EXAMPLE = "--require 'success >= 0.95, hub_accuracy.low >= 0.97'"
PARTS = ("value", "low", "high", "n")
"""What may follow a rate's name."""
NUMBERS = ("turns",)
"""Metrics that are no rates."""


def requirements(expressions: Sequence[str]) -> tuple[Requirement, ...]:
    """Read requirements, and refuse wrong ones before a conversation is rolled out.

    Raises:
        UsageError: a clause does not parse, names no metric, or asks of a rate what it cannot be.
    """
    found = tuple(r for expression in expressions for r in parse(expression, EXAMPLE))
    names = [field.name for field in fields(Metrics)]
    for requirement in found:
        name, _, part = requirement.path.partition(".")
        if name not in names or part not in (("",) if name in NUMBERS else ("", *PARTS)):
            raise UsageError(
                f"no metric '{requirement.path}' to require",
                hint=f"metrics: {', '.join(names)}; of a rate also .low and .high",
            )
        is_share = name not in NUMBERS and part != "n"
        if not 0 <= requirement.number <= (1 if is_share else float("inf")):
            words = f"'{requirement}' can never hold or never fail: a rate lies between 0 and 1"
            raise UsageError(words, hint=EXAMPLE)
    return found


def findings(wanted: Sequence[Requirement], metrics: Metrics) -> list[Finding]:
    """Hold requirements against metrics."""
    figures = {field.name: _figure(getattr(metrics, field.name)) for field in fields(metrics)}
    return [requirement.on(figures) for requirement in wanted]


def _figure(value: object) -> object:
    if isinstance(value, Rate) and value.n:
        return {name: getattr(value, name) for name in PARTS}
    if isinstance(value, Rate) or value is None:
        return dict.fromkeys(PARTS) | {"n": 0}
    return value

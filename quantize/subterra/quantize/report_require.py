"""Requirements on a report: `Q8_0.success >= 0.95, Q8_0.kld.p99 < 0.1`.

Goes in: an expression and a report's JSON document. Comes out: the requirements that are missed.
A rate stands for its value; `recommendation.name == Q8_0` compares text.

    >>> missed("Q8_0.kld.p99 < 0.1", document)
    []
"""

import operator
import re
from collections.abc import Callable, Collection, Mapping
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

OTHERS = ("recommendation", "control", "reference")
"""Parts of a report, beside its variants, that a requirement can be about."""

EXAMPLE = "--require 'Q8_0.success >= 0.85, Q8_0.kld.p99 < 0.1'"


def missed(expression: str, document: Mapping[str, Any]) -> list[str]:
    """Name the clauses of `expression` that `document` does not meet.

    Raises:
        UsageError: a clause does not parse, or names something that the report does not have.
    """
    found = []
    for clause in expression.split(","):
        path, symbol, wanted = _parse(clause)
        actual = _value(path, document)
        limit = _limit(wanted, actual, clause)
        if actual is None or not COMPARISONS[symbol](actual, limit):
            shown = "not measured" if actual is None else str(actual)
            found.append(f"{path} is {shown}, required {symbol} {wanted}")
    return found


def check_syntax(expression: str, variants: Collection[str]) -> None:
    """Refuse an expression before hours of measuring.

    Raises:
        UsageError: a clause does not parse, or is about no variant.
    """
    for clause in expression.split(","):
        head = _parse(clause)[0].partition(".")[0]
        if head not in variants and head not in OTHERS:
            raise UsageError(
                f"unknown variant {head!r} in a requirement",
                hint=f"{EXAMPLE}; variants: {', '.join(variants)}",
            )


def _parse(clause: str) -> tuple[str, str, str]:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise UsageError(f"cannot read the requirement {clause.strip()!r}", hint=EXAMPLE)
    return match[1], match[2], match[3]


def _value(path: str, document: Mapping[str, Any]) -> float | str | None:
    variants = {variant["name"]: variant for variant in document["variants"]}
    rest, found = path, None
    scope: Any = {**document, **variants}
    while rest:
        if not isinstance(scope, Mapping):
            raise _unknown(path, document)
        fits = [key for key in scope if rest == key or rest.startswith(f"{key}.")]
        key = max(fits, key=len, default=None)  # the longest: p99.9 has a dot of its own
        if key is None:
            raise _unknown(path, document)
        found = scope = scope[key]
        rest = rest[len(key) + 1 :]
    if isinstance(found, Mapping) and "value" in found:
        found = found["value"]
    if found is not None and not isinstance(found, str | int | float):
        raise _unknown(path, document)
    return found


def _limit(wanted: str, actual: float | str | None, clause: str) -> float | str:
    if isinstance(actual, str):
        return wanted
    try:
        return float(wanted)
    except ValueError:
        raise UsageError(f"{wanted!r} is no number in {clause.strip()!r}", hint=EXAMPLE) from None


def _unknown(path: str, document: Mapping[str, Any]) -> UsageError:
    names = ", ".join(variant["name"] for variant in document["variants"])
    return UsageError(f"the report has no number {path!r}", hint=f"{EXAMPLE}; variants: {names}")

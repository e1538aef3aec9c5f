"""Requirements on a report: `Q8_0.success >= 0.95, Q8_0.kld.p99 < 0.1`.

Goes in: an expression and a report's JSON document. Comes out: the requirements that are missed.
A rate stands for its value; `recommendation.name == Q8_0` compares text.

    >>> missed("Q8_0.kld.p99 < 0.1", document)
    []
"""

from collections.abc import Collection, Mapping
from typing import Any

from subterra.compile.requirements import parse
from subterra.runtime.errors import UsageError

OTHERS = ("recommendation", "control", "reference")
"""Parts of a report, beside its variants, that a requirement can be about."""

EXAMPLE = "--require 'Q8_0.success >= 0.85, Q8_0.kld.p99 < 0.1'"


def missed(expression: str, document: Mapping[str, Any]) -> list[str]:
    """Name the clauses of `expression` that `document` does not meet.

    Raises:
        UsageError: a clause does not parse, or names something that the report does not have.
    """
    variants = {variant["name"]: variant for variant in document["variants"]}
    found = []
    for requirement in parse(expression, EXAMPLE):
        try:
            finding = requirement.on({**document, **variants})
        except KeyError:
            raise UsageError(
                f"the report has no number {requirement.path!r}",
                hint=f"{EXAMPLE}; variants: {', '.join(variants)}",
            ) from None
        if not finding.met:
            found.append(str(finding))
    return found


def check_syntax(expression: str, variants: Collection[str]) -> None:
    """Refuse an expression before hours of measuring.

    Raises:
        UsageError: a clause does not parse, or is about no variant.
    """
    for requirement in parse(expression, EXAMPLE):
        head = requirement.path.partition(".")[0]
        if head not in variants and head not in OTHERS:
            raise UsageError(
                f"unknown variant {head!r} in a requirement",
                hint=f"{EXAMPLE}; variants: {', '.join(variants)}",
            )

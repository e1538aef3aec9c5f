"""Requirements on a report: `Q8_0.success >= 0.95, Q8_0.kld.p99 < 0.1`.

Goes in: an expression and a report's JSON document. Comes out: the requirements that are missed.
A rate stands for its value; `recommendation.name == Q8_0` compares text.

    >>> missed("Q8_0.kld.p99 < 0.1", document)
    []
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from subterra.compile.metrics import Metrics
from subterra.compile.rates import Rate
from subterra.compile.requirements import parse
from subterra.compile.score_gate import NUMBERS
from subterra.quantize.divergence import PERCENTILES, Divergence
from subterra.quantize.quantize import Record
from subterra.quantize.report_data import Flips, Recommendation, Report, Row, ScoreSummary
from subterra.quantize.speed import Speed
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


def check(expression: str, variants: Sequence[str]) -> None:
    """Refuse an expression before hours of measuring.

    Args:
        expression: as typed.
        variants: that the report will have, at least one.

    Raises:
        UsageError: a clause does not parse, is about no variant, or names no figure of a report.
    """
    for requirement in parse(expression, EXAMPLE):
        head = requirement.path.partition(".")[0]
        if head not in variants and head not in OTHERS:
            raise UsageError(
                f"unknown variant {head!r} in a requirement",
                hint=f"{EXAMPLE}; variants: {', '.join(variants)}",
            )
    missed(expression, _with_every_figure(variants))


def _with_every_figure(variants: Sequence[str]) -> dict[str, object]:
    """Make a report's document with a figure at every place, which means nothing."""
    share = Rate(1, 1)
    kld = dict.fromkeys(("mean", "mean_error", *PERCENTILES, "max"), 0.0)
    divergence = Divergence(1, 1, 1.0, 1.0, 1.0, 0.0, kld, share, 0.0, 0.0)
    speed = Speed(0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, 0.0)
    rates = {field.name: share for field in fields(Metrics) if field.name not in NUMBERS}
    rows = [
        Row(
            Record(name, "", "", "", 0, 0.0, 0, "", {}, 0.0),
            divergence,
            speed,
            ScoreSummary([True], rates),
            Flips(0, 0, 1),
        )
        for name in variants
    ]
    reference = {"name": "", "engine": "", "precision": "", "bytes": 0}
    reference |= {"parameters": 0, "checkpoint_sha256": "", "ppl": 0.0}
    advice = Recommendation(variants[0], "")
    return Report("", "", reference, divergence, rows, None, {}, {}, advice).to_json()

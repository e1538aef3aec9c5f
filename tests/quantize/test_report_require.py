from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from subterra.quantize.report_data import Report
from subterra.quantize.report_require import check, missed
from subterra.runtime.errors import UsageError

NAMES = ("F16", "Q8_0")


def test_requirements_that_hold_are_silent(sample_report: Report) -> None:
    document = sample_report.to_json()
    expression = "Q8_0.success >= 0.85, Q8_0.kld.p99 < 0.1, Q8_0.kld.p99.9<0.1"
    assert missed(expression, document) == []
    assert missed("recommendation.name == Q8_0, control.kld.max == 0", document) == []


def test_a_missed_requirement_is_named_with_its_value(sample_report: Report) -> None:
    found = missed("Q4_0.success >= 0.85, onnx-int8.bytes < 100e6", sample_report.to_json())
    assert found == [
        "Q4_0.success is 0.695 [0.628, 0.755], n = 200, required >= 0.85",
        "onnx-int8.bytes is 156237824, required < 100e6",
    ]


def test_what_was_not_measured_misses_every_requirement(sample_report: Report) -> None:
    document = sample_report.to_json()
    for variant in document["variants"]:  # type: ignore[attr-defined]
        variant["success"] = None
    assert missed("Q8_0.success >= 0", document) == ["Q8_0.success is not measured, required >= 0"]


@pytest.mark.parametrize(
    "expression", ["Q8_0.success", "Q8_0.success => 1", "", "Q8_0.success >= 0.9,", "a b > 1"]
)
def test_an_expression_that_does_not_parse_is_refused_at_once(expression: str) -> None:
    with pytest.raises(UsageError, match="cannot read the requirement"):
        check(expression, NAMES)


def test_an_unknown_variant_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="unknown variant 'Q5_0'"):
        check("Q5_0.success >= 0.9", NAMES)


@pytest.mark.parametrize("path", ["Q8_0.kld", "Q8_0.nothing", "Q8_0.bytes.more", "Q8_0"])
def test_a_path_to_no_number_is_refused(sample_report: Report, path: str) -> None:
    with pytest.raises(UsageError, match="the report has no number"):
        missed(f"{path} > 1", sample_report.to_json())


def test_a_limit_that_is_no_number_is_refused(sample_report: Report) -> None:
    with pytest.raises(UsageError, match="'high' is no number"):
        missed("Q8_0.success >= high", sample_report.to_json())


@pytest.mark.parametrize(
    "path", ["Q8_0.hub_acuracy", "F16.rates.hub", "Q8_0.kld.p98", "control.success", "reference.x"]
)
def test_a_figure_that_no_report_has_is_refused_at_once(path: str) -> None:
    with pytest.raises(UsageError, match=f"the report has no number '{path}'"):
        check(f"{path} > 1", NAMES)


def test_every_figure_of_a_report_can_be_required(sample_report: Report) -> None:
    document: dict[str, Any] = sample_report.to_json()
    for name in figures({"Q8_0": document["variants"][1], "control": document["control"]}):
        check(f"{name} != 2", NAMES)
    check("Q8_0.rates.hub_accuracy.low > 0.9, recommendation.name == F16", NAMES)
    check("reference.ppl < 2, Q8_0.flips.p > 0.05, F16.success.n >= 200", NAMES)


def figures(document: dict[str, Any], above: str = "") -> Iterator[str]:
    """Name every number of a document."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from figures(value, f"{above}{name}.")
        elif isinstance(value, int | float):
            yield f"{above}{name}"


def test_what_lies_below_a_figure_that_was_not_measured_is_not_measured(
    sample_report: Report,
) -> None:
    rows = [replace(row, scores=None, flips=None) for row in sample_report.rows]
    document = replace(sample_report, rows=rows).to_json()
    assert missed("Q8_0.success.low >= 0, Q8_0.flips.p > 0", document) == [
        "Q8_0.success.low is not measured, required >= 0",
        "Q8_0.flips.p is not measured, required > 0",
    ]

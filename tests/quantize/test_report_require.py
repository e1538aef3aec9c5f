import pytest

from subterra.quantize.report_data import Report
from subterra.quantize.report_require import check_syntax, missed
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
        check_syntax(expression, NAMES)


def test_an_unknown_variant_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="unknown variant 'Q5_0'"):
        check_syntax("Q5_0.success >= 0.9", NAMES)


@pytest.mark.parametrize("path", ["Q8_0.kld", "Q8_0.nothing", "Q8_0.bytes.more", "Q8_0"])
def test_a_path_to_no_number_is_refused(sample_report: Report, path: str) -> None:
    with pytest.raises(UsageError, match="the report has no number"):
        missed(f"{path} > 1", sample_report.to_json())


def test_a_limit_that_is_no_number_is_refused(sample_report: Report) -> None:
    with pytest.raises(UsageError, match="'high' is no number"):
        missed("Q8_0.success >= high", sample_report.to_json())

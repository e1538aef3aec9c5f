"""Requirements: what meets them, what does not, and what is refused."""

import pytest

from subterra.compile.requirements import find, parse
from subterra.runtime.errors import UsageError

EXAMPLE = "--require 'success >= 0.95'"
FIGURES = {
    "success": {"value": 0.9, "low": 0.856, "high": 0.938, "n": 200},
    "hub_accuracy": {"value": None, "low": None, "high": None, "n": 0},
    "kld": {"p99": 0.05, "p99.9": 0.2},
    "bytes": 156237824,
    "name": "Q8_0",
}


def found(expression: str) -> list[str]:
    return [str(f) for f in (r.on(FIGURES) for r in parse(expression, EXAMPLE)) if not f.met]


def test_what_holds_is_met() -> None:
    assert found("success >= 0.9, success.low<0.86, kld.p99.9 > 0.1, name == Q8_0") == []


def test_what_is_missed_is_named_with_its_figure_and_interval() -> None:
    assert found("success >= 0.95, success.low >= 0.9, bytes < 1e8") == [
        "success is 0.9 [0.856, 0.938], n = 200, required >= 0.95",
        "success.low is 0.856 [0.856, 0.938], n = 200, required >= 0.9",
        "bytes is 156237824, required < 1e8",
    ]


def test_what_was_not_measured_meets_nothing() -> None:
    assert found("hub_accuracy >= 0") == ["hub_accuracy is not measured, required >= 0"]


@pytest.mark.parametrize(
    "expression", ["", "success", "success => 1", "success >= 0.9,", "a b > 1"]
)
def test_what_does_not_parse_is_refused_with_an_example(expression: str) -> None:
    with pytest.raises(UsageError, match="cannot read the requirement") as caught:
        parse(expression, EXAMPLE)
    assert caught.value.hint == EXAMPLE


@pytest.mark.parametrize("limit", ["high", "nan"])
def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    with pytest.raises(UsageError, match="is no number"):
        found(f"success != {limit}")


@pytest.mark.parametrize("path", ["nothing", "success.nothing", "kld", "bytes.more", "name.value"])
def test_a_path_to_no_figure_is_none(path: str) -> None:
    with pytest.raises(KeyError):
        find(path, FIGURES)


def test_a_finding_in_json_keeps_the_interval() -> None:
    (requirement,) = parse("success >= 0.95", EXAMPLE)
    assert requirement.on(FIGURES).to_json() == {
        "requirement": "success >= 0.95",
        "met": False,
        "actual": 0.9,
        "low": 0.856,
        "high": 0.938,
        "n": 200,
    }

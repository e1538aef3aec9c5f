"""The gate on a score: rates as measured, and refusals before anything is rolled out."""

from dataclasses import replace

import pytest

from subterra.compile.metrics import measure
from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate
from subterra.compile.score_gate import findings, requirements
from subterra.runtime.errors import UsageError


def test_rates_are_compared_unrounded(kettle: Procedure) -> None:
    metrics = replace(measure(kettle, []), success=Rate(9499, 10_000))
    (finding,) = findings(requirements(["success >= 0.95"]), metrics)
    assert metrics.success.to_json()["value"] == 0.95
    assert not finding.met


def test_the_lower_end_of_the_interval_can_be_required(kettle: Procedure) -> None:
    metrics = replace(measure(kettle, []), success=Rate(20, 20))
    held = findings(requirements(["success.low >= 0.83, success.low >= 0.84"]), metrics)
    assert [finding.met for finding in held] == [True, False]


def test_several_options_are_all_required(kettle: Procedure) -> None:
    metrics = replace(measure(kettle, []), success=Rate(1, 2))
    held = findings(requirements(["success >= 0.6", "success >= 0.4"]), metrics)
    assert [finding.met for finding in held] == [False, True]


def test_a_metric_that_nothing_was_counted_for_is_not_measured(kettle: Procedure) -> None:
    held = findings(
        requirements(["success >= 0", "joint_state_accuracy.low >= 0", "turns == 0"]),
        measure(kettle, []),
    )
    assert [finding.met for finding in held] == [False, False, True]


@pytest.mark.parametrize("path", ["hubs", "success.p99", "turns.low", "success.low.n"])
def test_an_unknown_metric_is_refused_with_the_names(path: str) -> None:
    with pytest.raises(UsageError, match=f"no metric '{path}'") as caught:
        requirements([f"{path} >= 0.5"])
    assert "success, failure, terminal_accuracy, hub_accuracy" in caught.value.hint


@pytest.mark.parametrize("expression", ["success >= 95", "success.low > -1"])
def test_a_limit_beyond_a_rate_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        requirements([expression])


def test_counts_may_be_larger_than_one() -> None:
    assert len(requirements(["turns >= 100, success.n >= 200"])) == 2

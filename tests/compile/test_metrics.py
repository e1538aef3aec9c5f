"""Metrics: success is strict, and each kind of fault costs it."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from subterra.compile.metrics import Metrics, measure, succeeded
from subterra.compile.policy import Message, Move, State, move
from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate, wilson
from subterra.compile.rollout import Conversation
from subterra.compile.speech import reply
from subterra.compile.user_bank import UserBank

Talk = Callable[..., list[Conversation]]
Verdict = tuple[list[bool], list[bool], Metrics]
COUNT = 60


@pytest.fixture
def verdict(talk: Talk, zoom: Procedure, zoom_bank: UserBank) -> Callable[..., Verdict]:
    """Measure the example's agent with a fault; which scenarios are lost, and which concern it."""

    def verdict(node: str, **faults: object) -> Verdict:
        conversations = talk(zoom, zoom_bank, COUNT, **faults)
        lost = [not succeeded(zoom, c) for c in conversations]
        concerned = [node in c.scenario.path for c in conversations]
        assert any(concerned)
        assert not all(concerned)
        return lost, concerned, measure(zoom, conversations)

    return verdict


def test_a_wrong_node_loses_exactly_the_scenarios_that_need_it(
    verdict: Callable[..., Verdict],
) -> None:
    def skip_verify(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "verify":
            return replace(step, state=replace(step.state, node="resolved"))
        return step

    lost, concerned, metrics = verdict("verify", behave=skip_verify)
    assert lost == concerned
    assert metrics.hub_accuracy.value < 1
    assert metrics.failure == Rate(sum(lost), COUNT)


def test_a_missing_fact_loses_exactly_the_scenarios_that_need_it(
    verdict: Callable[..., Verdict],
) -> None:
    def forget(procedure: Procedure, step: Move, rng: random.Random) -> str:
        if step.state.node == "deeper":
            return "Then one step deeper. Restart everything. Is it better now?"
        return reply(procedure, step, rng)

    lost, concerned, metrics = verdict("deeper", speak=forget)
    assert lost == concerned
    assert metrics.node_accuracy.value == metrics.terminal_accuracy.value == 1


def test_swapped_order_loses_the_scenario(verdict: Callable[..., Verdict]) -> None:
    """The deeper step is given first and the fix afterwards: all is said, in the wrong order."""

    def swap(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        fix = f"fix_{step.state.slots['issue']}"
        swapped = {fix: "deeper", "deeper": fix}.get(step.state.node)
        if swapped is None:
            return step
        return replace(step, state=replace(step.state, node=swapped))

    lost, concerned, _ = verdict("deeper", behave=swap)
    assert all(lose for lose, deep in zip(lost, concerned, strict=True) if deep)


def test_a_wrong_slot_loses_the_scenario(verdict: Callable[..., Verdict]) -> None:
    def mishear(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.slots["device"] is None:
            return step
        return replace(step, state=replace(step.state, slots={**step.state.slots, "device": "Mac"}))

    _, _, metrics = verdict("fix_audio", behave=mishear)
    assert metrics.success.value < 0.7
    assert metrics.slot_accuracy is not None
    assert metrics.slot_accuracy.value < 1


def test_the_wrong_terminal_loses_the_scenario(verdict: Callable[..., Verdict]) -> None:
    def resign(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "escalated":
            return replace(step, state=replace(step.state, node="unresolved"))
        return step

    lost, concerned, metrics = verdict("escalated", behave=resign)
    assert lost == concerned
    assert metrics.terminal_accuracy == Rate(COUNT - sum(lost), COUNT)


def test_leaving_the_node_on_an_aside_costs_aside_accuracy(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    def leave(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.stayed and state.node == "mend":
            return Move(State("retry", state.slots, frozenset({"retried"})))
        return step

    metrics = measure(kettle, talk(kettle, kettle_bank, COUNT, behave=leave))
    assert metrics.aside_accuracy.value < 1
    assert metrics.aside_accuracy.n < metrics.turns


def test_ignoring_a_correction_costs_correction_accuracy(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    def ignore(procedure: Procedure, state: State, message: Message) -> Move:
        if "take_back" in message.intents:
            return Move(State("gone", state.slots))
        return move(procedure, state, message)

    metrics = measure(kettle, talk(kettle, kettle_bank, COUNT, behave=ignore))
    assert metrics.correction_accuracy == Rate(0, metrics.correction_accuracy.n)
    assert metrics.correction_accuracy.n > 0


def test_a_wrong_flag_costs_the_joint_state_alone(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    def flag(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node != "done":
            return step
        return replace(step, state=replace(step.state, flags=frozenset()))

    metrics = measure(kettle, talk(kettle, kettle_bank, COUNT, behave=flag))
    joint = metrics.joint_state_accuracy
    assert joint is not None
    assert joint.value < metrics.node_accuracy.value == metrics.success.value == 1


def test_a_plain_agent_has_no_state_to_be_right_about(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    metrics = measure(kettle, talk(kettle, kettle_bank, 10, recipe="plain"))
    assert (metrics.joint_state_accuracy, metrics.slot_accuracy) == (None, None)
    document = metrics.to_json()
    assert document["joint_state_accuracy"] is None
    assert document["success"] == {"value": 1.0, "n": 10, "low": 0.722, "high": 1.0}


def test_no_conversations_make_rates_without_a_value(kettle: Procedure) -> None:
    metrics = measure(kettle, [])
    assert metrics.success.to_json() == {"value": None, "n": 0, "low": 0.0, "high": 1.0}
    assert metrics.turns == 0


def test_a_traced_agent_that_breaks_every_later_state_line_has_a_joint_state_of_zero(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    conversations = talk(kettle, kettle_bank, 8)
    for conversation in conversations:
        opening, first = conversation.exchanges[:2]
        broken = replace(first, reading=replace(first.reading, node=None, slots=None))
        conversation.exchanges[:] = [opening, broken]
    assert measure(kettle, conversations).joint_state_accuracy == Rate(0, 8)


def test_rates_carry_the_wilson_interval(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    metrics = measure(kettle, talk(kettle, kettle_bank, 20))
    assert (metrics.success.low, metrics.success.high) == wilson(20, 20)
    assert metrics.success.low == pytest.approx(0.8389, abs=1e-4)

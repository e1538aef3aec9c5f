"""Failures are grouped by the node concerned and by what went wrong there first."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from subterra.compile.explain import EXAMPLES, Cluster, clusters, first_slip
from subterra.compile.metrics import succeeded
from subterra.compile.policy import Message, Move, State, move
from subterra.compile.procedure import Procedure
from subterra.compile.rollout import Conversation, Exchange
from subterra.compile.speech import reply
from subterra.compile.user_bank import UserBank

Talk = Callable[..., list[Conversation]]
Explain = Callable[..., list[Cluster]]
COUNT = 40


@pytest.fixture
def explain(talk: Talk, kettle: Procedure, kettle_bank: UserBank) -> Explain:
    """Cluster what an agent with a fault loses; every failure must be in one cluster."""

    def explain(**faults: object) -> list[Cluster]:
        conversations = talk(kettle, kettle_bank, COUNT, **faults)
        found = clusters(kettle, conversations)
        lost = sum(not succeeded(kettle, c) for c in conversations)
        assert sum(cluster.count for cluster in found) == lost
        return found

    return explain


def broken(exchange: Exchange, **reading: object) -> Exchange:
    return replace(exchange, reading=replace(exchange.reading, **reading))  # type: ignore[arg-type]


def test_an_agent_that_loses_nothing_has_no_clusters(explain: Explain) -> None:
    assert explain() == []


def test_a_fact_that_is_not_said(explain: Explain) -> None:
    def forget(procedure: Procedure, step: Move, rng: random.Random) -> str:
        said = reply(procedure, step, rng)
        return said.replace("Boil it empty twice.", "Boil it.")

    (cluster,) = explain(speak=forget)
    assert (cluster.node, cluster.fault) == ("retry", "fact")
    lines = cluster.examples[0].transcript.splitlines()
    wrong = next(i for i, line in enumerate(lines) if line.startswith("!"))
    assert "Boil it." in lines[wrong]
    assert "> retry | " in lines[wrong + 1]
    assert lines[wrong + 2] == "  gold   must say: Boil it empty twice."
    assert sum(line.startswith("!") for line in lines) == 1


def test_a_wrong_node_from_the_right_intent(explain: Explain) -> None:
    def ask_again(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "retry":
            return replace(step, state=replace(step.state, node="mend"))
        return step

    assert {(c.node, c.fault) for c in explain(behave=ask_again)} == {("retry", "node")}


def test_a_wrong_terminal_and_what_the_user_meant(explain: Explain) -> None:
    def resign(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "done":
            return replace(step, state=replace(step.state, node="gone"))
        return step

    (cluster,) = explain(behave=resign)
    assert (cluster.node, cluster.fault) == ("done", "terminal")
    assert set(cluster.intents) <= {"works", "works+chat"}
    assert sum(cluster.intents.values()) == cluster.count
    assert list(cluster.intents.values()) == sorted(cluster.intents.values(), reverse=True)
    assert len(cluster.examples) == EXAMPLES


def test_a_wrong_slot(explain: Explain) -> None:
    def mishear(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.slots["fault"] == "leak":
            return replace(
                step, state=replace(step.state, slots={**step.state.slots, "fault": "cold"})
            )
        return step

    assert {c.fault for c in explain(behave=mishear)} == {"slot"}


def test_the_largest_cluster_comes_first(explain: Explain) -> None:
    def stumble(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node in ("done", "retry"):
            return replace(step, state=replace(step.state, node="gone"))
        return step

    found = explain(behave=stumble)
    assert len(found) > 1
    assert [c.count for c in found] == sorted((c.count for c in found), reverse=True)


def test_a_misread_intent_comes_before_the_node_it_leads_to(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    (talked,) = talk(kettle, kettle_bank, 1)
    talked.exchanges[1] = broken(talked.exchanges[1], intents=("works",), node="done")
    assert first_slip(kettle, talked).fault == "intent"
    talked.exchanges[0] = broken(talked.exchanges[0], node=None, slots=None)
    assert (first_slip(kettle, talked).fault, first_slip(kettle, talked).turn) == ("unreadable", 0)


def test_a_conversation_without_a_wrong_turn_ran_out_or_went_astray(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    (talked,) = talk(kettle, kettle_bank, 1)
    goal, last = talked.scenario.path[-1], len(talked.exchanges) - 1
    assert first_slip(kettle, talked).fault == "step"
    talked.ended_at = None
    assert (first_slip(kettle, talked).fault, first_slip(kettle, talked).turn) == ("turns", last)
    talked.ended_at = "gone" if goal == "done" else "done"
    assert (first_slip(kettle, talked).fault, first_slip(kettle, talked).node) == ("terminal", goal)


def test_a_plain_agent_is_judged_by_its_nodes(explain: Explain) -> None:
    def resign(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "done":
            return replace(step, state=replace(step.state, node="gone"))
        return step

    assert {c.fault for c in explain(behave=resign, recipe="plain")} == {"terminal"}

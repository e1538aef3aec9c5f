"""Rollouts: every path is realised against a gold agent, and what comes back is what happened."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import pytest

from subterra.compile.metrics import measure, succeeded
from subterra.compile.node_reader import NodeReader
from subterra.compile.policy import Message, Move, State, move
from subterra.compile.procedure import Procedure
from subterra.compile.rollout import MAX_TURNS, Conversation, Plan, rollout
from subterra.compile.scenario import Scenario, Temper
from subterra.compile.score import draw_scenarios
from subterra.compile.speech import reply
from subterra.compile.transcript import transcript
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import WordingSource
from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.engine import Choose

Talk = Callable[..., list[Conversation]]
CALM = Temper(aside=0, false_start=0, detour=0)


@pytest.mark.parametrize("recipe", ["traced", "plain"])
def test_a_gold_agent_succeeds_on_every_path_of_the_example(
    talk: Talk, zoom: Procedure, zoom_bank: UserBank, recipe: str
) -> None:
    conversations = talk(zoom, zoom_bank, 150, recipe=recipe)
    lost = [c for c in conversations if not succeeded(zoom, c)]
    assert not lost, transcript(lost[0])


def test_a_gold_agent_succeeds_on_a_procedure_with_an_open_slot(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    conversations = talk(kettle, kettle_bank, 150)
    lost = [c for c in conversations if not succeeded(kettle, c)]
    assert not lost, transcript(lost[0])
    joint = measure(kettle, conversations).joint_state_accuracy
    assert joint is not None
    assert joint.value == 1


def test_conversations_come_in_the_order_of_their_scenarios_however_many_run_at_once(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    runs = [talk(kettle, kettle_bank, 12, parallel=parallel) for parallel in (1, 5, 40)]
    said = [[[e.raw for e in c.exchanges] for c in run] for run in runs]
    assert said[0] == said[1] == said[2]
    assert [c.scenario for c in runs[0]] == draw_scenarios(kettle, kettle_bank, 12, 1)


def test_a_terminal_ends_the_conversation(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    for conversation in talk(kettle, kettle_bank, 20):
        nodes = [exchange.reading.node for exchange in conversation.exchanges]
        assert nodes[-1] == conversation.ended_at
        assert not {"done", "gone"} & set(nodes[:-1])


def test_an_agent_that_never_gets_on_is_given_up(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    def stay(procedure: Procedure, state: State, message: Message) -> Move:
        return Move(state)

    for conversation in talk(kettle, kettle_bank, 5, behave=stay):
        assert len(conversation.exchanges) == MAX_TURNS
        assert conversation.ended_at is None


def test_a_reply_without_state_line_ends_a_traced_conversation(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank, tokenizer: ChatTokenizer
) -> None:
    scenarios = draw_scenarios(kettle, kettle_bank, 3, 1)
    plan = Plan(
        kettle,
        scenarios,
        lambda index: WordingSource(kettle_bank, random.Random(index)),
        tokenizer,
        NodeReader(kettle, "traced"),
        seed=1,
    )
    for conversation in rollout(plan, Mumbling(tokenizer.encode_text("I do not know."))):
        (only,) = conversation.exchanges
        assert (only.reading.node, conversation.ended_at) == (None, None)


def test_a_conversation_that_outgrows_the_context_is_given_up(
    kettle: Procedure, kettle_bank: UserBank, tokenizer: ChatTokenizer
) -> None:
    slots = Mumbling(tokenizer.encode_text("ask > ask | ? | ?\nWhat?"))
    plan = Plan(
        kettle,
        draw_scenarios(kettle, kettle_bank, 2, 1),
        lambda index: WordingSource(kettle_bank, random.Random(index)),
        tokenizer,
        NodeReader(kettle, "traced"),
        seed=1,
        context_tokens=700,
    )
    for conversation in rollout(plan, slots):
        assert 2 <= len(conversation.exchanges) < MAX_TURNS
    assert slots.longest < 700 - plan.max_reply_tokens


class Mumbling:
    """Slots that always give the same reply."""

    count = 2

    def __init__(self, reply: list[int]) -> None:
        self.longest = 0
        self._reply = reply
        self._busy: list[int] = []

    def submit(
        self,
        slot: int,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        choose: Choose | None = None,
    ) -> None:
        self.longest = max(self.longest, len(tokens))
        self._busy.append(slot)

    def step(self) -> list[tuple[int, list[int]]]:
        finished, self._busy = self._busy, []
        return [(slot, self._reply) for slot in finished]

    def close(self) -> None:
        pass


def test_flags_follow_the_node_that_the_agent_is_really_at(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    """An agent that asks again where the second step was due has not given that step."""

    def ask_again(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "retry":
            return replace(step, state=State("ask", state.slots))
        return step

    calm = [Scenario(("hello", "mend", "retry", "done"), TRUTH, None, CALM)]
    conversation = one_talk(talk, kettle, kettle_bank, calm, behave=ask_again)
    due, after = conversation.exchanges[-2:]
    assert (due.reading.node, due.gold.state.node, due.gold.state.flags) == (
        "ask",
        "retry",
        frozenset({"retried"}),
    )
    assert after.gold.state.flags == frozenset()


TRUTH = {"fault": "leak", "owner": "Ben"}


def one_talk(
    talk: Talk,
    procedure: Procedure,
    bank: UserBank,
    scenarios: list[Scenario],
    **faults: object,
) -> Conversation:
    (conversation,) = talk(procedure, bank, 1, scenarios=scenarios, **faults)
    return conversation


def test_a_misheard_value_leads_back_to_the_step_and_the_gold_says_so(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    misheard: list[int] = []

    def mishear_once(procedure: Procedure, state: State, message: Message) -> Move:
        step = move(procedure, state, message)
        if step.state.node == "mend" and not misheard:
            misheard.append(1)
            return replace(step, state=State("mend", {**step.state.slots, "fault": "cold"}))
        return step

    calm = [Scenario(("hello", "mend", "done"), TRUTH, None, CALM)]
    conversation = one_talk(talk, kettle, kettle_bank, calm, behave=mishear_once)
    keys = [e.utterance.key for e in conversation.exchanges if e.utterance]
    corrected = keys.index("take_back") + 1
    gold = conversation.exchanges[corrected].gold
    assert (gold.state.node, gold.state.slots, gold.hub) == ("mend", TRUTH, "sort")
    assert succeeded(kettle, conversation)


def test_progress_counts_the_conversations_that_are_over(
    kettle: Procedure, kettle_bank: UserBank, tokenizer: ChatTokenizer
) -> None:
    plan = Plan(
        kettle,
        draw_scenarios(kettle, kettle_bank, 5, 1),
        lambda index: WordingSource(kettle_bank, random.Random(index)),
        tokenizer,
        NodeReader(kettle, "traced"),
        seed=1,
    )
    slots = Mumbling(tokenizer.encode_text("ask > ask | ? | ?\nWhat?"))
    seen: list[int] = []
    rollout(plan, slots, lambda done, total: seen.append(done))
    assert (seen[0], seen[-1]) == (0, 5)
    assert seen == sorted(seen)


def test_the_gold_reply_is_the_one_that_the_speech_would_give(
    talk: Talk, kettle: Procedure, kettle_bank: UserBank
) -> None:
    for conversation in talk(kettle, kettle_bank, 10):
        for exchange in conversation.exchanges:
            texts = {reply(kettle, exchange.gold, random.Random(seed)) for seed in range(30)}
            assert exchange.reading.text in texts

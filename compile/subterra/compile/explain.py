"""Why conversations failed: clusters by the node concerned and by what went wrong there.

Goes in: rolled-out conversations. Comes out: clusters, largest first, with short examples. The gold
of a turn is relative to where the agent really was, so each turn is judged for itself; a failure
counts where its first wrong turn is, whatever came of it. Does not know engines.

    >>> found = clusters(procedure, conversations)
    >>> (found[0].node, found[0].fault, found[0].count)
    ('fix_connection', 'fact', 7)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from subterra.compile.dialogue import START_INTENT
from subterra.compile.metrics import node_right, succeeded
from subterra.compile.policy import aside
from subterra.compile.procedure import Procedure
from subterra.compile.rollout import Conversation, Exchange
from subterra.compile.speech import says_fact
from subterra.compile.transcript import end_line, scenario_line, turn_lines
from subterra.runtime import state_line as state_lines
from subterra.runtime.state_line import StateLine

EXAMPLES = 2
"""Transcripts of a cluster; the shortest ones show the fault best."""

Fault = Literal["unreadable", "intent", "node", "slot", "fact", "terminal", "step", "turns"]
WORDS: Mapping[Fault, str] = {
    "unreadable": "wrote a reply that shows no node",
    "intent": "read the wrong intent",
    "node": "wrong node from the right intent",
    "slot": "wrong slot",
    "fact": "right state, wrong fact said",
    "terminal": "ended at the wrong terminal",
    "step": "every turn right, a mandatory step missed",
    "turns": "ran out of turns",
}


@dataclass(frozen=True, slots=True)
class Slip:
    """What went wrong first in a failed conversation."""

    fault: Fault
    node: str
    """Where the agent should have been."""
    turn: int
    """Index of the exchange."""


@dataclass(frozen=True, slots=True)
class Example:
    """A failed conversation of a cluster."""

    scenario: int
    """Its number, from 0, among the scenarios of the seed."""
    slip: Slip
    transcript: str

    def to_json(self) -> dict[str, object]:
        """Give it for a JSON document."""
        turn, lines = self.slip.turn, self.transcript.splitlines()
        return {"scenario": self.scenario, "turn": turn, "transcript": lines}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Failures of one kind at one node."""

    node: str
    fault: Fault
    count: int
    intents: Mapping[str, int]
    """What the user meant at the wrong turn (the bank's key), and how often."""
    examples: tuple[Example, ...]

    def to_json(self) -> dict[str, object]:
        """Give it for a JSON document."""
        return {
            "node": self.node,
            "fault": self.fault,
            "about": WORDS[self.fault],
            "count": self.count,
            "intents": dict(self.intents),
            "examples": [example.to_json() for example in self.examples],
        }


def clusters(procedure: Procedure, conversations: Sequence[Conversation]) -> list[Cluster]:
    """Group the failed conversations, the largest group first."""
    members: dict[tuple[str, Fault], list[tuple[int, Slip]]] = {}
    for index, conversation in enumerate(conversations):
        if not succeeded(procedure, conversation):
            slip = first_slip(procedure, conversation)
            members.setdefault((slip.node, slip.fault), []).append((index, slip))
    found = []
    for (node, fault), failures in members.items():
        said = Counter(_key(conversations[index].exchanges[slip.turn]) for index, slip in failures)
        shortest = sorted(failures, key=lambda f: (f[1].turn, len(conversations[f[0]].exchanges)))
        examples = tuple(
            Example(index, slip, excerpt(procedure, conversations[index], slip))
            for index, slip in shortest[:EXAMPLES]
        )
        found.append(Cluster(node, fault, len(failures), dict(said.most_common()), examples))
    return sorted(found, key=lambda cluster: (-cluster.count, cluster.node, cluster.fault))


def first_slip(procedure: Procedure, conversation: Conversation) -> Slip:
    """Find the first wrong turn of a failed conversation, or what else it failed of."""
    for turn, exchange in enumerate(conversation.exchanges):
        fault = _fault(procedure, exchange)
        if fault is not None:
            return Slip(fault, exchange.gold.state.node, turn)
    turn, goal = len(conversation.exchanges) - 1, conversation.scenario.path[-1]
    if conversation.ended_at is None:
        return Slip("turns", conversation.exchanges[turn].gold.state.node, turn)
    if conversation.ended_at != goal:
        return Slip("terminal", goal, turn)
    return Slip("step", _missed_step(procedure, conversation), turn)


def excerpt(procedure: Procedure, conversation: Conversation, slip: Slip) -> str:
    """Write a conversation up to its first wrong turn, which is marked, with the gold beside it."""
    lines = [scenario_line(conversation)]
    for turn, exchange in enumerate(conversation.exchanges[: slip.turn + 1]):
        lines += turn_lines(exchange, "!" if turn == slip.turn else " ")
    lines += [f"  gold   {text}" for text in _gold(procedure, conversation.exchanges[slip.turn])]
    left = len(conversation.exchanges) - slip.turn - 1
    if left:
        lines.append(f"  ... {left} more turn{'s' if left > 1 else ''}")
    lines.append(end_line(conversation))
    return "\n".join(lines) + "\n"


def _fault(procedure: Procedure, exchange: Exchange) -> Fault | None:
    reading, gold = exchange.reading, exchange.gold
    if reading.node is None:
        return "unreadable"
    if not node_right(exchange):
        if reading.slots is not None and set(reading.intents) != set(_intents(exchange)):
            return "intent"
        return "terminal" if procedure.node(reading.node).kind == "terminal" else "node"
    if reading.slots is not None and dict(reading.slots) != dict(gold.state.slots):
        return "slot"
    if _fact_is_due(procedure, exchange) and not says_fact(procedure, gold, reading.text):
        return "fact"
    return None


def _fact_is_due(procedure: Procedure, exchange: Exchange) -> bool:
    """Tell whether a success needs the reply's fact: after an aside the short question will do."""
    gold = exchange.gold
    node = procedure.node(gold.state.node)
    repeats = any(aside(procedure, name).repeats for name in gold.asides)
    return node.mandatory and not (gold.stayed and node.again and not repeats)


def _missed_step(procedure: Procedure, conversation: Conversation) -> str:
    passed = [exchange.reading.node for exchange in conversation.exchanges]
    required = [name for name in conversation.scenario.path if procedure.node(name).mandatory]
    missed = [name for name in required if name not in passed]
    return (missed or required or [conversation.scenario.path[-1]])[0]


def _intents(exchange: Exchange) -> tuple[str, ...]:
    return exchange.utterance.message.intents if exchange.utterance else (START_INTENT,)


def _key(exchange: Exchange) -> str:
    return exchange.utterance.key if exchange.utterance else START_INTENT


def _gold(procedure: Procedure, exchange: Exchange) -> list[str]:
    state = exchange.gold.state
    flags = tuple(name for name in procedure.flags if name in state.flags)
    line = StateLine(_intents(exchange), state.node, tuple(state.slots.items()), flags)
    lines = [state_lines.format(line, procedure.slot_names)]
    fact = procedure.node(state.node).fact(state.slots, state.flags)
    if fact is not None and _fact_is_due(procedure, exchange):
        lines.append(f"must say: {fact}")
    return lines

"""Metrics of rolled-out conversations.

Goes in: conversations with the gold move beside every reply. Comes out: `Metrics`, all rates with
their Wilson interval. Does not know engines.

Success is strict: the right terminal, and every mandatory node of the scenario's path passed in
order, each with its fact said word for word for the scenario's own slot values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from subterra.compile.policy import Move, State
from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate
from subterra.compile.rollout import Conversation, Exchange
from subterra.compile.speech import says_fact


@dataclass(frozen=True, slots=True)
class Metrics:
    """Rates of one agent on one set of scenarios."""

    success: Rate
    failure: Rate
    terminal_accuracy: Rate
    hub_accuracy: Rate
    node_accuracy: Rate
    joint_state_accuracy: Rate | None
    """None for a recipe without state line."""
    aside_accuracy: Rate
    """Turns with an aside (or correction excluded) after which the agent stayed where it should."""
    correction_accuracy: Rate
    slot_accuracy: Rate | None
    turns: int

    def to_json(self) -> dict[str, object]:
        """Give the rates by name."""
        return {
            name: value.to_json() if isinstance(value, Rate) else value
            for name in self.__dataclass_fields__
            for value in [getattr(self, name)]
        }


def measure(procedure: Procedure, conversations: Sequence[Conversation]) -> Metrics:
    """Count everything over all conversations."""
    wins = [succeeded(procedure, c) for c in conversations]
    turns = [e for c in conversations for e in c.exchanges if e.utterance is not None]
    corrections = {intent.name for intent in procedure.corrections}
    traced = any(e.reading.slots is not None for c in conversations for e in c.exchanges)
    return Metrics(
        success=_rate(wins),
        failure=_rate([not win for win in wins]),
        terminal_accuracy=_rate([c.ended_at == c.scenario.path[-1] for c in conversations]),
        hub_accuracy=_rate([node_right(e) for e in turns if e.gold.hub is not None]),
        node_accuracy=_rate([node_right(e) for e in turns]),
        joint_state_accuracy=_rate([state_right(e) for e in turns]) if traced else None,
        aside_accuracy=_rate([node_right(e) for e in turns if e.gold.asides]),
        correction_accuracy=_rate([node_right(e) for e in turns if corrections & set(_meant(e))]),
        slot_accuracy=_rate(list(_slot_hits(turns))) if traced else None,
        turns=len(turns),
    )


def succeeded(procedure: Procedure, conversation: Conversation) -> bool:
    """Tell whether a conversation is a full success."""
    scenario = conversation.scenario
    if conversation.ended_at != scenario.path[-1]:
        return False
    required = [name for name in scenario.path if procedure.node(name).mandatory]
    for exchange in conversation.exchanges:
        if not required:
            break
        if exchange.reading.node == required[0] and _said(
            procedure, required[0], exchange, scenario.slots
        ):
            required.pop(0)
    return not required


def node_right(exchange: Exchange) -> bool:
    """Tell whether the agent is at the gold node."""
    return exchange.reading.node == exchange.gold.state.node


def state_right(exchange: Exchange) -> bool:
    """Tell whether node, slots and flags are all as prescribed."""
    gold = exchange.gold.state
    return (
        node_right(exchange)
        and dict(exchange.reading.slots or {}) == dict(gold.slots)
        and exchange.reading.flags == gold.flags
    )


def _said(procedure: Procedure, node: str, exchange: Exchange, slots: object) -> bool:
    state = State(node, dict(slots), exchange.gold.state.flags)  # type: ignore[call-overload]
    return says_fact(procedure, Move(state), exchange.reading.text)


def _slot_hits(turns: Sequence[Exchange]) -> Iterator[bool]:
    for exchange in turns:
        shown = exchange.reading.slots or {}
        for name, value in exchange.gold.state.slots.items():
            yield shown.get(name) == value


def _meant(exchange: Exchange) -> tuple[str, ...]:
    return exchange.utterance.message.intents if exchange.utterance else ()


def _rate(hits: Sequence[bool]) -> Rate:
    return Rate(sum(hits), len(hits))

"""How often dialogues take each edge of a procedure.

Goes in: a procedure and gold dialogues. Comes out: a count for every edge, zero where no dialogue
takes it. A dialogue does not name its edges, so each turn is decided again from the one before.

    >>> counts = EdgeCounts(procedure)
    >>> counts.add(dialogue)
    >>> [str(way) for way, count in counts.items() if not count]
    []
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from subterra.compile.dialogue import Dialogue, Turn
from subterra.compile.policy import Message, Move, State, move
from subterra.compile.procedure import Node, Procedure

NEXT, DEFAULT = "next", "default"


@dataclass(frozen=True, slots=True)
class Way:
    """An edge: from a node to a node. Two edges of a hub may lead to one node."""

    source: str
    target: str
    condition: str
    """In the author's words; `next` out of an agent node, `default` where no edge holds."""

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} ({self.condition})"


class EdgeCounts:
    """Counts over dialogues; the order is that of the procedure."""

    def __init__(self, procedure: Procedure) -> None:
        self._procedure = procedure
        self._counts = dict.fromkeys((way for node in procedure.nodes for way in _ways(node)), 0)

    def add(self, dialogue: Dialogue) -> None:
        """Count the edges of one dialogue."""
        for before, turn in pairwise(dialogue.turns):
            step, message = self._decide(before, turn)
            if step.hub is None:
                continue
            node, hub = self._procedure.node(before.node), self._procedure.node(step.hub)
            if node.next == hub.name:
                self._counts[_next(node)] += 1
            self._counts[_taken(hub, step, message, frozenset(before.flags))] += 1

    def items(self) -> Iterator[tuple[Way, int]]:
        """Yield every edge with its count."""
        yield from self._counts.items()

    def _decide(self, before: Turn, turn: Turn) -> tuple[Move, Message]:
        """Find the message that leads from a turn to the next.

        A turn keeps the intents, and the slots after it. Values named without a change show only in
        where they lead: a correction that insists on one enters its slot's hub again.
        """
        changed = {n: v for n, v in turn.slots.items() if v is not None and v != before.slots[n]}
        insisted = [{n: v} for n, v in turn.slots.items() if v is not None and n not in changed]
        state = State(before.node, before.slots, frozenset(before.flags))
        for more in ({}, *insisted):
            message = Message(turn.intents, changed | more)
            step = move(self._procedure, state, message)
            if step.state.node == turn.node:
                return step, message
        message = Message(turn.intents, changed)
        return move(self._procedure, state, message), message


def _ways(node: Node) -> Iterator[Way]:
    if node.next:
        yield _next(node)
    for edge in node.edges:
        yield Way(node.name, edge.to, edge.condition)
    if node.default:
        yield Way(node.name, node.default, DEFAULT)


def _next(node: Node) -> Way:
    return Way(node.name, node.next or node.name, NEXT)


def _taken(hub: Node, step: Move, message: Message, flags: frozenset[str]) -> Way:
    for edge in hub.edges:
        meant = not edge.intents or set(edge.intents) & set(message.intents)
        if meant and edge.when.holds(step.state.slots, flags):
            return Way(hub.name, edge.to, edge.condition)
    return Way(hub.name, hub.default or hub.edges[-1].to, DEFAULT)

"""What the procedure prescribes: from a state and what the user meant to the next state.

Goes in: a `State` and a `Message` (intents and slot values). Comes out: the gold `Move`. The state
is Markov: nothing that decides an edge lives in the history. Does not know wording, neither the
user's nor the agent's.

    >>> move(procedure, State("fix_audio", {...}), Message(("fixed",))).state.node
    'verify'
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from subterra.compile.procedure import Aside, Edge, Node, Procedure


@dataclass(frozen=True, slots=True)
class State:
    """Where a conversation stands: the node that spoke last, the slots, the flags."""

    node: str
    slots: Mapping[str, str | None]
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Message:
    """What one user message means: intents in the order said, slot values named in it."""

    intents: tuple[str, ...]
    slots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """What the agent does next: the new state, the asides it answers, whether it stayed."""

    state: State
    asides: tuple[str, ...] = ()
    stayed: bool = False
    hub: str | None = None
    """The hub that decided, if one did."""


def opening(procedure: Procedure) -> Move:
    """Give the move with which the agent opens a conversation."""
    empty: dict[str, str | None] = dict.fromkeys(procedure.slot_names)
    return Move(_enter(procedure.node(procedure.start), empty, frozenset()))


def move(procedure: Procedure, state: State, message: Message) -> Move:
    """Decide the agent's next move.

    A message that holds only asides keeps the node. A value that is changed, or that a correction
    insists on, enters its slot's hub again. Otherwise the hub after the node decides: its first
    edge whose intents and tests hold.
    """
    asides = tuple(a.name for a in procedure.asides if a.name in message.intents)
    slots = _updated(procedure, state.slots, message)
    changed = {name for name in procedure.slot_names if slots[name] != state.slots.get(name)}
    if len(asides) == len(message.intents) and not changed:
        return Move(state, asides, stayed=True)
    if any(intent.name in message.intents for intent in procedure.corrections):
        changed |= set(message.slots)
    node = procedure.node(state.node)
    again = [
        slot.decided_at
        for slot in procedure.slots
        if slot.name in changed and state.slots.get(slot.name) is not None
    ]
    hub = procedure.node(again[0] if again else node.next or node.name)
    target = procedure.node(_target(hub, message.intents, slots, state.flags))
    return Move(_enter(target, slots, state.flags), asides, hub=hub.name)


def aside(procedure: Procedure, name: str) -> Aside:
    """Look up an aside.

    Raises:
        KeyError: the procedure has no such aside.
    """
    return {item.name: item for item in procedure.asides}[name]


def _updated(
    procedure: Procedure, slots: Mapping[str, str | None], message: Message
) -> dict[str, str | None]:
    new = dict(slots)
    for intent in procedure.intents:
        if intent.name in message.intents:
            new.update(intent.sets)
    new.update(message.slots)
    return new


def _target(
    hub: Node, intents: tuple[str, ...], slots: Mapping[str, str | None], flags: frozenset[str]
) -> str:
    for edge in hub.edges:
        if edge.when.holds(slots, flags) and _meant(edge, intents):
            return edge.to
    return hub.default or hub.edges[-1].to


def _meant(edge: Edge, intents: tuple[str, ...]) -> bool:
    return not edge.intents or any(intent in edge.intents for intent in intents)


def _enter(node: Node, slots: Mapping[str, str | None], flags: frozenset[str]) -> State:
    return State(node.name, slots, (flags | set(node.sets)) - set(node.clears))

"""The procedure: a directed graph of agent nodes, hubs and terminals.

Goes in: a validated document (`subterra.compile.validation`). Comes out: frozen objects.
Does not know how a procedure is written down, walked or taught.

    >>> procedure.node("triage").kind
    'hub'
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

NodeKind = Literal["agent", "hub", "terminal"]
CORRECTION = "correction"
"""The dialogue act of corrections: the only one whose wordings name a slot value."""
Slots = Mapping[str, str | None]
"""Slot name -> value, or None while the slot is empty."""


@dataclass(frozen=True, slots=True)
class When:
    """A test on the state: every slot has the value (None: is empty), every flag is as given."""

    slots: tuple[tuple[str, str | None], ...] = ()
    flags: tuple[tuple[str, bool], ...] = ()

    def holds(self, slots: Slots, flags: frozenset[str]) -> bool:
        """Tell whether the test holds in this state."""
        return all(slots.get(name) == value for name, value in self.slots) and all(
            (name in flags) == wanted for name, wanted in self.flags
        )


@dataclass(frozen=True, slots=True)
class Wording:
    """Sample wordings of a node for the states in which `when` holds."""

    when: When
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence that the node must say, word for word, where `when` holds."""

    when: When
    text: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A way out of a hub: taken when one of `intents` was said (any, if empty) and `when` holds."""

    to: str
    condition: str
    intents: tuple[str, ...] = ()
    when: When = When()


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `next` belongs to agent nodes, `edges` and `default` to hubs."""

    name: str
    kind: NodeKind
    about: str = ""
    say: tuple[Wording, ...] = ()
    again: tuple[str, ...] = ()
    """Short wordings that take up the node's question after an aside."""
    facts: tuple[Fact, ...] = ()
    asks: tuple[str, ...] = ()
    mandatory: bool = False
    sets: tuple[str, ...] = ()
    clears: tuple[str, ...] = ()
    next: str | None = None
    edges: tuple[Edge, ...] = ()
    default: str | None = None
    outcome: str | None = None

    def targets(self) -> tuple[str, ...]:
        """Name the nodes that this one leads to, in the order written, without repeats."""
        names = [edge.to for edge in self.edges]
        names += [name for name in (self.default, self.next) if name]
        return tuple(dict.fromkeys(names))

    def fact(self, slots: Slots, flags: frozenset[str]) -> str | None:
        """Give the sentence that must be said in this state, if any."""
        return next((f.text for f in self.facts if f.when.holds(slots, flags)), None)

    def wordings(self, slots: Slots, flags: frozenset[str]) -> tuple[str, ...]:
        """Give the sample wordings for this state (the first block that holds)."""
        return next((w.texts for w in self.say if w.when.holds(slots, flags)), ())


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot. With `values` it takes one of them; without, it copies what the user said."""

    name: str
    about: str
    values: tuple[str, ...]
    decided_at: str
    """The hub that is entered again when the value changes."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a user may mean; `sets` are the slot values that it implies."""

    name: str
    about: str
    sets: tuple[tuple[str, str], ...] = ()
    act: str | None = None
    """The dialogue act whose general wordings training adds."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A general intent that is answered without leaving the node."""

    name: str
    about: str
    say: tuple[str, ...]
    repeats: bool = False
    """Whether the node's whole text follows, instead of its short question."""
    act: str | None = None


@dataclass(frozen=True, slots=True)
class Procedure:
    """A whole procedure."""

    name: str
    title: str
    system: str
    start: str
    slots: tuple[Slot, ...]
    flags: tuple[str, ...]
    intents: tuple[Intent, ...]
    corrections: tuple[Intent, ...]
    asides: tuple[Aside, ...]
    nodes: tuple[Node, ...]
    sha256: str | None = field(default=None, compare=False)
    """Digest of its file; None: it came from none."""
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update({node.name: node for node in self.nodes})

    def node(self, name: str) -> Node:
        """Look a node up by its name.

        Raises:
            KeyError: there is no such node (validation makes sure that every target exists).
        """
        return self._by_name[name]

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Slot names in the order of the state line."""
        return tuple(slot.name for slot in self.slots)

    def of_kind(self, kind: NodeKind) -> tuple[Node, ...]:
        """List the nodes of one kind, in the order written."""
        return tuple(node for node in self.nodes if node.kind == kind)

    def intent_names(self) -> tuple[str, ...]:
        """Every intent that a user bank must hold wordings for."""
        meanings = [intent.name for intent in (*self.intents, *self.corrections)]
        return (*meanings, *(aside.name for aside in self.asides))

    def acts(self) -> dict[str, str]:
        """Give the dialogue act of each intent that names one."""
        meanings: tuple[Intent | Aside, ...] = (*self.intents, *self.corrections, *self.asides)
        return {meaning.name: meaning.act for meaning in meanings if meaning.act}

"""The legal transitions of a sealed agent: `transitions.json`, names only, no wording.

    {"start": "welcome", "slots": [{"name": "device", "values": ["Mac", "iOS"], "hub": 0}],
     "flags": ["tried"], "intents": {"fixed": {}}, "corrections": [], "asides": ["small_talk"],
     "nodes": {"welcome": {"hub": 0}, "deeper": {"hub": 1, "sets": ["tried"]}, "resolved": {}},
     "hubs": [[{"to": "resolved", "intents": ["fixed"]}, {"to": "deeper"}], ...]}

Goes in: the file's bytes. Comes out: a `TransitionTable` whose names all exist, or a BundleError.
A hub is the list of its ways in order: the first whose intents and tests hold is taken, the last
holds always. Does not know what is legal where (`legal_moves`) nor texts (`constrained`).

    table = parse_table(data)
"""

import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from subterra.runtime.errors import BundleError, InputError
from subterra.runtime.field_problem import first_problem
from subterra.runtime.state_line import is_value, words

TRANSITIONS_NAME: Final = "transitions.json"

TRANSITIONS_MAX_BYTES: Final = 1 << 20
"""A procedure of 55 nodes takes 20 KiB."""
NAMES_MAX: Final = 512
"""Nodes, hubs, ways of a hub, intents or values of a slot; a procedure has at most 500 nodes."""
SLOTS_MAX: Final = 64
"""Slots, or flags; a procedure has at most 32 of each."""

OPENING_INTENT: Final = "start"
"""Stands for the user's intent in the line of the agent's opening turn."""

Name = Annotated[str, Field(min_length=1, max_length=120)]
Value = Annotated[str, Field(min_length=1, max_length=4096)]
Names = Annotated[tuple[Name, ...], Field(max_length=NAMES_MAX)]

Known = Mapping[str, Container[object]]
"""Noun -> all that exist, in what is quick to search: a file may name a hundred thousand."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Slot(_Part):
    """A slot in the order of the state line; without values it takes any text."""

    name: Name
    values: tuple[Value, ...] = Field(default=(), max_length=NAMES_MAX)
    hub: int = Field(ge=0)
    """The hub that is entered again when the value changes."""


class Node(_Part):
    """A node at which the agent speaks; a terminal has no hub."""

    hub: int | None = Field(default=None, ge=0)
    sets: Names = ()
    clears: Names = ()


class Way(_Part):
    """A way out of a hub: taken when one of `intents` was meant (any, if empty) and tests hold."""

    to: Name
    intents: Names = ()
    slots: dict[Name, Value | None] = Field(default_factory=dict)
    """Slot -> the value that it must have, None: it must be empty."""
    flags: dict[Name, bool] = Field(default_factory=dict)

    @property
    def unconditional(self) -> bool:
        """Whether the way is always open."""
        return not (self.intents or self.slots or self.flags)


Hub = Annotated[tuple[Way, ...], Field(max_length=NAMES_MAX)]
"""The ways out, in order."""


class TransitionTable(_Part):
    """Every legal transition of one procedure."""

    version: Literal[1] = 1
    start: Name
    slots: tuple[Slot, ...] = Field(default=(), max_length=SLOTS_MAX)
    flags: tuple[Name, ...] = Field(default=(), max_length=SLOTS_MAX)
    intents: dict[Name, dict[Name, Value]] = Field(max_length=NAMES_MAX)
    """Intent -> the slot values that it implies; a later one outdoes an earlier one."""
    corrections: Names = ()
    asides: Names = ()
    nodes: dict[Name, Node] = Field(max_length=NAMES_MAX)
    hubs: tuple[Hub, ...] = Field(default=(), max_length=NAMES_MAX)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Slot names in the order of the state line."""
        return tuple(slot.name for slot in self.slots)

    @property
    def meanings(self) -> tuple[str, ...]:
        """Every intent that a message may have."""
        return (*self.intents, *self.corrections, *self.asides)

    def flags_at(self, node: str, before: frozenset[str]) -> tuple[str, ...]:
        """Give the flags after entering a node, in the order of the state line."""
        entered = self.nodes[node]
        after = (before | set(entered.sets)) - set(entered.clears)
        return tuple(name for name in self.flags if name in after)

    def to_bytes(self) -> bytes:
        """Write the file's exact bytes."""
        document = {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}
        return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "TransitionTable":
        if problem := next(_problems(self), None):
            raise ValueError(problem)
        return self


def parse_table(data: bytes) -> TransitionTable:
    """Read a table from its bytes.

    Raises:
        BundleError: too large, not JSON, or a field is wrong; the message names the field.
    """
    hint = "seal the agent again with this version: subterra seal WORK_FOLDER"
    if len(data) > TRANSITIONS_MAX_BYTES:
        raise BundleError(
            f"{TRANSITIONS_NAME} has {len(data)} bytes, over {TRANSITIONS_MAX_BYTES}", hint=hint
        )
    try:
        return TransitionTable.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(f"{TRANSITIONS_NAME}, {first_problem(error)}", hint=hint) from error


def _problems(table: TransitionTable) -> Iterator[str]:
    known: Known = {
        "node": table.nodes,
        "hub": range(len(table.hubs)),
        "intent": frozenset(table.meanings),
        "flag": frozenset(table.flags),
    }
    values = {slot.name: frozenset(slot.values) for slot in table.slots}
    for names in (table.meanings, table.slot_names, table.flags, tuple(table.nodes)):
        yield from (f"{name!r} comes twice" for name, n in Counter(names).items() if n > 1)
        yield from (f"the name {name!r} cannot be written" for name in names if not _plain(name))
    yield from _unknown("node", [table.start], known)
    if OPENING_INTENT in known["intent"]:
        yield f"the intent {OPENING_INTENT!r} is reserved"
    for slot in table.slots:
        yield from _unknown("hub", [slot.hub], known)
        wrong = [value for value in slot.values if not is_value(value)]
        yield from (f"the value {value!r} cannot be written" for value in wrong)
    for sets in table.intents.values():
        yield from _wrong_values(sets, values)
    for node in table.nodes.values():
        yield from _unknown("hub", [] if node.hub is None else [node.hub], known)
        yield from _unknown("flag", [*node.sets, *node.clears], known)
    for index, ways in enumerate(table.hubs):
        if not ways or not ways[-1].unconditional:
            yield f"hub {index} has no way that is always open"
        for way in ways:
            yield from _wrong_way(way, known, values)


def _wrong_way(way: Way, known: Known, values: Mapping[str, frozenset[str]]) -> Iterator[str]:
    yield from _unknown("node", [way.to], known)
    yield from _unknown("intent", way.intents, known)
    yield from _unknown("flag", way.flags, known)
    yield from _wrong_values(way.slots, values)


def _wrong_values(
    named: Mapping[str, str | None], values: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    for name, value in named.items():
        if name not in values:
            yield f"unknown slot {name!r}"
        elif value is not None and not (is_value(value) and value in (values[name] or [value])):
            yield f"slot {name!r} has no value {value!r}"


def _unknown(noun: str, names: Iterable[object], known: Known) -> Iterator[str]:
    there = known[noun]
    yield from (f"unknown {noun} {name!r}" for name in names if name not in there)


def _plain(name: str) -> bool:
    try:
        return bool(words(name))
    except InputError:
        return False

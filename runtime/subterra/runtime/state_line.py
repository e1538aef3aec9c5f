"""The state line: the first line of a traced reply, in words.

    report audio + give device > fix audio | audio | Windows | tried
    └─ intents of the user ──┘   └─ node ┘ └─ slots in order ┘ └ flags

Goes in: intents, node, slots and flags, or a text that a model wrote. Comes out: the line, or its
parts. Names are identifiers whose `_` is written as a space; a slot without value is `?`.
Does not know which nodes, intents or flags exist.

    >>> line = parse("start > welcome | ? | ?", ("issue", "device"))
    >>> line.node if line else None
    'welcome'
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from subterra.runtime.errors import InputError

UNFILLED = "?"

_NAME = re.compile(r"[^\W_](?:[^\W_]|[.-])*(?:_(?:[^\W_]|[.-])+)*")


@dataclass(frozen=True, slots=True)
class StateLine:
    """Where the conversation stands after one user turn."""

    intents: tuple[str, ...]
    node: str
    slots: tuple[tuple[str, str | None], ...] = ()
    flags: tuple[str, ...] = ()

    def slot(self, name: str) -> str | None:
        """Value of a slot; None when it is unfilled or unknown."""
        return dict(self.slots).get(name)


def format(line: StateLine, slot_names: Sequence[str]) -> str:  # noqa: A001 - state_line.format
    """Write the line; slots come in the order of `slot_names`, absent ones as unfilled.

    Raises:
        InputError: a name or value cannot be written so that `parse` gives it back.
    """
    if not line.intents:
        raise InputError(
            f"the state at node {line.node} has no intent", hint="name at least one intent"
        )
    values = dict(line.slots)
    if unknown := [name for name in values if name not in slot_names]:
        raise InputError(
            f"unknown slot {unknown[0]!r} in a state line", hint=f"slots: {', '.join(slot_names)}"
        )
    head = " + ".join(map(words, line.intents)) + " > " + words(line.node)
    slots = [_value_text(name, values.get(name)) for name in slot_names]
    return " | ".join([head, *slots, *map(words, line.flags)])


def parse(text: str, slot_names: Sequence[str]) -> StateLine | None:
    """Read a line that a model wrote; None when it is malformed. Never raises."""
    head, *fields = (field.strip() for field in text.strip().split("|"))
    if len(fields) < len(slot_names) or not all(fields):
        return None
    intents_text, arrow, node_text = head.partition(" > ")
    intents = [_name(part) for part in intents_text.split(" + ")]
    node = _name(node_text)
    values, flags = fields[: len(slot_names)], [_name(f) for f in fields[len(slot_names) :]]
    if not arrow or node is None or None in intents or None in flags:
        return None
    if not all(value.isprintable() for value in values):
        return None
    slots = [
        (name, None if value == UNFILLED else value)
        for name, value in zip(slot_names, values, strict=True)
    ]
    return StateLine(
        tuple(name for name in intents if name is not None),
        node,
        tuple(slots),
        tuple(name for name in flags if name is not None),
    )


def words(name: str) -> str:
    """Write a name as it stands in the line.

    Raises:
        InputError: the name cannot stand in a state line.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"the name {name!r} cannot stand in a state line",
            hint="use letters and digits, joined by single underscores",
        )
    return name.replace("_", " ")


def is_value(text: str) -> bool:
    """Tell whether a text can stand as the value of a slot."""
    return (
        text not in ("", UNFILLED)
        and "|" not in text
        and text == text.strip()
        and text.isprintable()
    )


def _name(written: str) -> str | None:
    name = written.strip().replace(" ", "_")
    return name if _NAME.fullmatch(name) else None


def _value_text(slot: str, value: str | None) -> str:
    if value is None:
        return UNFILLED
    if not value.isprintable():
        raise InputError(
            f"the value {value!r} of slot {slot} has control characters",
            hint="values are one printable line",
        )
    if not is_value(value):
        raise InputError(
            f"the value {value!r} of slot {slot} cannot stand in a state line",
            hint="values are not empty, not '?', and have no '|' or outer spaces",
        )
    return value

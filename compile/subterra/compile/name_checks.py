"""Names and slot values that the state line and the user banks can carry.

Goes in: a procedure and its document. Comes out: problems. Names show with spaces for underscores
in the state line, where `|`, `>`, `+` and `?` have a meaning. Does not know how nodes hang
together.

    >>> list(name_problems(procedure, document))
    []
"""

from collections.abc import Iterable, Iterator

from subterra.compile.procedure import Procedure
from subterra.compile.yaml_source import Document, Problem, Steps
from subterra.runtime.state_line import UNFILLED, is_value

RESERVED_INTENTS = {
    "slots": "user banks keep slot phrases under that key",
    "start": "the state line opens a conversation with it",
}
RESERVED_SLOTS = {"fact": "'{fact}' marks the place of a fact"}
SEPARATORS = ("|", " > ", " + ", "\n", "\r")
"""What separates the parts of a state line."""


def name_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    """Yield clashes, reserved words, and slot values that would break the state line."""
    intents: list[Steps] = [("intents", intent.name) for intent in procedure.intents]
    intents += [("corrections", intent.name) for intent in procedure.corrections]
    intents += [("asides", aside.name) for aside in procedure.asides]
    yield from _clashes(document, "intent", intents)
    for section in ("nodes", "slots", "flags"):
        names = {
            "nodes": [node.name for node in procedure.nodes],
            "slots": list(procedure.slot_names),
            "flags": list(procedure.flags),
        }[section]
        yield from _clashes(document, section[:-1], [(section, name) for name in names])
    yield from _reserved(document, intents, RESERVED_INTENTS)
    yield from _reserved(document, [("slots", s) for s in procedure.slot_names], RESERVED_SLOTS)
    for slot in procedure.slots:
        yield from _value_problems(document, slot.name, slot.values)
    yield from _open_value_problems(procedure, document)


def _clashes(document: Document, noun: str, places: Iterable[Steps]) -> Iterator[Problem]:
    shown: dict[str, Steps] = {}
    for steps in places:
        first = shown.setdefault(_shown(str(steps[-1])), steps)
        if first != steps:
            same = "is also" if first[-1] == steps[-1] else "reads like"
            line = document.position(first, key=True)[0]
            words = f"{noun} '{steps[-1]}' {same} '{first[-1]}' of '{first[0]}' (line {line})"
            yield document.problem(steps, words, key=True)


def _reserved(
    document: Document, places: Iterable[Steps], reserved: dict[str, str]
) -> Iterator[Problem]:
    for steps in places:
        if steps[-1] in reserved:
            words = f"the name '{steps[-1]}' is taken: {reserved[str(steps[-1])]}"
            yield document.problem(steps, words, key=True)


def _value_problems(document: Document, slot: str, values: tuple[str, ...]) -> Iterator[Problem]:
    shown: dict[str, str] = {}
    for index, value in enumerate(values):
        steps = ("slots", slot, "values", index)
        broken = [mark for mark in SEPARATORS if mark in value]
        if broken:
            words = f"value '{value}' holds {broken[0]!r}, which separates parts of the state line"
            yield document.problem(steps, words)
        if value.strip() in ("", "?"):
            words = f"value '{value}' reads like an empty slot in the state line"
            yield document.problem(steps, words)
        elif value != " ".join(value.split()) and not broken:
            words = f"value '{value}' has white space at an end or twice in a row"
            yield document.problem(steps, words)
        elif not value.isprintable() and not broken:
            yield document.problem(steps, f"value {value!r} holds a character that is not printed")
        first = shown.setdefault(_shown(value), value)
        if first is not value:
            yield document.problem(steps, f"value '{value}' reads like '{first}'")


def _open_value_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    """Find values of open slots, in `sets` and in edges, that no state line can hold."""
    places: list[tuple[Steps, Iterable[tuple[str, str | None]]]] = [
        (("intents", intent.name, "sets"), intent.sets) for intent in procedure.intents
    ]
    for node in procedure.nodes:
        for index, edge in enumerate(node.edges):
            places.append((("nodes", node.name, "edges", index, "slots"), edge.when.slots))
    open_slots = {slot.name for slot in procedure.slots if not slot.values}
    for steps, values in places:
        for name, value in values:
            if name not in open_slots or value is None:
                continue
            if not is_value(value) or value.startswith(UNFILLED):
                words = f"slot '{name}' cannot be {value!r}: no state line can hold that value"
                yield document.problem((*steps, name), words)


def _shown(name: str) -> str:
    """Fold a name to what a reader of the state line tells apart."""
    return " ".join(name.casefold().replace("_", " ").split())

"""The schema's complaints in plain words.

Goes in: a complaint (a rule of JSON Schema that a value breaks). Comes out: what a person who wrote
the value should read, in the words of the file. Does not know where the value stands.

    >>> complaint_in_words(Complaint(("start",), "type", "string", 5))
    "'start' must be a text, not the number 5; put it in quotes"
"""

from dataclasses import dataclass
from typing import Any

from subterra.compile.yaml_source import Steps, closest

TYPES = {
    "string": "a text",
    "object": "a mapping (key: value)",
    "array": "a list",
    "boolean": "true or false",
    "null": "empty",
}
NAME_RULE = "a name has small letters, digits and underscores, and starts with a letter"
WHAT_TO_ADD = {
    "default": "add 'default: NODE', taken when no edge holds",
    "next": "add 'next: HUB', which decides on the user's answer",
    "say": "add 'say:' and a list of texts",
    "edges": "add 'edges:' and a list of ways out",
    "outcome": "add 'outcome: success' or the like",
    "kind": "add 'kind: agent', 'hub' or 'terminal'",
}
EXITS = ("next", "edges", "default")
KINDS = ("agent", "hub", "terminal")


@dataclass(frozen=True, slots=True)
class Complaint:
    """A rule that a value breaks; the rule `not` means that no value may stand there at all."""

    steps: Steps
    rule: str
    wanted: Any
    found: Any
    is_name_of_key: bool = False


def complaint_in_words(complaint: Complaint) -> str:
    """Word a complaint about one value."""
    rule, wanted, found = complaint.rule, complaint.wanted, complaint.found
    label = _label(complaint.steps)
    if rule == "type":
        return _wrong_type(wanted, found, label)
    if rule == "anyOf":
        return f"{label} must be a text, or a mapping with 'when' and 'text'"
    if rule == "enum":
        names = f"{', '.join(wanted[:-1])} or {wanted[-1]}"
        return f"{label} is '{found}', not {names}{closest(str(found), wanted)}"
    if rule == "pattern":
        return f"'{found}' is not a name; {NAME_RULE}"
    if rule == "minProperties" and complaint.steps == ("nodes",):
        return "the procedure has no nodes; it needs an agent node, a hub and a terminal"
    if rule in ("minItems", "minProperties", "minLength"):
        return f"{label} is empty"
    unit = "characters" if rule == "maxLength" else "entries"
    return f"{label} has {len(found)} {unit}; at most {wanted} are allowed"


def missing_in_words(steps: Steps, found: dict[str, Any], key: str) -> str:
    """Word that a mapping lacks a key."""
    what = WHAT_TO_ADD.get(key, f"add '{key}:'")
    kind = found.get("kind") if len(steps) == 2 and steps[0] == "nodes" else None
    if kind not in KINDS:
        return f"{_label(steps)} has no '{key}'; {what}"
    mandatory = "mandatory " if found.get("mandatory") is True else ""
    missing = "wording" if key == "say" else f"'{key}'"
    return f"{mandatory}{kind} '{steps[-1]}' has no {missing}; {what}"


def misplaced_in_words(steps: Steps, kind: object) -> str:
    """Word that a node has a key that its kind does not have."""
    if kind == "terminal" and steps[-1] in EXITS:
        return f"terminal '{steps[1]}' has an exit '{steps[-1]}'; a terminal ends the conversation"
    return f"{kind} '{steps[1]}' cannot have '{steps[-1]}'; only other kinds of nodes do"


def repeat_in_words(steps: Steps, item: object) -> str:
    """Word that a list holds an item twice."""
    return f"'{item}' stands twice in {_label(steps)}"


def _wrong_type(wanted: str | list[str], found: object, label: str) -> str:
    names = [TYPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted)]
    quote = "; put it in quotes" if "a text" in names and isinstance(found, (int, float)) else ""
    return f"{label} must be {' or '.join(names)}, not {_type_in_words(found)}{quote}"


def _type_in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value}'" if len(value) < 40 else "a text"
    if value is None:
        return "empty"
    return "a list" if isinstance(value, list) else "a mapping"


def _label(steps: Steps) -> str:
    """Name a value in the words of the file, such as `'to' of item 2 of 'edges'`."""
    if not steps:
        return "the procedure"
    last = steps[-1]
    if isinstance(last, int):
        return f"item {last + 1} of '{steps[-2]}'"
    if len(steps) > 1 and isinstance(steps[-2], int):
        return f"'{last}' in item {steps[-2] + 1} of '{steps[-3]}'"
    return f"'{last}'"

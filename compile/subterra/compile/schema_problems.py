"""A procedure document held against the published schema.

Goes in: a document. Comes out: problems with places, and the document mended (a mistyped key
renamed) or pruned (what does not fit taken out), so that later checks can still look at the rest.
Does not know how nodes hang together.

    >>> schema_problems(document)
    [Problem(line=12, column=5, words="unknown key 'defualt'; did you mean 'default'?")]
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from subterra.compile.schema_words import (
    Complaint,
    complaint_in_words,
    misplaced_in_words,
    missing_in_words,
    repeat_in_words,
)
from subterra.compile.yaml_source import Document, Problem, Steps, closest, near

SCHEMA_FILE = "procedure_schema.json"
HARMLESS = ("pattern", "maxLength", "maxItems", "maxProperties")
"""Rules whose breach does not keep a value from being looked at further."""


@cache
def schema() -> dict[str, Any]:
    """Load the published schema."""
    text = resources.files("subterra.compile").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def schema_problems(document: Document) -> list[Problem]:
    """List what the schema complains about; leaves a document that fits, as far as it goes."""
    problems: list[Problem] = []
    for complaint in _complaints(document):
        problems += _mend(document, complaint)
    doomed: dict[Steps, None] = {}
    for complaint in _complaints(document):
        problems += _word(document, complaint)
        if complaint.rule != "required" and complaint.rule not in HARMLESS:
            doomed[complaint.steps] = None
    for steps in sorted(doomed, key=_last_first):
        _prune(document, steps)
    return problems


def _complaints(document: Document) -> list[Complaint]:
    """List the validator's errors; of a choice, those of the alternative that was meant."""
    waiting = list(Draft202012Validator(schema()).iter_errors(document.root.plain()))
    found: list[Complaint] = []
    while waiting:
        error = waiting.pop()
        if error.validator == "anyOf" and isinstance(error.instance, (str, dict)):
            meant = 0 if isinstance(error.instance, str) else 1
            waiting += [sub for sub in error.context or [] if sub.schema_path[0] == meant]
        else:
            found += _split(error)
    return found


def _split(error: ValidationError) -> Iterator[Complaint]:
    """Make one complaint for each key or item at fault."""
    steps = tuple(error.absolute_path)
    found: Any = error.instance
    schema_here: Any = error.schema
    rule = str(error.validator)
    wanted: Any = error.validator_value
    if "propertyNames" in error.absolute_schema_path:
        yield Complaint((*steps, str(found)), rule, wanted, found, is_name_of_key=True)
    elif rule == "additionalProperties":
        known = tuple(schema_here.get("properties", {}))
        free = [name for name in known if name not in found]
        for key in (key for key in found if key not in known):
            yield Complaint((*steps, key), rule, free, found[key])
    elif rule == "required":
        for key in (key for key in wanted if key not in found):
            yield Complaint(steps, rule, key, found)
    elif rule == "uniqueItems":
        for index in (i for i, item in enumerate(found) if item in found[:i]):
            yield Complaint((*steps, index), rule, wanted, found[index])
    else:
        yield Complaint(steps, rule, wanted, found)


def _mend(document: Document, complaint: Complaint) -> Iterator[Problem]:
    """Report an unknown key or kind, and take it for the one that was probably meant."""
    steps = complaint.steps
    around, key = document.root.at(steps[:-1]), steps[-1] if steps else ""
    if around is None or not isinstance(around.content, dict) or not isinstance(key, str):
        return
    if complaint.rule == "additionalProperties" and key in around.content:
        words = f"unknown key '{key}'{closest(key, complaint.wanted)}"
        yield document.problem(steps, words, key=True)
        meant = near(key, complaint.wanted)
        value, place = around.content.pop(key), around.keys.pop(key)
        if meant is not None and meant not in around.content:
            around.content[meant], around.keys[meant] = value, place
    elif complaint.rule == "enum" and (meant := near(str(complaint.found), complaint.wanted)):
        yield document.problem(steps, complaint_in_words(complaint))
        around.content[key].content = meant


def _word(document: Document, complaint: Complaint) -> Iterator[Problem]:
    steps, rule = complaint.steps, complaint.rule
    at_key = complaint.is_name_of_key or rule.startswith(("min", "max", "required", "not"))
    if rule == "not":
        kind = document.root.at((*steps[:2], "kind"))
        words = misplaced_in_words(steps, kind.content if kind else None)
    elif rule == "required":
        words = missing_in_words(steps, complaint.found, complaint.wanted)
    elif rule == "uniqueItems":
        words = repeat_in_words(steps[:-1], complaint.found)
    else:
        words = complaint_in_words(complaint)
    yield document.problem(steps, words, key=at_key)


def _prune(document: Document, steps: Steps) -> None:
    around = document.root.at(steps[:-1])
    if around is not None and steps:
        around.remove(steps[-1])


def _last_first(steps: Steps) -> tuple[int, ...]:
    """Order removals so that the places of the values still to be removed stay right."""
    return (-len(steps), *(-step if isinstance(step, int) else 0 for step in steps))

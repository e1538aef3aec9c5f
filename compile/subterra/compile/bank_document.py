"""A user bank as it stands in its file: every text with its place, and what is wrong with its form.

Goes in: a YAML file. Comes out: a `BankDocument`. Does not know any procedure.

    >>> read_bank_document(Path("users/train.yaml")).intents["fixed"][0].text
    'works now'
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from subterra.compile.yaml_source import Document, Problem, Steps, Value, read_yaml
from subterra.runtime.errors import UserBankError

SLOTS_KEY = "slots"
"""The one top-level key that is no intent."""
MAX_WORDING = 2000
"""Characters of one wording; a longer message does not fit the context anyway."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A wording or a phrase, on one line, and where it stands."""

    text: str
    line: int
    column: int

    def problem(self, words: str) -> Problem:
        """Make a problem that points here."""
        return Problem(self.line, self.column, words)


@dataclass(slots=True)
class BankDocument:
    """Entries by intent, and by slot and value."""

    document: Document
    problems: list[Problem]
    intents: dict[str, list[Entry]] = field(default_factory=dict)
    slots: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)

    def key_problem(self, steps: Steps, words: str) -> Problem:
        """Make a problem that points at a key."""
        return self.document.problem(steps, words, key=True)

    def entries(self) -> Iterator[Entry]:
        """Yield every wording, then every phrase."""
        for wordings in self.intents.values():
            yield from wordings
        for values in self.slots.values():
            for phrases in values.values():
                yield from phrases


def read_bank_document(path: Path) -> BankDocument:
    """Read a bank; problems of form are gathered, and the rest is read on.

    Raises:
        UserBankError: the file cannot be read or is not YAML.
    """
    hint = "name a users/*.yaml file: a mapping from intent to a list of wordings"
    document = read_yaml(path, UserBankError, hint)
    bank = BankDocument(document, list(document.problems))
    root = document.root
    if root.content is None or root.content == {}:
        _complain(bank, root, "the bank is empty; write 'intent:' and a list of wordings")
    elif not isinstance(root.content, dict):
        _complain(bank, root, "a bank is a mapping from intent to a list of wordings")
    else:
        _read_root(bank, root.content)
    return bank


def fold(text: str) -> str:
    """Fold case, white space and punctuation away, but keep the braces of placeholders."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(_fold_character(character) for character in plain)
    return " ".join(kept.split()) or " ".join(plain.split())


def _fold_character(character: str) -> str:
    if character in "'’":
        return ""
    is_noise = character not in "{}" and unicodedata.category(character)[0] in "PZC"
    return " " if is_noise else character


def _read_root(bank: BankDocument, content: dict[str, Value]) -> None:
    for name, value in content.items():
        if name == SLOTS_KEY:
            _read_slots(bank, value)
        else:
            bank.intents[name] = _entries(bank, (name,), value, "wording")
    if not bank.intents:
        words = "the bank has no intents; write 'intent:' and a list of wordings"
        bank.problems.append(bank.document.problem((), words))


def _read_slots(bank: BankDocument, value: Value) -> None:
    if not isinstance(value.content, dict):
        _complain(bank, value, "'slots' is a mapping from slot to its values and their phrases")
        return
    for slot, held in value.content.items():
        steps: Steps = (SLOTS_KEY, slot)
        if isinstance(held.content, dict):
            if not held.content:
                bank.problems.append(bank.key_problem(steps, f"'{slot}' has no values"))
            bank.slots[slot] = {
                name: _entries(bank, (*steps, name), phrases, "phrase")
                for name, phrases in held.content.items()
            }
        else:
            bank.slots[slot] = {e.text: [e] for e in _entries(bank, steps, held, "value")}


def _entries(bank: BankDocument, steps: Steps, value: Value, noun: str) -> list[Entry]:
    """Read a list of texts; report what is not one, and what repeats another."""
    name = f"'{steps[-1]}'"
    if not isinstance(value.content, list):
        bank.problems.append(bank.key_problem(steps, f"{name} needs a list of {noun}s"))
        return []
    if not value.content:
        bank.problems.append(bank.key_problem(steps, f"{name} has no {noun}s"))
    found: dict[str, Entry] = {}
    for item in value.content:
        entry = _entry(bank, item, noun)
        if entry is None:
            continue
        first = found.setdefault(fold(entry.text), entry)
        if first is not entry:
            words = f"'{entry.text}' repeats line {first.line} under {name}"
            bank.problems.append(entry.problem(words))
    return list(found.values())


def _entry(bank: BankDocument, item: Value, noun: str) -> Entry | None:
    if isinstance(item.content, (list, dict)):
        _complain(bank, item, f"a {noun} is a text, not a list or mapping; put it in quotes")
        return None
    if item.content is not None and not isinstance(item.content, str):
        _complain(bank, item, f"a {noun} is a text, not a number or true/false; put it in quotes")
        return None
    text = " ".join((item.content or "").split())
    if not text:
        _complain(bank, item, f"an empty {noun}")
        return None
    if len(text) > MAX_WORDING:
        _complain(bank, item, f"a {noun} of {len(text)} characters; at most {MAX_WORDING} fit")
        return None
    return Entry(text, item.line, item.column)


def _complain(bank: BankDocument, value: Value, words: str) -> None:
    bank.problems.append(Problem(value.line, value.column, words))

"""Several training banks as one: the first is whole, the others add to it.

Goes in: a whole training bank, and files that hold wordings for some of its intents. Comes out: one
bank; what repeats another bank is left out with a note. Does not know who wrote the files.

    >>> merge_banks(bank, [load_part(Path("users/widened.yaml"), procedure)], procedure).more
    (PosixPath('users/widened.yaml'),)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from subterra.compile.bank_checks import PLACEHOLDER
from subterra.compile.bank_document import fold
from subterra.compile.intent_places import rivals
from subterra.compile.procedure import Procedure
from subterra.compile.user_bank import UserBank, load_bank
from subterra.runtime.errors import UserBankError

MAX_LISTED = 5
"""Wordings listed in a note."""

Texts = Mapping[str, Sequence[str]]


def load_part(path: Path, procedure: Procedure) -> UserBank:
    """Load a bank that need not have every intent.

    Raises:
        UserBankError: the file cannot be read, is empty, or names what the procedure lacks.
    """
    return load_bank(path, procedure, part=True)


def merge_banks(bank: UserBank, parts: Sequence[UserBank], procedure: Procedure) -> UserBank:
    """Add the wordings and phrases of `parts`; notes go to the warnings.

    Raises:
        UserBankError: a wording has a placeholder for which no bank holds phrases.
    """
    for part in parts:
        bank = _added(bank, part, procedure)
    return bank


def _added(bank: UserBank, part: UserBank, procedure: Procedure) -> UserBank:
    slots = dict(bank.slots)
    for name, values in part.slots.items():
        held = slots.get(name, {})
        slots[name] = {
            value: _new(held.get(value, ()), values.get(value, ()))[0]
            for value in dict.fromkeys((*held, *values))
        }
    _check_placeholders(part, slots)
    intents, repeated = dict(bank.intents), list[str]()
    for key, texts in part.intents.items():
        intents[key], again = _new(bank.intents.get(key, ()), texts)
        repeated += again
    notes = [*bank.warnings, *part.warnings, *_rivalries(bank, part, procedure)]
    if repeated:
        noun = "1 wording that is" if len(repeated) == 1 else f"{len(repeated)} wordings that are"
        notes.append(f"{part.path} goes without {noun} there already: {_listed(repeated)}")
    more = (*bank.more, part.path)
    return replace(bank, intents=intents, slots=slots, warnings=tuple(notes), more=more)


def _new(known: Sequence[str], texts: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return all texts without repeats, and those that repeat a known one."""
    there = {fold(text) for text in known}
    new = [text for text in texts if fold(text) not in there]
    return (*known, *new), [text for text in texts if fold(text) in there]


def _check_placeholders(part: UserBank, slots: Mapping[str, object]) -> None:
    for texts in part.intents.values():
        for text in texts:
            for name in PLACEHOLDER.findall(text):
                if name not in slots:
                    raise UserBankError(
                        f"{part.path}:{part.lines.get(text, 1)}: no bank has phrases for"
                        f" '{{{name}}}'",
                        hint=f"write phrases for '{name}' under 'slots' of the first bank",
                    )


def _rivalries(bank: UserBank, part: UserBank, procedure: Procedure) -> list[str]:
    """Warn of each wording that means something else in the bank, at a hub that hears both."""
    notes = []
    for key, texts in part.intents.items():
        near = {
            other
            for intent in key.split("+")
            for other in rivals(procedure, intent, bank.intents)
            if other != key
        }
        meant = {fold(text): other for other in near for text in bank.intents[other]}
        for text in texts:
            if other := meant.get(fold(text)):
                place = f"{part.path}:{part.lines.get(text, 1)}"
                notes.append(f"{place}: '{text}' ({key}) also means {other} ({bank.path})")
    return notes


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(f"'{text}'" for text in texts[:MAX_LISTED]) + more

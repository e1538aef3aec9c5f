"""User banks: what users say, by intent, in a file apart from the procedure.

Goes in: `users/*.yaml`. Comes out: a `UserBank`, or a `UserBankError` with every problem of the
file. Does not know how wordings are drawn or disturbed.

    >>> load_bank(Path("examples/zoom_support/users/train.yaml"), procedure).warnings
    ()
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subterra.compile.bank_checks import fit_problems, rivalries
from subterra.compile.bank_document import BankDocument, Entry, fold, read_bank_document
from subterra.compile.procedure import Procedure
from subterra.compile.yaml_source import failure_of
from subterra.runtime.errors import UserBankError

MAX_SHARED_SHOWN = 50
"""Shared wordings listed in one message."""

BARE_PLACEHOLDER = re.compile(r"\{\w+\}")


@dataclass(frozen=True, slots=True)
class UserBank:
    """Wordings by intent (or `a+b` for a message that means both), and phrases for slot values."""

    path: Path
    intents: Mapping[str, tuple[str, ...]]
    slots: Mapping[str, Mapping[str, tuple[str, ...]]]
    general: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Wordings by intent that do not stand in the file but in the library (training only)."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was left out of the library of general wording, for those who ask."""
    """What a person may want to look at, each with its place; no reason to stop."""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Wording or phrase -> line of its first place in the file."""
    more: tuple[Path, ...] = ()
    """Files whose wordings were added to those of `path`."""

    def names(self) -> tuple[str, ...]:
        """List every key that there are wordings for."""
        return tuple(dict.fromkeys((*self.intents, *self.general)))

    def wordings(self, key: str) -> tuple[str, ...]:
        """List the wordings of a key, the bank's own ones first."""
        return (*self.intents.get(key, ()), *self.general.get(key, ()))


def load_bank(
    path: Path,
    procedure: Procedure | None = None,
    *,
    training: bool = False,
    part: bool = False,
) -> UserBank:
    """Load a user bank, and hold it against the procedure if one is given.

    A training bank may leave intents out that name a dialogue act; see `general_wording`. A `part`
    of a bank may leave out whatever it likes; see `bank_merge`.

    Raises:
        UserBankError: the file cannot be read, is not YAML, is empty, or does not fit; the message
            lists every problem with line and column.
    """
    bank = read_bank_document(path)
    problems = list(bank.problems)
    if procedure is not None and bank.intents:
        lent = procedure.acts() if training else ()
        problems += fit_problems(bank, procedure, lent, part=part)
    if problems:
        hint = f"mend {path.name} and run the same command again"
        raise failure_of(path, problems, UserBankError, hint)
    warnings = dict.fromkeys(rivalries(bank, procedure)) if procedure is not None else {}
    return _frozen(bank, path, tuple(warnings))


def assert_apart(train: UserBank, heldout: UserBank) -> None:
    """Make sure that no wording or phrase stands in both banks (case, space, punctuation folded).

    A phrase that is just its slot's value, or a wording that is just a placeholder, is no sign of
    copying and may stand in both.

    Raises:
        UserBankError: some do; the message lists them with their lines.
    """
    known = {fold(text): text for text in own_texts(train)}
    shared = [
        f"{heldout.path}:{heldout.lines.get(text, 1)}: '{text}' is also in"
        f" {train.path}:{train.lines.get(known[fold(text)], 1)}"
        for text in dict.fromkeys(own_texts(heldout))
        if fold(text) in known
    ]
    if not shared:
        return
    shown = shared[:MAX_SHARED_SHOWN]
    if len(shared) > MAX_SHARED_SHOWN:
        shown.append(f"... and {len(shared) - MAX_SHARED_SHOWN} more")
    noun = "1 wording is" if len(shared) == 1 else f"{len(shared)} wordings are"
    raise UserBankError(
        f"{noun} in both banks, so a score would measure memory\n" + "\n".join(shown),
        hint=f"take them out of {train.path}",
    )


def own_texts(bank: UserBank) -> Iterator[str]:
    """Yield the wordings and phrases that the bank's author found."""
    for wordings in bank.intents.values():
        yield from (text for text in wordings if not BARE_PLACEHOLDER.fullmatch(text))
    for values in bank.slots.values():
        for value, phrases in values.items():
            yield from (phrase for phrase in phrases if fold(phrase) != fold(value))


def _frozen(bank: BankDocument, path: Path, warnings: tuple[str, ...]) -> UserBank:
    lines: dict[str, int] = {}
    for entry in bank.entries():
        lines.setdefault(entry.text, entry.line)
    intents = {name: _texts(entries) for name, entries in bank.intents.items()}
    slots = {
        slot: {value: _texts(phrases) for value, phrases in values.items()}
        for slot, values in bank.slots.items()
    }
    return UserBank(path, intents, slots, warnings=warnings, lines=lines)


def _texts(entries: list[Entry]) -> tuple[str, ...]:
    return tuple(entry.text for entry in entries)

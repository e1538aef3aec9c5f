"""General wording: what users say in any procedure, by dialogue act.

Goes in: a procedure whose intents name acts, and its training bank. Comes out: the bank with the
wordings of the library (`wording_library/`, user banks by act) beside its own. Nothing that stands
in the held-out bank comes in, and nothing that means something else at the same hub. Scoring never
uses the library. Does not know how often which wording is drawn.

    >>> wordings("ask_human")[0]
    'human'
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path

from subterra.compile.bank_checks import heard_together
from subterra.compile.bank_document import fold, read_bank_document
from subterra.compile.bank_merge import load_part, merge_banks
from subterra.compile.procedure import CORRECTION, Procedure
from subterra.compile.user_bank import UserBank, assert_apart, load_bank, own_texts
from subterra.runtime.errors import UserBankError

LIBRARY = Path(__file__).with_name("wording_library")
PARTS_FILE = "parts.yaml"
"""Openers, closers and fillers; every other file holds acts."""
VALUE = "{value}"
"""Stands in a correction where a slot's placeholder goes."""

MAX_LISTED = 5
"""Wordings listed in a note."""

Texts = Mapping[str, tuple[str, ...]]
Folded = Mapping[str, Mapping[str, str]]
"""Key -> folded wording -> wording."""


@cache
def acts() -> Texts:
    """Load the library: wordings by dialogue act."""
    files = sorted(path for path in LIBRARY.glob("*.yaml") if path.name != PARTS_FILE)
    return {act: texts for path in files for act, texts in _read(path).items()}


def wordings(act: str) -> tuple[str, ...]:
    """List the wordings of an act."""
    return acts()[act]


def parts(kind: str) -> tuple[str, ...]:
    """List the `openers`, `closers` or `fillers`."""
    return _parts()[kind]


def load_training_bank(
    path: Path, procedure: Procedure, *heldout: Path, more: Sequence[Path] = ()
) -> UserBank:
    """Load a training bank, hold it against held-out ones, and add the library's wordings.

    Args:
        path: the training bank.
        procedure: what the banks belong to.
        heldout: where held-out banks may be; one that is missing or the training bank is passed by.
        more: banks that add wordings to the training bank; see `bank_merge`.

    Raises:
        UserBankError: a bank does not fit, they share wording, or an intent is left without any.
    """
    bank = load_bank(path, procedure, training=True)
    added = [load_part(file, procedure) for file in more]
    barred = set[str]()
    for other in dict.fromkeys(file.resolve() for file in heldout):
        if other.exists() and not other.samefile(path):
            found = load_bank(other, procedure)
            for part in (bank, *added):
                assert_apart(part, found)
            barred |= {fold(text) for text in own_texts(found)}
    return compose(merge_banks(bank, added, procedure), procedure, barred)


def compose(bank: UserBank, procedure: Procedure, barred: Collection[str] = ()) -> UserBank:
    """Add the library's wordings to the intents that name an act; note what was left out.

    Args:
        bank: training bank.
        procedure: names the acts.
        barred: folded texts that must not come in.

    Raises:
        UserBankError: an intent has neither own wordings nor any of the library's.
    """
    lent = {name: _folded(_lent(name, bank, procedure)) for name in procedure.acts()}
    own = {key: _folded(texts) for key, texts in bank.intents.items()}
    general: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for name, texts in lent.items():
        rivals = _rivals(name, procedure, own, lent)
        known = own.get(name, {})
        new = [text for text in texts if text not in known and text not in barred]
        general[name] = tuple(texts[text] for text in new if text not in rivals)
        out = [f"'{texts[text]}' ({rivals[text]})" for text in new if text in rivals]
        if out:
            more = f" and {len(out) - MAX_LISTED} more" if len(out) > MAX_LISTED else ""
            listed = ", ".join(out[:MAX_LISTED]) + more
            notes.append(f"'{name}' goes without general wordings that also mean: {listed}")
        if not general[name] and not known:
            raise UserBankError(
                f"{bank.path}: no wordings for the procedure's intent '{name}', and none of the"
                f" general ones for its act '{procedure.acts()[name]}' can be used",
                hint=f"write wordings for '{name}' into {bank.path}",
            )
    return replace(bank, general=general, notes=tuple(notes))


def digest(bank: UserBank) -> str:
    """Digest what training takes from the library: SHA-256 over wordings and parts."""
    taken = {"general": {**bank.general}, "parts": _parts()}
    return sha256(json.dumps(taken, sort_keys=True).encode()).hexdigest()


def _lent(name: str, bank: UserBank, procedure: Procedure) -> Iterator[str]:
    """Yield the library's wordings for an intent; a correction's name a slot each."""
    act = procedure.acts()[name]
    if act != CORRECTION:
        yield from wordings(act)
        return
    own = " ".join(bank.intents.get(name, ()))
    for slot in bank.slots:
        mark = "{" + slot + "}"
        if len(procedure.corrections) == 1 or mark in own:
            yield from (text.replace(VALUE, mark) for text in wordings(act))


def _rivals(name: str, procedure: Procedure, own: Folded, lent: Folded) -> dict[str, str]:
    """Map what means something else where the intent may be said to the key of that meaning."""
    groups = [group for group in heard_together(procedure) if name in group]
    near = [other for other in dict.fromkeys(chain(*groups)) if other != name]
    keys = [key for key in own if key != name and {*near, name} & set(key.split("+"))]
    found = {text: other for other in near for text in lent.get(other, ())}
    return found | {text: key for key in keys for text in own[key]}


def _folded(texts: Iterable[str]) -> dict[str, str]:
    return {fold(text): text for text in texts}


@cache
def _parts() -> Texts:
    return _read(LIBRARY / PARTS_FILE)


def _read(path: Path) -> Texts:
    document = read_bank_document(path)
    return {key: tuple(e.text for e in held) for key, held in document.intents.items()}

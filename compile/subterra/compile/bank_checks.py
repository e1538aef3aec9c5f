"""A user bank held against a procedure.

Goes in: a `BankDocument` and a `Procedure`. Comes out: problems (the bank does not fit) and
warnings (a wording that means two things at one hub). Does not know how wordings are used.

    >>> list(fit_problems(bank, procedure))
    []
"""

import re
from collections.abc import Collection, Iterator, Sequence

from subterra.compile.bank_document import SLOTS_KEY, BankDocument, Entry, fold
from subterra.compile.procedure import Procedure, Slot
from subterra.compile.yaml_source import Problem, closest

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def fit_problems(
    bank: BankDocument, procedure: Procedure, lent: Collection[str] = (), *, part: bool = False
) -> Iterator[Problem]:
    """Yield what keeps the bank from being used with the procedure.

    The bank may leave `lent` intents out: their wordings come from elsewhere. A `part` of a bank
    may leave out intents, slots and values.
    """
    yield from _intent_problems(bank, procedure, procedure.intent_names() if part else lent)
    yield from _slot_problems(bank, procedure, part=part)
    for wordings in bank.intents.values():
        for entry in wordings:
            yield from _placeholder_problems(entry, procedure)
    for phrases in (p for values in bank.slots.values() for p in values.values()):
        for entry in phrases:
            if "{" in entry.text or "}" in entry.text:
                yield entry.problem(f"a placeholder inside the phrase '{entry.text}'")
    if not part:
        yield from _filling_problems(bank, procedure)


def rivalries(bank: BankDocument, procedure: Procedure) -> Iterator[str]:
    """Yield a warning for each wording that means two things at one hub, or names two values."""
    for names in heard_together(procedure):
        yield from _rivals(bank, [(name, bank.intents.get(name, [])) for name in names])
    for slot, values in bank.slots.items():
        yield from _rivals(bank, [(f"{slot} {value}", held) for value, held in values.items()])


def heard_together(procedure: Procedure) -> list[tuple[str, ...]]:
    """List, for each hub, the intents that a message may have there."""
    general = [intent.name for intent in procedure.corrections]
    general += [aside.name for aside in procedure.asides]
    every = [intent.name for intent in procedure.intents]
    groups = [
        [name for edge in hub.edges for name in edge.intents] or every
        for hub in procedure.of_kind("hub")
    ]
    return [tuple(dict.fromkeys((*group, *general))) for group in groups]


def _intent_problems(
    bank: BankDocument, procedure: Procedure, lent: Collection[str]
) -> Iterator[Problem]:
    known = procedure.intent_names()
    for key in bank.intents:
        parts = key.split("+")
        for part in (p for p in parts if p not in known):
            where = f" in '{key}'" if len(parts) > 1 else ""
            yield bank.key_problem((key,), f"unknown intent '{part}'{where}{closest(part, known)}")
        if len(set(parts)) < len(parts):
            yield bank.key_problem((key,), f"'{key}' names the same intent twice")
    for name in known:
        if name not in bank.intents and name not in lent:
            words = f"no wordings for the procedure's intent '{name}'"
            yield bank.document.problem((), words)


def _slot_problems(bank: BankDocument, procedure: Procedure, *, part: bool) -> Iterator[Problem]:
    slots = {slot.name: slot for slot in procedure.slots}
    for name, values in bank.slots.items():
        if name in slots:
            yield from _value_problems(bank, slots[name], values, part=part)
        else:
            words = f"unknown slot '{name}'{closest(name, tuple(slots))}"
            yield bank.key_problem((SLOTS_KEY, name), words)


def _value_problems(
    bank: BankDocument, slot: Slot, values: dict[str, list[Entry]], *, part: bool
) -> Iterator[Problem]:
    steps = (SLOTS_KEY, slot.name)
    for value in values:
        if slot.values and value not in slot.values:
            words = f"slot '{slot.name}' has no value '{value}'{closest(value, slot.values)}"
            yield bank.key_problem((*steps, value), words)
    for value in () if part else slot.values:
        if value not in values:
            words = f"no phrases for value '{value}' of slot '{slot.name}'"
            yield bank.key_problem(steps, words)


def _placeholder_problems(entry: Entry, procedure: Procedure) -> Iterator[Problem]:
    names = PLACEHOLDER.findall(entry.text)
    for name in dict.fromkeys(names):
        if name not in procedure.slot_names:
            words = f"unknown placeholder '{{{name}}}'{closest(name, procedure.slot_names)}"
            yield entry.problem(words)
        elif names.count(name) > 1:
            yield entry.problem(f"'{{{name}}}' stands twice in '{entry.text}'")
    rest = PLACEHOLDER.sub("", entry.text)
    if "{" in rest or "}" in rest:
        yield entry.problem(f"a stray brace in '{entry.text}'; braces hold a slot's name")


def _filling_problems(bank: BankDocument, procedure: Procedure) -> Iterator[Problem]:
    """Every slot that is asked must be fillable, by what an intent implies or by a placeholder."""
    texts = [entry.text for wordings in bank.intents.values() for entry in wordings]
    used = {name for text in texts for name in PLACEHOLDER.findall(text)}
    implied = {name for intent in procedure.intents for name, _ in intent.sets}
    asked = {name for node in procedure.nodes for name in node.asks}
    for name, closed in ((slot.name, slot.values) for slot in procedure.slots):
        if name in used and name not in bank.slots:
            words = f"'{{{name}}}' is used, but '{SLOTS_KEY}' has no phrases for '{name}'"
            yield bank.key_problem((SLOTS_KEY,), words)
        if name in asked and name not in used | implied:
            words = f"no wording holds '{{{name}}}', so slot '{name}' can never be filled"
            yield bank.document.problem((), words)
        elif not closed and name not in {*bank.slots, *used, *implied}:
            words = f"no values for the procedure's slot '{name}'"
            yield bank.document.problem((), words)


def _rivals(bank: BankDocument, groups: Sequence[tuple[str, list[Entry]]]) -> Iterator[str]:
    heard: dict[str, tuple[str, Entry]] = {}
    for name, entries in groups:
        for entry in entries:
            other, first = heard.setdefault(fold(entry.text), (name, entry))
            if other != name:
                place = f"{bank.document.path}:{entry.line}"
                yield f"{place}: '{entry.text}' ({name}) also means {other} (line {first.line})"

"""What a teacher wrote, held against the bank: each text is kept, or refused for one named reason.

Goes in: a procedure, its training bank, the texts that held-out banks bar, and candidates for an
intent. Comes out: None (keep it) or the reason to refuse it. Likeness is measured to the author's
wordings only, never to what teachers wrote before, so that a drift cannot feed itself. Does not
know who wrote a candidate.

    >>> WordingFilter(procedure, bank, barred).of("give_device").reason("i use it on zoom")
    'missing placeholder'
"""

import re
from collections.abc import Collection
from typing import Literal, get_args

import numpy as np

from subterra.compile.agent_text import AgentText, runs
from subterra.compile.bank_checks import PLACEHOLDER
from subterra.compile.bank_document import fold
from subterra.compile.intent_places import rivals
from subterra.compile.procedure import Procedure
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import placeholders
from subterra.compile.wording_similarity import WordingIndex

Reason = Literal[
    "no list item",
    "empty",
    "unreadable",
    "too long",
    "unknown placeholder",
    "missing placeholder",
    "slot value",
    "held out",
    "duplicate",
    "agent's text",
    "other intent",
    "unlike the intent",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

MAX_CHARACTERS = 240
"""A longer message is an essay, or several messages."""
RIVAL_SCORE = 0.3
"""A rival's wording that is at least so near (cosine), and nearer than any own one, refuses.

Chosen on wordings split off the examples' training banks, half of them under a rival's name: with
all own wordings 27 to 29 % of the right ones are refused and 1 to 3 % of a rival's pass; with 10
own ones an intent 26 to 37 %, and 21 to 24 % pass."""

FLOOR_SHARE = 0.02
"""A text less like the intent's wordings than this share of them is like the others, refuses."""
FLOOR_WORDINGS = 10
"""With fewer own wordings there is no telling what is unlike them."""
FOREIGN_MARKS = re.compile(r"\[[^\]]*\]|<[^>]*>|_{2,}")
"""Placeholders as other programs write them: [name], <date>, ____."""


class WordingFilter:
    """What the filters of all intents share."""

    def __init__(self, procedure: Procedure, bank: UserBank, barred: Collection[str] = ()) -> None:
        """Prepare for a bank (with its general wordings) and folded texts that must not come in."""
        self.procedure, self.bank, self.barred = procedure, bank, frozenset(barred)
        self.index = WordingIndex({key: bank.wordings(key) for key in bank.names()})
        self.agent = AgentText(procedure)
        self.phrases = {
            slot: frozenset(fold(phrase) for phrases in values.values() for phrase in phrases)
            for slot, values in bank.slots.items()
        }

    def of(self, intent: str) -> "IntentFilter":
        """Make the filter of one intent."""
        return IntentFilter(self, intent)


class IntentFilter:
    """Judges candidates for one intent, and remembers those that were kept."""

    def __init__(self, shared: WordingFilter, intent: str) -> None:
        self._shared, self._bank = shared, shared.bank
        own = self._bank.wordings(intent)
        joined = [key for key in self._bank.names() if intent in key.split("+")]
        self._shapes = {placeholders(text) for text in own}
        self._runs = frozenset(run for text in own for run in runs(fold(text)))
        self._present = {fold(text) for text in own}
        self._joined = {
            fold(t) for key in joined if key != intent for t in self._bank.wordings(key)
        }
        self._near = tuple(dict.fromkeys((intent, *joined)))
        self._rivals = rivals(shared.procedure, intent, self._bank.names())
        self._floor = 0.0
        if len(own) >= FLOOR_WORDINGS:
            self._floor = float(np.quantile(shared.index.apart(self._near), FLOOR_SHARE))
        self._marks = any(FOREIGN_MARKS.search(text) for text in own)
        self._values = _foreign_values(shared, intent, own)

    def reason(self, text: str) -> Reason | None:
        """Give the first reason to refuse a text, None to keep it."""
        if reason := _form(text) or self._slots(text):
            return reason
        folded = fold(text)
        if folded in self._shared.barred:
            return "held out"
        if folded in self._present:
            return "duplicate"
        if self._shared.agent.leaks(text, self._runs):
            return "agent's text"
        return "other intent" if folded in self._joined else self._drift(text)

    def keep(self, text: str) -> None:
        """Count a text as there, so that its repetition is a duplicate."""
        self._present.add(fold(text))

    def _slots(self, text: str) -> Reason | None:
        names, rest = PLACEHOLDER.findall(text), PLACEHOLDER.sub(" ", text)
        known = frozenset[str]().union(*self._shapes)
        if not known.issuperset(names) or len(names) > len(set(names)) or set(rest) & {"{", "}"}:
            return "unknown placeholder"
        if not self._marks and FOREIGN_MARKS.search(text):
            return "unknown placeholder"
        if frozenset(names) not in self._shapes:
            return "missing placeholder"
        said = f" {fold(rest)} "
        return "slot value" if any(f" {value} " in said for value in self._values) else None

    def _drift(self, text: str) -> Reason | None:
        index = self._shared.index
        scores = index.scores(text)
        rival, own = index.best(scores, self._rivals), index.best(scores, self._near)
        likeness = own.score if own else 0.0
        if rival and rival.score >= max(RIVAL_SCORE, likeness):
            return "other intent"
        return "unlike the intent" if likeness < self._floor else None


def _form(text: str) -> Reason | None:
    if not any(map(str.isalpha, text)):
        return "empty"
    if not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
        return "unreadable"
    return "too long" if len(text) > MAX_CHARACTERS else None


def _foreign_values(shared: WordingFilter, intent: str, own: Collection[str]) -> frozenset[str]:
    """List the phrases of slots that no wording of the intent may hold instead of a placeholder.

    The slot would be filled by what is said, and the gold state would not know. Free are a slot
    that the intent itself sets, and a phrase that the author's own wordings hold.
    """
    intents = (*shared.procedure.intents, *shared.procedure.corrections)
    sets = {name for other in intents if other.name == intent for name, _ in other.sets}
    said = "|".join(f" {fold(PLACEHOLDER.sub(' ', text))} " for text in own)
    foreign = (values for slot, values in shared.phrases.items() if slot not in sets)
    return frozenset(v for values in foreign for v in values if f" {v} " not in said)

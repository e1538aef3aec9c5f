"""User wording: messages drawn from a bank, each wording used as often as the others.

Goes in: a user bank, a seed, and how much noise. Comes out: surface text for a meaning. Noise is
what keyboards and moods do to a text (letters swapped or dropped, case, punctuation, an opener, a
closer, a filler); held-out wording is scored without it. Wordings of the library come as often as
the bank's own ones, but not more often than these together. Does not know the procedure's graph.

    >>> source.text("give_device", {"device": "Mac"})
    "i'm on a macbook air"
"""

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from subterra.compile.general_wording import parts
from subterra.compile.user_bank import UserBank

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")

GENERAL = "+"
"""Tells the library's decks from the bank's own; no slot has this name."""
MONTH_DAYS = 31
VOWELS, CONSONANTS = "aeiou", "bdfglmnprstv"
PRIVATE_USE = 0xE000
"""First of the characters that stand for a phrase that noise leaves alone."""

NEIGHBOURS = {
    "a": "sqz", "b": "vgn", "c": "xvd", "d": "sfe", "e": "wr3", "f": "dgr", "g": "fht", "h": "gjy",
    "i": "uo8", "j": "hku", "k": "jli", "l": "kop", "m": "n,", "n": "bm", "o": "ip0", "p": "ol",
    "q": "wa", "r": "et", "s": "adw", "t": "ryg", "u": "yi7", "v": "cb", "w": "qes", "x": "zc",
    "y": "tu", "z": "xs",
}  # fmt: skip
"""Letters beside each letter on a QWERTY keyboard."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Probabilities, per message, of each disturbance."""

    typo: float = 0.0
    case: float = 0.0
    punctuation: float = 0.0
    opener: float = 0.0
    closer: float = 0.0
    filler: float = 0.0


CLEAN = Noise()
TRAINING = Noise(typo=0.2, case=0.3, punctuation=0.3, opener=0.12, closer=0.1, filler=0.05)


class WordingSource:
    """Draws wordings without replacement, key by key, so that no wording is worn out."""

    def __init__(self, bank: UserBank, rng: random.Random, noise: Noise = CLEAN) -> None:
        self._bank = bank
        self._rng = rng
        self._noise = noise
        self._decks: dict[tuple[str, ...], list[str]] = {}
        self._drawn: Counter[tuple[str, ...]] = Counter()

    def keys(self) -> tuple[str, ...]:
        """List the bank's keys."""
        return self._bank.names()

    def shapes(self, key: str) -> tuple[frozenset[str], ...]:
        """List the placeholder sets that occur among the wordings of a key."""
        found = dict.fromkeys(placeholders(text) for text in self._bank.wordings(key))
        return tuple(found)

    def text(self, key: str, slots: Mapping[str, str]) -> str:
        """Write a message of the key that names exactly these slots.

        Noise leaves a phrase that is the slot's value word for word: the agent must copy it.

        Raises:
            KeyError: the bank has no such wording; ask `shapes` first.
        """
        wanted = frozenset(slots)
        text = self._wording(key, wanted)
        copied: dict[str, str] = {}
        for name in sorted(wanted):  # a set's own order differs from process to process
            value = slots[name]
            phrases = self._bank.slots[name].get(value, (value,))
            phrase = self._draw(("slot", name, value), list(phrases))
            if phrase == value:
                copied[phrase], phrase = chr(PRIVATE_USE + len(copied)), ""
            text = text.replace("{" + name + "}", phrase or copied[value])
        text = disturb(text, self._noise, self._rng)
        for phrase, mark in copied.items():
            text = text.replace(mark, phrase)
        return text

    def _wording(self, key: str, wanted: frozenset[str]) -> str:
        own, general = (
            [text for text in held.get(key, ()) if placeholders(text) == wanted]
            for held in (self._bank.intents, self._bank.general)
        )
        deck = (key, *sorted(wanted))
        if not (own and general):
            return self._draw(deck, own or general)
        before = self._drawn[deck]
        self._drawn[deck] += 1
        share = min(len(own), len(general)), len(own) + min(len(own), len(general))
        if (before + 1) * share[0] // share[1] > before * share[0] // share[1]:
            return self._draw((key, GENERAL, *deck[1:]), general)
        return self._draw(deck, own)

    def _draw(self, deck_key: tuple[str, ...], cards: list[str]) -> str:
        deck = self._decks.get(deck_key)
        if not deck:
            if not cards:
                raise KeyError(deck_key)
            deck = self._decks[deck_key] = self._rng.sample(cards, len(cards))
        return deck.pop()


@lru_cache(maxsize=1 << 16)
def placeholders(text: str) -> frozenset[str]:
    """Name the slots that a wording has a place for."""
    return frozenset(PLACEHOLDER.findall(text))


def disturb(text: str, noise: Noise, rng: random.Random) -> str:
    """Apply noise to a message."""
    if noise.filler and rng.random() < noise.filler:
        text = _fill(text, rng)
    if rng.random() < noise.opener:
        text = f"{rng.choice(parts('openers'))} {text}"
    if rng.random() < noise.closer:
        closer = rng.choice(parts("closers"))
        text = text.rstrip(".") + ("" if closer[0] in "!." else " ") + closer
    if rng.random() < noise.punctuation:
        text = re.sub(r"[,.!;:]+(?=\s|$)", "", text).replace("'", "")
    if rng.random() < noise.case:
        text = text.upper() if rng.random() < 0.1 else text.lower()
    if rng.random() < noise.typo:
        for _ in range(rng.choice((1, 1, 2))):
            text = _typo(text, rng)
    return text.strip() or "?"


def _fill(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    if len(words) < 3:
        return text
    words.insert(rng.randrange(1, len(words)), rng.choice(parts("fillers")))
    return " ".join(words)


def vary(value: str, rng: random.Random) -> str:
    """Make a value that is like this one, but in no list: other digits, or one other letter."""
    if any(c.isdigit() for c in value):
        return re.sub(r"\d+", lambda number: _number(number[0], rng), value)
    spots = [i for i, c in enumerate(value) if c.isascii() and c.isalpha() and c.islower()]
    if len(spots) < 3:
        return value
    i = rng.choice(spots)
    letters = VOWELS if value[i] in VOWELS else CONSONANTS
    other = rng.choice([letter for letter in letters if letter != value[i]])
    return value[:i] + other + value[i + 1 :]


def _number(digits: str, rng: random.Random) -> str:
    if len(digits) < 3 and int(digits) <= MONTH_DAYS:
        return str(rng.randint(1, MONTH_DAYS))
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in digits[1:])


def _typo(text: str, rng: random.Random) -> str:
    spots = [i for i, c in enumerate(text) if c.isalpha()]
    if len(spots) < 4:
        return text
    i = rng.choice(spots[1:])
    kind = rng.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    if kind == 2 and i + 1 < len(text):
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    near = NEIGHBOURS.get(text[i].lower(), text[i])
    return text[:i] + rng.choice(near) + text[i + 1 :]

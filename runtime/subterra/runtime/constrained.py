"""Constrained state: while the state line is written, only legal lines can be.

Goes in: a `TransitionTable`, the line before, the logits of each step. Comes out: the token to
take: the model's own where the line stays the beginning of a legal one, otherwise the best that
does. Names are compared byte by byte, so the model may cut them into tokens as it likes; only
tokens whose first byte may come next are tried. After the line's newline nothing is looked at any
more. Does not know engines or sessions.

    choose = ConstrainedChoice(table, line, tokenizer)
    engine.generate(prompt, max_tokens=256, stop=[2], choose=choose)
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.legal_moves import Outcome, is_legal, opens_with, outcomes
from subterra.runtime.state_line import UNFILLED, StateLine, is_value, words
from subterra.runtime.transition_table import TransitionTable

BAR: Final = b" | "
ANY_BYTE: Final = range(256)


class Vocabulary(Protocol):
    """What the tokens are written with."""

    @property
    def first_bytes(self) -> NDArray[np.int16]:
        """First byte of each token (V,); -1 for a token without bytes."""

    def token_bytes(self, token: int) -> bytes:
        """Bytes of a token."""


class Writing(Protocol):
    """A line as far as it is written: the beginning of at least one legal line."""

    def feed(self, data: bytes) -> "Writing | None":
        """Write on; None where no legal line goes on so."""

    def next_bytes(self) -> Collection[int]:
        """Give the bytes that may come next, and perhaps some that may not."""


def begin(table: TransitionTable, before: StateLine | None) -> Writing:
    """Give the empty beginning of the line that follows `before` (None: the opening)."""
    return _intents(table, before, ())


def position(table: TransitionTable, before: StateLine | None, line: StateLine | None) -> StateLine:
    """Give the line from which the next one goes on: this one, or an earlier one if it is illegal.

    A line can be illegal where the reply was cut short.

    Raises:
        BundleError: the table cuts slot values into too many boxes; see `legal_moves`.
    """
    if line is not None and is_legal(table, before, line):
        return line
    empty = tuple((name, None) for name in table.slot_names)
    return before or StateLine(
        opens_with(table, None), table.start, empty, table.flags_at(table.start, frozenset())
    )


class ConstrainedChoice:
    """Chooses the tokens of one reply, greedily among those that keep its state line legal."""

    def __init__(
        self,
        table: TransitionTable,
        before: StateLine | None,
        vocabulary: Vocabulary,
        cancel: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin the line that follows `before`; `cancel` ends a search, as it ends the reply."""
        self._vocabulary, self._cancel = vocabulary, cancel
        self._writing: Writing | None = begin(table, before)
        self.steered = 0
        """Tokens taken against the model's own choice."""

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Choose the next token by its logits (V,).

        Raises:
            BundleError: the table cuts slot values into too many boxes; see `legal_moves`.
        """
        token = int(logits.argmax())
        if self._writing is None:
            return token
        written = self._after(token)
        if written is None:
            token, written = self._best_legal(logits, token)
        self._writing = None if isinstance(written, _Reply) else written
        return token

    def _after(self, token: int) -> Writing | None:
        data = self._vocabulary.token_bytes(token)  # the end of the turn has none, and ends no line
        return self._writing.feed(data) if data and self._writing else None

    def _best_legal(self, logits: NDArray[np.float32], own: int) -> tuple[int, Writing | None]:
        tokens = self._candidates()
        tokens = tokens[tokens < len(logits)]
        for token in tokens[np.argsort(-logits[tokens], kind="stable")].tolist():
            if self._cancel():
                break
            if written := self._after(token):
                self.steered += 1
                return token, written
        return own, None  # a vocabulary without the bytes: the line is given up as it is

    def _candidates(self) -> NDArray[np.intp]:
        """List the tokens whose first byte may come next."""
        legal = np.zeros(len(ANY_BYTE) + 1, bool)  # -1 is the last, for tokens without bytes
        if writing := self._writing:
            for byte in writing.next_bytes():
                legal[byte] = writing.feed(bytes([byte])) is not None
        return np.flatnonzero(legal[self._vocabulary.first_bytes])


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of several texts, none of which begins another."""

    options: Mapping[bytes, Callable[[], Writing]]
    held: bytes = b""

    def feed(self, data: bytes) -> Writing | None:
        text = self.held + data
        for option, follow in self.options.items():
            if text.startswith(option):
                return follow().feed(text[len(option) :])
        if any(option.startswith(text) for option in self.options):
            return replace(self, held=text)
        return None

    def next_bytes(self) -> Collection[int]:
        size = len(self.held)
        return {option[size] for option in self.options if option.startswith(self.held)}


@dataclass(frozen=True, slots=True)
class _Value:
    """The value of a slot, with what ends it."""

    legal: Callable[[str | None], bool]
    listed: Sequence[str | None]
    free: bool
    """Whether values that are not listed may be legal."""
    end: bytes
    follow: Callable[[str | None], Writing]
    held: bytes = b""

    def feed(self, data: bytes) -> Writing | None:
        text = self.held + data
        stop = next((index for index, byte in enumerate(text) if byte in b"|\n"), None)
        if stop is None:
            return replace(self, held=text) if self._begins(text) else None
        size = max(stop - self.end.startswith(BAR), 0)  # the space before the bar ends the value
        rest, known, value = text[size:], *_value(text[:size])
        if not (known and self.legal(value)):
            return None
        if rest.startswith(self.end):
            return self.follow(value).feed(rest[len(self.end) :])
        return replace(self, held=text) if self.end.startswith(rest) else None

    def next_bytes(self) -> Collection[int]:
        return ANY_BYTE

    def _begins(self, text: bytes) -> bool:
        listed = (_written(value) + self.end for value in self.listed)
        return any(whole.startswith(text) for whole in listed) or (self.free and _is_free(text))


@dataclass(frozen=True, slots=True)
class _Reply:
    """What follows the line, which is free."""

    def feed(self, data: bytes) -> Writing | None:
        del data
        return self

    def next_bytes(self) -> Collection[int]:
        return ANY_BYTE


def _intents(table: TransitionTable, before: StateLine | None, said: tuple[str, ...]) -> Writing:
    options: dict[bytes, Callable[[], Writing]] = {}
    left = [name for name in opens_with(table, before) if name not in said]
    for name in left:
        meant, text = (*said, name), words(name).encode()
        options[text + b" > "] = partial(_nodes, table, before, meant)
        if len(left) > 1:
            options[text + b" + "] = partial(_intents, table, before, meant)
    return _Choice(options)


def _nodes(table: TransitionTable, before: StateLine | None, meant: tuple[str, ...]) -> Writing:
    flags = frozenset(before.flags if before else ())
    options: dict[bytes, Callable[[], Writing]] = {}
    found = outcomes(table, before, meant)
    for node in dict.fromkeys(outcome.node for outcome in found):
        left = [outcome for outcome in found if outcome.node == node]
        tail = b"".join(BAR + words(name).encode() for name in table.flags_at(node, flags)) + b"\n"
        end = BAR if table.slots else tail
        options[words(node).encode() + end] = partial(_slots, table, 0, left, tail)
    return _Choice(options)


def _slots(table: TransitionTable, index: int, left: Sequence[Outcome], tail: bytes) -> Writing:
    if index == len(table.slots):
        return _Reply()
    domains = [outcome.domains[index] for outcome in left]

    def follow(value: str | None) -> Writing:
        fitting = [outcome for outcome in left if outcome.domains[index].holds(value)]
        return _slots(table, index + 1, fitting, tail)

    return _Value(
        lambda value: any(domain.holds(value) for domain in domains),
        tuple({value for domain in domains for value in domain.listed}),
        any(domain.only is None for domain in domains),
        tail if index == len(table.slots) - 1 else BAR,
        follow,
    )


def _written(value: str | None) -> bytes:
    return (UNFILLED if value is None else value).encode()


def _value(data: bytes) -> tuple[bool, str | None]:
    """Read a whole value: whether it is one, and which (None: empty)."""
    if data == UNFILLED.encode():
        return True, None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False, None
    return is_value(text), text


def _is_free(data: bytes) -> bool:
    """Tell whether bytes begin a value of any text; a last character may be incomplete."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.end < len(data) or error.reason != "unexpected end of data":
            return False
        text = data[: error.start].decode()
    return text.isprintable() and not text.startswith((" ", UNFILLED))

"""Tokens at which facts part: exactly where the words before do not tell how a fact goes on."""

import re
from collections.abc import Sequence

import pytest

from subterra.compile.choice_tokens import choice_tokens
from subterra.compile.procedure import Procedure
from subterra.runtime.chatml import ChatTokenizer

IOS = (
    "Let us get you connected. Switch off the VPN and Low Data Mode in Settings > Wi-Fi, then"
    " change between Wi-Fi and mobile data and join again. Can you join now?"
)
ANDROID = (
    "Let us get you connected. Switch off the VPN and Data Saver in Settings > Network & internet,"
    " then change between Wi-Fi and mobile data and join again. Can you join now?"
)


class Words:
    """A tokenizer whose tokens are words, each with the space before it."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def encode_text(self, text: str) -> list[int]:
        pieces = re.findall(r"\s*\S+|\s+", text)
        return [self._known.setdefault(piece, len(self._known)) for piece in pieces]

    def token_bytes(self, token: int) -> bytes:
        return [*self._known][token].encode()

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.token_bytes(token) for token in tokens).decode()


@pytest.fixture
def words() -> ChatTokenizer:
    return Words()  # type: ignore[return-value]


@pytest.mark.parametrize(("reply", "word"), [(IOS, " Low"), (ANDROID, " Data")])
def test_the_word_at_which_twin_facts_part_is_marked(
    zoom: Procedure, words: ChatTokenizer, reply: str, word: str
) -> None:
    pieces = words.encode_text(reply)
    marks = choice_tokens(zoom, words)(pieces)
    marked = [words.decode([p]) for p, mark in zip(pieces, marks, strict=True) if mark]
    assert word in marked
    assert len(marks) == len(pieces)
    assert 1 <= len(marked) < len(pieces) / 4


def test_what_every_fact_shares_is_not_marked(zoom: Procedure, words: ChatTokenizer) -> None:
    pieces = words.encode_text(IOS)
    marks = choice_tokens(zoom, words)(pieces)
    text = [words.decode([p]) for p, mark in zip(pieces, marks, strict=True) if not mark]
    assert " mobile" in text
    assert " again." in text


def test_a_reply_without_fact_decides_nothing(zoom: Procedure, words: ChatTokenizer) -> None:
    pieces = words.encode_text("Did the sound step help?")
    assert not any(choice_tokens(zoom, words)(pieces)[1:])

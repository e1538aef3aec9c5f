"""A model that prefers an illegal state line is steered to the best legal one."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.runtime.test_transition_table import TABLE

from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.constrained import ConstrainedChoice, Writing, begin, position
from subterra.runtime.engine import Choose, Engine, Slots
from subterra.runtime.legal_moves import is_legal
from subterra.runtime.session import Session, StateShown, TextDelta
from subterra.runtime.state_line import StateLine, parse
from subterra.runtime.transition_table import parse_table

GRAPH = parse_table(json.dumps(TABLE).encode())
OPENING = "start > ask | ? | ?\n"
ASKED = StateLine(("start",), "ask", (("kind", None), ("who", None)))
FIXING = StateLine(("say_cold",), "fix_it", (("kind", "cold"), ("who", "Ann Lee")), ("told",))


class Watched:
    """A vocabulary that remembers which tokens were looked at."""

    def __init__(self, *tokens: bytes) -> None:
        self.tokens, self.looked = tokens, list[int]()
        self.first_bytes = np.array([data[0] if data else -1 for data in tokens], np.int16)

    def token_bytes(self, token: int) -> bytes:
        self.looked.append(token)
        return self.tokens[token]


def watched(tokenizer: ChatTokenizer) -> Watched:
    return Watched(*map(tokenizer.token_bytes, range(tokenizer.vocab_size)))


class Wishful:
    """Writes the first of its wishes that is still possible; proves what steering does to it."""

    name = "wishful"
    context_tokens = 1 << 16

    def __init__(self, tokenizer: ChatTokenizer, *turns: Sequence[str]) -> None:
        self.vocab_size = tokenizer.vocab_size
        self.chosen: list[Choose | None] = []
        self._tokenizer = tokenizer
        self._turns = iter(turns)

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        wishes, written = next(self._turns), b""
        self.chosen.append(choose)
        for _ in range(max_tokens):
            logits = self.wish(wishes, written)
            token = choose(logits) if choose else int(logits.argmax())
            if token in stop:
                return
            yield token
            written += self._tokenizer.token_bytes(token)

    def wish(self, wishes: Sequence[str], written: bytes) -> NDArray[np.float32]:
        """Score the next byte of each wish that begins as written, the first wish highest."""
        logits = np.zeros(self.vocab_size, np.float32)
        logits[self._tokenizer.end_of_turn_id] = 1
        for rank, wish in reversed(list(enumerate(wishes))):
            left = wish.encode().removeprefix(written)
            if wish.encode().startswith(written) and left:
                for token in range(self.vocab_size):
                    if self._tokenizer.token_bytes(token) == left[:1]:
                        logits[token] = 99 - rank
        return logits

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        raise NotImplementedError

    def slots(self, count: int) -> Slots:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tokenizer(tokenizer_json: Path) -> ChatTokenizer:
    return ChatTokenizer(tokenizer_json, ChatFormat(system="x"))


def written(
    tokenizer: ChatTokenizer, before: StateLine | None, *wishes: str
) -> tuple[str, ConstrainedChoice]:
    """Write one reply under constraint."""
    choose = ConstrainedChoice(GRAPH, before, tokenizer)
    engine = Wishful(tokenizer, wishes)
    reply = engine.generate([1], max_tokens=200, stop=[2], choose=choose)
    return tokenizer.decode(reply), choose


@pytest.mark.parametrize(
    ("before", "wishes"),
    [
        (None, ["start > fix it | ? | ?\nHi", OPENING + "Yo"]),
        (ASKED, ["say warm > ", "say cold > fix it | cold | ? | told\n"]),
        (ASKED, ["say cold > fix it | leak", "say cold > fix it | cold | Bo | told\n"]),
        (ASKED, ["stop > end", "stop > fix it | leak | Zoë | told\nOk | > +"]),
        (ASKED, ["stop + stop >", "stop + say cold > fix it | cold | ? | told\n"]),
        (FIXING, ["chat > fix it | cold | ?", "chat > fix it | cold | Ann Lee | told\n"]),
        (FIXING, ["stop > end | cold | Ann Lee\n", "stop > end | cold | Ann Lee | told\n"]),
    ],
)
def test_the_best_legal_line_is_written(
    tokenizer: ChatTokenizer, before: StateLine | None, wishes: list[str]
) -> None:
    text, choose = written(tokenizer, before, *wishes)
    line = parse(text.partition("\n")[0], GRAPH.slot_names)
    assert line is not None
    assert is_legal(GRAPH, before, line)
    assert choose.steered
    assert text == wishes[-1]


@pytest.mark.parametrize(
    "text", [OPENING, OPENING + "start > ask\n| ? <> \0", "start > ask | ? | ?\n\n"]
)
def test_a_legal_reply_is_left_as_it_is(tokenizer: ChatTokenizer, text: str) -> None:
    reply, choose = written(tokenizer, None, text)
    assert (reply, choose.steered) == (text, 0)


def test_a_legal_token_costs_one_look_at_its_bytes(tokenizer: ChatTokenizer) -> None:
    vocabulary = watched(tokenizer)
    choose = ConstrainedChoice(GRAPH, None, vocabulary)
    wishful = Wishful(tokenizer)
    reply = tokenizer.encode_text(OPENING + "Hello")
    for index, token in enumerate(reply):
        done = tokenizer.decode(reply[:index]).encode()
        assert choose(wishful.wish([OPENING + "Hello"], done)) == token
    assert vocabulary.looked == tokenizer.encode_text(OPENING)


def test_only_tokens_whose_first_byte_may_come_next_are_tried(tokenizer: ChatTokenizer) -> None:
    vocabulary = watched(tokenizer)
    choose = ConstrainedChoice(GRAPH, None, vocabulary)
    logits = np.arange(tokenizer.vocab_size, dtype=np.float32)
    logits[tokenizer.end_of_turn_id] = 1e6
    (only,) = tokenizer.encode_text("s")
    logits[only] = -5
    logits[[token for token in range(len(logits)) if tokenizer.token_bytes(token) == b"start"]] = -9
    assert choose(logits) == only
    assert choose.steered == 1
    _, *tried = vocabulary.looked
    assert {tokenizer.token_bytes(token)[:1] for token in tried} == {b"s"}


def test_a_search_ends_when_the_reply_is_cancelled() -> None:
    vocabulary = Watched(b"z", *[b"sz"] * 50, b"s")
    logits = -np.arange(len(vocabulary.tokens), dtype=np.float32)
    answers = iter([False] * 10 + [True])
    choose = ConstrainedChoice(GRAPH, None, vocabulary, lambda: next(answers))
    assert choose(logits) == 0
    assert vocabulary.looked == list(range(11))


def test_a_vocabulary_without_the_bytes_ends_the_constraint_and_not_the_reply() -> None:
    choose = ConstrainedChoice(GRAPH, None, Watched(b"z", b"", b"z"))
    logits = np.array([0, 3, 1], np.float32)
    assert [choose(logits), choose(logits)] == [1, 1]
    assert choose.steered == 0


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(1, 7), max_size=40))
def test_lines_may_be_cut_into_tokens_anywhere(text: str, cuts: list[int]) -> None:
    data = ("say cold > fix it | cold | " + text + " | told\n").encode("utf-8", "replace")
    whole = begin(GRAPH, ASKED).feed(data)
    writing: Writing | None = begin(GRAPH, ASKED)
    for size in [*cuts, len(data) or 1]:
        writing = writing.feed(data[:size]) if writing else None
        data = data[size:]
    assert (writing is None) == (whole is None)
    line = parse(f"say cold > fix it | cold | {text} | told", GRAPH.slot_names)
    if (
        line is not None
        and "\n" not in text
        and is_legal(GRAPH, ASKED, line)
        and (text == text.strip())
    ):
        assert whole is not None


@pytest.mark.parametrize(
    "value", [b"", b" ", b"??", b"x\ty", b"\xff", b"a\xc3 ", b" a", b"a  | told"]
)
def test_an_open_slot_takes_only_what_reads_back(value: bytes) -> None:
    head = begin(GRAPH, ASKED).feed(b"say cold > fix it | cold | ")
    assert head
    assert head.feed(value + b" | told\n") is None
    for good in ("?", "Zoë 7", "a > b + c", "日本"):
        assert head.feed(good.encode() + b" | told\n")
        assert all(head.feed(good.encode()[:size]) for size in range(len(good.encode())))


def session(engine: Engine, tokenizer: ChatTokenizer, **options: object) -> Session:
    chat = ChatFormat(system="x")
    settings = {"recipe": "traced", "slot_names": GRAPH.slot_names, "table": GRAPH, **options}
    return Session(engine, tokenizer, chat, **settings)  # type: ignore[arg-type]


def test_a_session_goes_on_from_the_line_that_was_written(tokenizer: ChatTokenizer) -> None:
    illegal = "say cold > end | cold | ?\nBye"
    engine = Wishful(
        tokenizer,
        [OPENING + "Hi"],
        [illegal, "say cold > fix it | cold | ? | told\nFix"],
        ["chat > ask | ? | ?\nSo?", "chat > fix it | cold | ? | told\nWell"],
        [OPENING + "Hi"],
    )
    talk = session(engine, tokenizer)
    said = []
    for turn in (talk.open, lambda: talk.say("cold"), lambda: talk.say("nice")):
        events = list(turn())
        said.append("".join(event.text for event in events if isinstance(event, TextDelta)))
    assert said == ["Hi", "Fix", "Well"]
    talk.reset()
    (shown,) = [event for event in talk.open() if isinstance(event, StateShown)]
    assert shown.line == ASKED


def test_a_line_that_the_budget_cuts_is_reported_and_the_last_legal_one_counts(
    tokenizer: ChatTokenizer,
) -> None:
    endless = "say cold > fix it | cold | " + "x" * 90
    engine = Wishful(tokenizer, [OPENING], [endless], ["stop > ask | ? | ?\n"])
    talk = session(engine, tokenizer, max_reply_tokens=50)
    list(talk.open())
    cut = [event for event in talk.say("cold") if isinstance(event, StateShown)]
    assert [event.line for event in cut] == [
        parse("say cold > fix it | cold | " + "x" * 23, GRAPH.slot_names)
    ]
    (shown,) = [event for event in talk.say("stop") if isinstance(event, StateShown)]
    assert shown.line == StateLine(("stop",), *(ASKED.node, ASKED.slots))


def test_without_a_table_or_a_state_line_nothing_is_chosen(tokenizer: ChatTokenizer) -> None:
    engine = Wishful(tokenizer, ["x"], ["y"])
    list(session(engine, tokenizer, table=None).open())
    list(session(engine, tokenizer, recipe="plain").open())
    assert engine.chosen == [None, None]


def test_an_illegal_line_leaves_the_conversation_where_it_stood() -> None:
    assert position(GRAPH, None, None) == ASKED
    assert position(GRAPH, ASKED, FIXING) == FIXING
    assert position(GRAPH, FIXING, ASKED) == FIXING
    assert position(GRAPH, FIXING, None) == FIXING

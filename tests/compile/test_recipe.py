"""Recipes: what is learnt, and that training reads the very tokens that the runtime feeds."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from subterra.compile.dialogue import Dialogue
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import RECIPES, Encoded, Kind, Recipe, Weights, assistant_text, encode
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank
from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.engine import Choose, Slots
from subterra.runtime.session import Session


@pytest.fixture
def sample(kettle: Procedure, kettle_bank: UserBank) -> list[Dialogue]:
    return [*islice(dialogues(kettle, kettle_bank, 0), 8)]


def spans(encoded: Encoded, kind: Kind) -> list[list[int]]:
    """List the runs of tokens of this kind."""
    found: list[list[int]] = []
    before: Kind | None = None
    for token, found_kind in zip(encoded.ids, encoded.kinds, strict=True):
        if found_kind == kind:
            if before != kind:
                found.append([])
            found[-1].append(token)
        before = found_kind
    return found


def test_the_traced_text_opens_with_the_state_line(
    sample: list[Dialogue], kettle: Procedure
) -> None:
    opening = sample[0].turns[0]
    assert assistant_text(opening, "traced", kettle.slot_names) == (
        "start > hello | ? | ?\nLeak or cold, and who?"
    )
    assert assistant_text(opening, "plain", kettle.slot_names) == "Leak or cold, and who?"


def test_state_are_the_state_lines_alone(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure
) -> None:
    for dialogue in sample:
        encoded = encode(dialogue, tokenizer, "traced", kettle.slot_names)
        lines = [tokenizer.decode(span) for span in spans(encoded, Kind.STATE)]
        texts = [assistant_text(t, "traced", kettle.slot_names) for t in dialogue.turns]
        assert lines == [text.partition("\n")[0] + "\n" for text in texts]


def test_reply_are_the_replies_with_their_end_of_turn(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure
) -> None:
    for dialogue in sample:
        encoded = encode(dialogue, tokenizer, "traced", kettle.slot_names)
        learnt = spans(encoded, Kind.REPLY)
        assert [tokenizer.decode(span) for span in learnt] == [t.reply for t in dialogue.turns]
        assert all(span[-1] == tokenizer.end_of_turn_id for span in learnt)


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_of_the_system_or_the_user_is_learnt(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure, recipe: Recipe
) -> None:
    for dialogue in sample:
        encoded = encode(dialogue, tokenizer, recipe, kettle.slot_names)
        learnt = [i for i, kind in zip(encoded.ids, encoded.kinds, strict=True) if kind]
        texts = [assistant_text(t, recipe, kettle.slot_names) for t in dialogue.turns]
        assert tokenizer.decode(learnt) == "".join(texts)
        assert len(encoded.ids) == len(encoded.kinds)


def test_a_plain_dialogue_has_no_state_to_learn(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure
) -> None:
    encoded = encode(sample[0], tokenizer, "plain", kettle.slot_names)
    assert set(encoded.kinds) == {Kind.READ, Kind.REPLY}


def test_a_token_across_the_border_belongs_to_the_state_line(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure
) -> None:
    class Joining:
        """Ends the state line in the middle of a token of three bytes."""

        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer, name)

        def encode_text(self, text: str) -> list[int]:
            border = len(text.partition("\n")[0]) + 2
            return [border, len(text.encode()) - border]

        def token_bytes(self, token: int) -> bytes:
            return b"x" * token

    opening = Dialogue((), sample[0].turns[:1])
    joined: ChatTokenizer = Joining()  # type: ignore[assignment]
    encoded = encode(opening, joined, "traced", kettle.slot_names)
    assert [kind for kind in encoded.kinds if kind] == [Kind.STATE, Kind.REPLY, Kind.REPLY]


def test_a_choice_between_facts_is_marked_in_the_reply_alone(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure
) -> None:
    encoded = encode(
        sample[0], tokenizer, "traced", kettle.slot_names, lambda reply: [True] * len(reply)
    )
    chosen = [tokenizer.decode(span) for span in spans(encoded, Kind.CHOICE)]
    assert chosen == [turn.reply for turn in sample[0].turns]
    assert spans(encoded, Kind.STATE) == spans(
        encode(sample[0], tokenizer, "traced", kettle.slot_names), Kind.STATE
    )


def test_every_kind_has_its_weight() -> None:
    weights = Weights(state=4.0, choice=3.0, reply=2.0).by_kind()
    assert [weights[kind] for kind in (Kind.READ, Kind.REPLY, Kind.CHOICE, Kind.STATE)] == [
        0.0,
        2.0,
        3.0,
        4.0,
    ]


class Recited:
    """An engine that says given replies and keeps every prompt."""

    name = "recited"
    context_tokens = 1 << 20

    def __init__(self, replies: list[list[int]], vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.prompts: list[list[int]] = []
        self._replies = iter(replies)

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        self.prompts.append(list(tokens))
        return iter(next(self._replies))

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        raise NotImplementedError

    def slots(self, count: int) -> Slots:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_session_feeds_the_tokens_that_training_read(
    sample: list[Dialogue], tokenizer: ChatTokenizer, kettle: Procedure, recipe: Recipe
) -> None:
    for dialogue in sample:
        encoded = encode(dialogue, tokenizer, recipe, kettle.slot_names)
        texts = [assistant_text(turn, recipe, kettle.slot_names) for turn in dialogue.turns]
        replies = [tokenizer.encode_text(text) for text in texts]
        engine = Recited(replies, tokenizer.vocab_size)
        session = Session(
            engine,
            tokenizer,
            tokenizer.chat,
            recipe=recipe,
            slot_names=kettle.slot_names,
            max_reply_tokens=1000,
        )
        for turn in dialogue.turns:
            list(session.open() if turn.user is None else session.say(turn.user))
        assert session.tokens == list(encoded.ids)
        for prompt in engine.prompts:
            assert encoded.ids[: len(prompt)] == tuple(prompt)
            assert encoded.kinds[len(prompt)] != Kind.READ

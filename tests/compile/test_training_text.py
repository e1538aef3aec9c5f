"""Training text is shown exactly, and what is learnt is marked by its kind."""

from itertools import islice, pairwise

from subterra.compile.choice_tokens import choice_tokens
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import Encoded, Kind, encode
from subterra.compile.teacher_bank import dialogues
from subterra.compile.training_text import Span, marked, spans
from subterra.compile.user_bank import UserBank
from subterra.runtime.chatml import ChatTokenizer


def test_the_spans_join_to_the_exact_text(
    kettle: Procedure, kettle_bank: UserBank, tokenizer: ChatTokenizer
) -> None:
    choices = choice_tokens(kettle, tokenizer)
    for dialogue in islice(dialogues(kettle, kettle_bank, 0), 10):
        encoded = encode(dialogue, tokenizer, "traced", kettle.slot_names, choices)
        cut = list(spans(encoded, tokenizer))
        text = "".join(span.text for span in cut)
        assert text.startswith(f"<|im_start|>system\n{kettle.system}<|im_end|>\n<|im_start|>")
        assert text.count("<|im_end|>") == 1 + 2 * len(dialogue.turns) - 1
        said = "".join(t for t in text.split("<|im_end|>") if t)
        assert all(turn.reply in said for turn in dialogue.turns)
        assert all(before.kind != after.kind for before, after in pairwise(cut))
        states = [span.text for span in cut if span.kind == Kind.STATE]
        assert states[0] == "start > hello | ? | ?\n"
        assert len(states) == len(dialogue.turns)


def test_a_character_over_two_tokens_stays_whole(tokenizer: ChatTokenizer) -> None:
    ids = tokenizer.encode_text("aé")  # the tiny tokenizer has a token for each byte
    assert len(ids) == 3
    encoded = Encoded(tuple(ids), (Kind.REPLY, Kind.REPLY, Kind.CHOICE))
    assert list(spans(encoded, tokenizer)) == [Span(Kind.REPLY, "a"), Span(Kind.CHOICE, "é")]


def test_marks_stand_round_what_is_learnt() -> None:
    cut = [("read", "<|im_start|>assistant\n"), ("state", "s\n"), ("reply", "Hi.<|im_end|>")]
    assert marked(cut) == "<|im_start|>assistant\n⟦state:s\n⟧⟦reply:Hi.<|im_end|>⟧"

"""What a teacher is asked for, and how its reply is read."""

import pytest

from subterra.compile.procedure import Procedure
from subterra.compile.teacher_prompt import VOICES, list_items, request
from subterra.compile.user_bank import UserBank


def asked(procedure: Procedure, bank: UserBank, intent: str, voice: str = "terse") -> str:
    own = bank.wordings(intent)
    return request(procedure, intent, own, own[:2], voice, 7)


def test_a_request_names_meaning_questions_samples_rivals_and_voice(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    text = asked(kettle, kettle_bank, "works", "annoyed")
    for words in (
        "Kettle help",
        "must mean: it helped.",
        "- Did the first step help?",
        "- it works",
        "- it did not help",
        f"annoyed: {VOICES['annoyed']}",
        "Write 7 new messages",
    ):
        assert words in text


def test_a_request_shows_no_fact_and_no_node(kettle: Procedure, kettle_bank: UserBank) -> None:
    for intent in kettle.intent_names():
        text = asked(kettle, kettle_bank, intent)
        assert not [node.name for node in kettle.nodes if f"{node.name}:" in text]
        for node in kettle.nodes:
            assert not [fact.text for fact in node.facts if fact.text in text]


def test_the_placeholders_of_the_own_wordings_are_the_rule(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    assert "may hold a placeholder" in asked(kettle, kettle_bank, "say_leak")
    assert "{owner} (who asks)" in asked(kettle, kettle_bank, "say_leak")
    assert "must hold a placeholder" in asked(kettle, kettle_bank, "give_owner")
    assert "placeholder" not in asked(kettle, kettle_bank, "works")


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. one\n2) two\n3: three", ["one", "two", "three"]),
        ("- one\n* two\n• three", ["one", "two", "three"]),
        ("1. \"one\"\n2. “two”\n3. **'three'**", ["one", "two", "three"]),
        ("Sure!\n\n1. one\n\nAnything else?", [None, "one", None]),
        ('1.   one   two  \n2.\n3. ""', ["one two", "", ""]),
        ("<think>1. no\n2. no</think>1. yes", ["yes"]),
        ("<think>1. no", []),
        ("", []),
        ("plain words", [None]),
        ("1. it's 'quoted' here", ["it's 'quoted' here"]),
    ],
)
def test_a_reply_is_read_line_by_line(text: str, items: list[str | None]) -> None:
    assert list_items(text) == items


def test_the_last_line_of_a_cut_reply_is_dropped() -> None:
    assert list_items("1. one\n2. tw", cut=True) == ["one"]
    assert list_items("1. on", cut=True) == []

"""Where intents may be said."""

from subterra.compile.intent_places import MAX_QUESTIONS, about, questions, rivals
from subterra.compile.procedure import Procedure
from subterra.compile.user_bank import UserBank


def test_an_intent_is_said_after_the_nodes_that_lead_to_its_hub(kettle: Procedure) -> None:
    assert questions(kettle, "say_leak") == ("So?", "Leak or cold?")
    assert questions(kettle, "works")[0] == "Did the first step help?"


def test_a_question_holds_no_fact(kettle: Procedure) -> None:
    asked = questions(kettle, "fails")
    assert asked == ("Did the first step help?", "Second. Now?")


def test_an_aside_may_be_said_anywhere(kettle: Procedure, zoom: Procedure) -> None:
    assert questions(kettle, "chat") == (
        "So?",
        "Leak or cold?",
        "Did the first step help?",
        "Second. Now?",
    )
    assert len(questions(zoom, "small_talk")) <= MAX_QUESTIONS


def test_rivals_are_the_keys_with_another_meaning_at_the_same_hub(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    near = rivals(kettle, "works", kettle_bank.intents)
    assert {"fails", "stop", "take_back", "chat", "once_more", "fails+stop"} == set(near)
    assert "say_cold" in rivals(kettle, "say_leak", kettle_bank.intents)


def test_each_kind_of_meaning_says_what_it_is_about(kettle: Procedure) -> None:
    assert about(kettle, "say_leak") == "it leaks"
    assert about(kettle, "take_back") == "another fault or name"
    assert about(kettle, "chat") == "chatting"

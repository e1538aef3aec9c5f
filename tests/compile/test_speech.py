"""What the agent says in a state."""

import random

from subterra.compile.policy import Message, Move, State, move, opening
from subterra.compile.procedure import Procedure
from subterra.compile.speech import every_text, reply, says_fact, texts

LEAK = {"fault": "leak", "owner": "Anna"}
COLD = {"fault": "cold", "owner": "Anna"}


def said(procedure: Procedure, step: Move) -> set[str]:
    return {reply(procedure, step, random.Random(seed)) for seed in range(40)}


def test_the_fact_of_the_state_stands_in_every_wording(kettle: Procedure) -> None:
    step = Move(State("mend", COLD))
    assert said(kettle, step) == {
        "First. Press the fuse. Better?",
        "Well. Press the fuse. Good?",
    }


def test_the_wording_follows_the_slots(kettle: Procedure) -> None:
    assert said(kettle, Move(State("ask", {"fault": None, "owner": None}))) == {"Leak or cold?"}
    assert said(kettle, Move(State("ask", {"fault": "leak", "owner": None}))) == {"Your name?"}


def test_after_an_aside_only_the_short_question_comes_back(kettle: Procedure) -> None:
    step = move(kettle, State("mend", LEAK), Message(("chat",)))
    assert said(kettle, step) == {"Nice. Did the first step help?"}


def test_an_aside_that_repeats_brings_the_whole_text_back(kettle: Procedure) -> None:
    step = move(kettle, State("mend", LEAK), Message(("once_more",)))
    assert said(kettle, step) == {
        "Again. First. Dry the ring. Better?",
        "Again. Well. Dry the ring. Good?",
    }


def test_a_node_without_a_short_question_says_its_text_after_an_aside(kettle: Procedure) -> None:
    step = move(kettle, State("retry", LEAK), Message(("chat",)))
    assert said(kettle, step) == {"Nice. Second. Boil it empty twice. Now?"}


def test_an_aside_on_the_way_comes_before_the_next_nodes_text(kettle: Procedure) -> None:
    step = move(kettle, State("mend", LEAK), Message(("works", "chat")))
    assert said(kettle, step) == {"Nice. Solved. Bye."}


def test_a_state_that_no_block_foresees_takes_any_wording(kettle: Procedure) -> None:
    ask = kettle.node("ask")
    only_first = type(ask)("ask", "agent", say=ask.say[:1])
    assert texts(only_first, Move(State("ask", LEAK))) == ["Leak or cold?"]


def test_every_text_holds_every_wording_with_every_fact(kettle: Procedure) -> None:
    found = [text for node, text in every_text(kettle) if node == "mend"]
    assert sorted(found) == [
        "First. Dry the ring. Better?",
        "First. Press the fuse. Better?",
        "Well. Dry the ring. Good?",
        "Well. Press the fuse. Good?",
    ]


def test_a_reply_of_the_node_says_its_fact_and_one_of_another_state_does_not(
    kettle: Procedure,
) -> None:
    step = Move(State("mend", LEAK))
    assert says_fact(kettle, step, "well,  DRY the\nring. good?")
    assert not says_fact(kettle, step, "First. Press the fuse. Better?")


def test_a_node_without_facts_has_nothing_to_leave_out(kettle: Procedure) -> None:
    assert says_fact(kettle, opening(kettle), "")

"""Reading a reply: the state line tells the node, or the nearest wording does."""

import random
from itertools import islice

import pytest

from subterra.compile.node_reader import NodeReader
from subterra.compile.policy import Move, State
from subterra.compile.procedure import Procedure
from subterra.compile.score import classifier_accuracy
from subterra.compile.speech import every_text, reply
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank


def test_a_traced_reply_shows_node_slots_flags_and_intents(kettle: Procedure) -> None:
    raw = "fails + chat > retry | leak | ? | retried\nSecond. Now?"
    reading = NodeReader(kettle, "traced").read(raw)
    assert (reading.node, reading.intents) == ("retry", ("fails", "chat"))
    assert reading.slots == {"fault": "leak", "owner": None}
    assert reading.flags == {"retried"}
    assert reading.text == "Second. Now?"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "\n",
        "hello",
        "fails > nowhere | ? | ?\nHi",
        "fails > retry | ?\nHi",
        "fails > check | ? | ?",
    ],
)
def test_a_state_line_that_is_malformed_or_names_no_node_to_be_at_is_no_reading(
    kettle: Procedure, raw: str
) -> None:
    reading = NodeReader(kettle, "traced").read(raw)
    assert (reading.node, reading.slots, reading.flags) == (None, None, frozenset())


def test_every_wording_of_a_plain_agent_is_read_as_its_node(zoom: Procedure) -> None:
    reader = NodeReader(zoom, "plain")
    wrong = [(node, text) for node, text in every_text(zoom) if reader.classify(text) != node]
    assert wrong == []


def test_gold_replies_are_classified_rightly_in_more_than_99_of_100_turns(
    zoom: Procedure, zoom_bank: UserBank
) -> None:
    rate = classifier_accuracy(zoom, zoom_bank, count=60)
    assert rate.n > 250
    assert rate.value > 0.99


def test_an_aside_in_front_does_not_hide_the_node(zoom: Procedure) -> None:
    reader = NodeReader(zoom, "plain")
    state = State("deeper", {"issue": "audio", "device": "Mac"}, frozenset({"tried"}))
    for name in ("digression", "ask_repeat", "out_of_scope"):
        said = reply(zoom, Move(state, (name,), stayed=True), random.Random(0))
        assert reader.classify(said) == "deeper"


def test_a_plain_reply_that_is_like_no_wording_has_no_node(kettle: Procedure) -> None:
    reader = NodeReader(kettle, "plain")
    assert reader.read("").node is None
    assert reader.read("??? !!!").node is None
    reading = reader.read("First. Dry the ring. Better?")
    assert (reading.node, reading.slots) == ("mend", None)


def test_a_plain_reading_shows_the_whole_text(kettle: Procedure, kettle_bank: UserBank) -> None:
    reader = NodeReader(kettle, "plain")
    for dialogue in islice(dialogues(kettle, kettle_bank, 0), 5):
        assert [reader.read(t.reply).text for t in dialogue.turns] == [
            t.reply for t in dialogue.turns
        ]

"""The policy: where a message leads from a state."""

import pytest

from subterra.compile.policy import Message, State, aside, move, opening
from subterra.compile.procedure import Edge, Intent, Node, Procedure, Slot, When

LEAK = {"fault": "leak", "owner": "Anna"}
COLD = {"fault": "cold", "owner": "Anna"}
NOTHING = {"fault": None, "owner": None}


def test_the_opening_enters_the_start_with_empty_slots(kettle: Procedure) -> None:
    step = opening(kettle)
    assert step.state == State("hello", NOTHING)
    assert (step.asides, step.stayed, step.hub) == ((), False, None)


def test_an_aside_keeps_the_state_and_passes_no_hub(kettle: Procedure) -> None:
    state = State("retry", LEAK, frozenset({"retried"}))
    step = move(kettle, state, Message(("chat",)))
    assert step.state == state
    assert (step.asides, step.stayed, step.hub) == (("chat",), True, None)


def test_an_aside_beside_an_intent_is_answered_on_the_way(kettle: Procedure) -> None:
    step = move(kettle, State("mend", LEAK), Message(("works", "chat")))
    assert step.state.node == "done"
    assert (step.asides, step.stayed, step.hub) == (("chat",), False, "check")


def test_an_aside_that_names_a_new_value_moves_on(kettle: Procedure) -> None:
    state = State("ask", {"fault": "leak", "owner": None})
    step = move(kettle, state, Message(("chat",), {"owner": "Anna"}))
    assert step.state == State("ask", LEAK)  # no edge of the hub takes an aside: its default
    assert not step.stayed


def test_an_intent_fills_the_slots_that_it_implies(kettle: Procedure) -> None:
    step = move(kettle, opening(kettle).state, Message(("say_cold",)))
    assert step.state == State("ask", {"fault": "cold", "owner": None})
    assert step.hub == "sort"


def test_one_message_may_fill_several_slots(kettle: Procedure) -> None:
    said = Message(("say_cold", "give_owner"), {"owner": "Anna"})
    assert move(kettle, opening(kettle).state, said).state == State("mend", COLD)


def test_a_correction_enters_the_slots_hub_again_from_anywhere(kettle: Procedure) -> None:
    state = State("retry", LEAK, frozenset({"retried"}))
    step = move(kettle, state, Message(("take_back",), {"fault": "cold"}))
    assert step.state == State("mend", COLD)
    assert step.hub == "sort"


def test_a_changed_value_enters_its_hub_again_without_a_correction(kettle: Procedure) -> None:
    step = move(kettle, State("retry", LEAK), Message(("say_cold",)))
    assert (step.state.node, step.hub) == ("mend", "sort")


def test_a_correction_that_insists_on_the_value_enters_the_hub_again(kettle: Procedure) -> None:
    step = move(kettle, State("retry", LEAK), Message(("take_back",), {"fault": "leak"}))
    assert (step.state, step.hub) == (State("mend", LEAK), "sort")


def test_a_first_value_does_not_leave_the_way(kettle: Procedure) -> None:
    state = State("retry", {"fault": "leak", "owner": None})
    step = move(kettle, state, Message(("give_owner",), {"owner": "Anna"}))
    assert step.hub == "check"


def test_the_overwritten_slots_hub_decides_even_if_another_slot_is_filled_as_well() -> None:
    hubs = [Node(n, "hub", edges=(Edge(f"at_{n}", ""),), default="end") for n in ("one", "two")]
    agents = [Node("at_one", "agent", next="one"), Node("at_two", "agent", next="two")]
    slots = (Slot("first", "", ("a",), "one"), Slot("second", "", ("b", "c"), "two"))
    nodes = (*agents, *hubs, Node("end", "terminal"))
    intents = (Intent("tell", ""),)
    procedure = Procedure("p", "P", "S", "at_one", slots, (), intents, (), (), nodes)
    state = State("at_one", {"first": None, "second": "b"})
    step = move(procedure, state, Message(("tell",), {"first": "a", "second": "c"}))
    assert step.hub == "two"


def test_entering_a_node_sets_and_clears_its_flags(kettle: Procedure) -> None:
    tried = move(kettle, State("mend", LEAK), Message(("fails",))).state
    assert (tried.node, tried.flags) == ("retry", frozenset({"retried"}))
    again = move(kettle, tried, Message(("take_back",), {"fault": "cold"})).state
    assert (again.node, again.flags) == ("mend", frozenset())


def test_a_flag_decides_between_edges_of_one_intent(kettle: Procedure) -> None:
    first = move(kettle, State("mend", LEAK), Message(("fails",)))
    second = move(kettle, first.state, Message(("fails",)))
    assert [first.state.node, second.state.node] == ["retry", "gone"]


@pytest.mark.parametrize("intents", [("fails", "stop"), ("stop", "fails")])
def test_of_two_intents_the_edge_written_first_wins(
    kettle: Procedure, intents: tuple[str, ...]
) -> None:
    assert move(kettle, State("mend", LEAK), Message(intents)).state.node == "gone"


def test_a_message_that_no_edge_takes_falls_to_the_default(kettle: Procedure) -> None:
    assert move(kettle, State("mend", LEAK), Message(("give_owner",))).state.node == "retry"


def test_tests_on_slots_stand_beside_intents() -> None:
    edges = (
        Edge("yes", "", ("tell",), When((("colour", "red"),))),
        Edge("no", "", ("tell",), When((("colour", None),))),
    )
    nodes = (
        Node("ask", "agent", next="hub"),
        Node("hub", "hub", edges=edges, default="ask"),
        Node("yes", "terminal"),
        Node("no", "terminal"),
    )
    slots = (Slot("colour", "", ("red", "blue"), "hub"),)
    procedure = Procedure("p", "P", "S", "ask", slots, (), (Intent("tell", ""),), (), (), nodes)
    start = opening(procedure).state
    targets = {
        value: move(procedure, start, Message(("tell",), {"colour": value})).state.node
        for value in ("red", "blue")
    }
    assert targets == {"red": "yes", "blue": "ask"}
    assert move(procedure, start, Message(("tell",))).state.node == "no"


def test_an_aside_is_found_by_its_name(kettle: Procedure) -> None:
    assert aside(kettle, "once_more").repeats
    with pytest.raises(KeyError):
        aside(kettle, "never")


def test_a_request_for_a_person_wins_over_what_went_wrong_in_the_example(zoom: Procedure) -> None:
    state = State("fix_audio", {"issue": "audio", "device": "Mac"})
    assert move(zoom, state, Message(("not_fixed", "want_human"))).state.node == "escalated"


def test_taking_back_the_device_repeats_the_fix_of_the_example(zoom: Procedure) -> None:
    state = State("deeper", {"issue": "audio", "device": "Mac"}, frozenset({"tried"}))
    step = move(zoom, state, Message(("correction",), {"device": "iOS"}))
    assert step.state == State("fix_audio", {"issue": "audio", "device": "iOS"})

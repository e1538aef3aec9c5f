"""Every edge is counted as the policy takes it."""

from itertools import islice

from subterra.compile.dialogue import Dialogue, Turn
from subterra.compile.edge_counts import EdgeCounts
from subterra.compile.procedure import Procedure
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank


def counts(procedure: Procedure, *found: Dialogue) -> dict[str, int]:
    edges = EdgeCounts(procedure)
    for dialogue in found:
        edges.add(dialogue)
    return {str(way): count for way, count in edges.items()}


def turn(intents: str, node: str, fault: str | None, owner: str | None, *flags: str) -> Turn:
    return Turn("", tuple(intents.split("+")), node, {"fault": fault, "owner": owner}, flags, "")


def test_every_edge_of_the_procedure_is_there_and_zero_at_first(kettle: Procedure) -> None:
    found = counts(kettle)
    assert found["hello -> sort (next)"] == found["check -> retry (default)"] == 0
    assert len(found) == 4 + 5 + 5
    assert set(found.values()) == {0}


def test_a_dialogue_is_counted_edge_by_edge(kettle: Procedure) -> None:
    found = counts(
        kettle,
        Dialogue(
            (),
            (
                turn("start", "hello", None, None),
                turn("chat", "hello", None, None),
                turn("say_leak", "ask", "leak", None),
                turn("give_owner", "mend", "leak", "Anna"),
                turn("fails", "retry", "leak", "Anna", "retried"),
                turn("fails", "gone", "leak", "Anna", "retried"),
            ),
        ),
    )
    assert {way: count for way, count in found.items() if count} == {
        "hello -> sort (next)": 1,
        "sort -> ask (no name yet)": 1,
        "ask -> sort (next)": 1,
        "sort -> mend (all is known)": 1,
        "mend -> check (next)": 1,
        "check -> retry (not yet)": 1,
        "retry -> check (next)": 1,
        "check -> gone (not again)": 1,
    }


def test_a_correction_is_counted_at_the_hub_that_it_enters_again(kettle: Procedure) -> None:
    changed, insisted = (
        counts(
            kettle,
            Dialogue(
                (),
                (
                    turn("fails", "retry", "leak", "Anna", "retried"),
                    turn("take_back", "mend", "leak", owner),
                ),
            ),
        )
        for owner in ("Ben", "Anna")
    )
    assert changed == insisted
    assert {way for way, count in changed.items() if count} == {"sort -> mend (all is known)"}


def test_as_many_edges_leave_hubs_as_there_are_decisions(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    """Nothing is lost: without corrections, each decision leaves an agent node and a hub."""
    found = list(islice(dialogues(kettle, kettle_bank, 0), 200))
    taken = counts(kettle, *found)
    assert taken["check -> retry (not yet)"] > 0
    ends = sum(count for way, count in taken.items() if "-> gone" in way or "-> done" in way)
    assert ends == len(found)

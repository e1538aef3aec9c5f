"""What a path takes for granted: tests on slots and flags bind what may follow."""

from pathlib import Path

import pytest

from subterra.compile.assumptions import START, Assumed, followers
from subterra.compile.paths import acyclic_paths, count_paths
from subterra.compile.procedure import Edge, Intent, Node, Procedure, When
from subterra.compile.validation import load_procedure

EXAMPLES = Path(__file__).parents[2] / "examples"


def graph(*nodes: Node) -> Procedure:
    intents = (Intent("yes", ""), Intent("no", ""))
    return Procedure("g", "G", "S", nodes[0].name, (), (), intents, (), (), nodes)


def agent(name: str, following: str = "h", sets: tuple[str, ...] = ()) -> Node:
    return Node(name, "agent", next=following, sets=sets)


def is_(**slots: str | None) -> When:
    return When(slots=tuple(slots.items()))


END = Node("end", "terminal")


def test_a_path_keeps_the_value_it_settled() -> None:
    edges = tuple(Edge(f"{v}{i}", "", (), is_(kind=v)) for v in ("x", "y") for i in (1, 2))
    names = [edge.to for edge in edges]
    nodes = [agent(name, "h") for name in names]
    procedure = graph(agent("a"), Node("h", "hub", edges=(*edges, Edge("end", ""))), *nodes, END)
    for path in acyclic_paths(procedure):
        assert len({name[0] for name in path if name in names}) <= 1
    assert count_paths(procedure).value == len(list(acyclic_paths(procedure))) == 9


def test_an_empty_slot_is_not_asked_for_after_its_value_was_tested() -> None:
    hub = Node(
        "h", "hub", edges=(Edge("b", "", (), is_(kind="x")), Edge("ask", "", (), is_(kind=None)))
    )
    procedure = graph(agent("a"), hub, agent("b"), agent("ask"), END)
    assert set(followers(procedure, "h", START)) == {"b", "ask"}
    settled = frozenset({Assumed((("kind", "x"),))})
    assert set(followers(procedure, "h", settled)) == {"b"}


def test_flags_that_nodes_set_open_and_close_edges() -> None:
    hub = Node(
        "h",
        "hub",
        edges=(
            Edge("b", "", ("no",), When(flags=(("tried", False),))),
            Edge("end", "", ("no",), When(flags=(("tried", True),))),
        ),
    )
    procedure = graph(agent("a"), hub, agent("b", sets=("tried",)), END)
    assert list(acyclic_paths(procedure)) == [("a", "h", "b", "h", "end")]


@pytest.mark.parametrize(("sure", "ways"), [(True, {"end"}), (False, {"end", "b"})])
def test_a_default_counts_only_where_some_meaning_may_meet_no_edge(
    sure: bool, ways: set[str]
) -> None:
    when = When() if sure else is_(kind="x")
    hub = Node("h", "hub", edges=(Edge("end", "", ("yes",), when),), default="b")
    procedure = graph(agent("a"), hub, agent("b"), END)
    assert set(followers(procedure, "h", START)) == ways


def test_no_path_of_the_claims_desk_mixes_lines_of_business() -> None:
    lines = ("auto", "home", "health", "life")
    procedure = load_procedure(EXAMPLES / "insurance_claims")
    paths = list(acyclic_paths(procedure))
    assert len(set(paths)) == len(paths) == count_paths(procedure).value == 3588
    for path in paths:
        assert len({name.split("_")[0] for name in path} & set(lines)) <= 1

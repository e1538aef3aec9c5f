"""Acyclic paths: what counts as one, and that counting does not need listing."""

from itertools import islice
from pathlib import Path

from subterra.compile.paths import PathCount, acyclic_paths, count_paths
from subterra.compile.procedure import Edge, Node, Procedure
from subterra.compile.validation import load_procedure

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoom_support"


def graph(*nodes: Node) -> Procedure:
    return Procedure("g", "G", "S", nodes[0].name, (), (), (), (), (), nodes)


def agent(name: str, following: str) -> Node:
    return Node(name, "agent", next=following)


def hub(name: str, *targets: str) -> Node:
    return Node(name, "hub", edges=tuple(Edge(target, "") for target in targets))


END = Node("end", "terminal")


def test_the_example_has_68_paths() -> None:
    procedure = load_procedure(EXAMPLE)
    paths = list(acyclic_paths(procedure))
    assert len(set(paths)) == len(paths) == 68
    assert count_paths(procedure) == PathCount(68, exact=True)
    for path in paths:
        assert path[0] == "welcome"
        assert procedure.node(path[-1]).kind == "terminal"


def test_a_hub_may_be_passed_again_but_an_agent_node_may_not() -> None:
    procedure = graph(agent("a", "h"), hub("h", "b", "end"), agent("b", "h"), END)
    assert list(acyclic_paths(procedure)) == [("a", "h", "b", "h", "end"), ("a", "h", "end")]


def test_two_edges_to_one_node_are_one_path() -> None:
    procedure = graph(agent("a", "h"), hub("h", "end", "end"), END)
    assert count_paths(procedure) == PathCount(1, exact=True)


def test_hubs_that_lead_to_each_other_do_not_hang() -> None:
    procedure = graph(agent("a", "h"), hub("h", "i", "end"), hub("i", "h", "end"), END)
    paths = list(acyclic_paths(procedure))
    assert paths == [("a", "h", "i", "end"), ("a", "h", "end")]
    assert count_paths(procedure).value == 2


def test_a_procedure_without_a_way_to_the_end_has_no_path() -> None:
    procedure = graph(agent("a", "h"), hub("h", "a"), END)
    assert list(acyclic_paths(procedure)) == []
    assert count_paths(procedure) == PathCount(0, exact=True)


def test_counting_agrees_with_listing_on_a_tangled_graph() -> None:
    names = ["a", "b", "c", "d", "e"]
    nodes = [agent(name, f"h_{name}") for name in names]
    nodes += [hub(f"h_{n}", *[m for m in names if m != n], "end") for n in names]
    procedure = graph(*nodes, END)
    assert count_paths(procedure).value == len(list(acyclic_paths(procedure))) == 65


def test_a_chain_of_choices_is_counted_without_listing() -> None:
    nodes: list[Node] = []
    for i in range(200):
        following = f"h{i + 1}" if i < 199 else "z"
        nodes += [hub(f"h{i}", f"a{i}", f"b{i}")]
        nodes += [agent(f"a{i}", following), agent(f"b{i}", following)]
    procedure = graph(agent("s", "h0"), *nodes, hub("z", "end"), END)
    assert count_paths(procedure) == PathCount(2**200, exact=True)
    assert len(list(islice(acyclic_paths(procedure), 5))) == 5


def test_past_the_limit_the_count_is_a_lower_bound() -> None:
    names = [f"a{i}" for i in range(9)]
    nodes = [agent(name, "h") for name in names]
    procedure = graph(agent("s", "h"), hub("h", *names, "end"), *nodes, END)
    exact = count_paths(procedure)
    bound = count_paths(procedure, max_steps=100)
    assert exact.exact
    assert not bound.exact
    assert 0 < bound.value < exact.value
    assert str(bound) == f">= {bound.value}"

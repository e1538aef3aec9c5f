"""How the nodes hang together: reachability, dead ends, and parts that nothing uses.

Goes in: a procedure and its document. Comes out: problems. A mistyped target counts as the node
that was probably meant, so that one slip does not make the rest of the graph look unreachable.

    >>> list(graph_problems(procedure, document))
    []
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from subterra.compile.procedure import Edge, Procedure
from subterra.compile.yaml_source import Document, Problem, near

Graph = Mapping[str, tuple[str, ...]]
"""Node name -> names of the nodes it leads to."""


def graph_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    """Yield problems of the graph as a whole."""
    if not procedure.nodes:
        return
    graph = _graph(procedure)
    yield from _reachability_problems(procedure, document, graph)
    yield from _exit_problems(procedure, document, graph)
    yield from _slot_and_flag_problems(procedure, document)
    yield from _intent_problems(procedure, document)
    yield from _shadow_problems(procedure, document)


def _graph(procedure: Procedure) -> Graph:
    names = [node.name for node in procedure.nodes]
    return {
        node.name: tuple(_meant(target, names) for target in node.targets())
        for node in procedure.nodes
    }


def _meant(target: str, names: Sequence[str]) -> str:
    return target if target in names else near(target, names) or target


def _reachability_problems(
    procedure: Procedure, document: Document, graph: Graph
) -> Iterator[Problem]:
    start = _meant(procedure.start, list(graph))
    if start not in graph:
        return
    entered = {slot.decided_at for slot in procedure.slots}
    reached = _closure([start, *entered], graph)
    for node in procedure.nodes:
        if node.name not in reached:
            words = f"node '{node.name}' cannot be reached from '{procedure.start}'"
            yield document.problem(("nodes", node.name), words, key=True)


def _exit_problems(procedure: Procedure, document: Document, graph: Graph) -> Iterator[Problem]:
    ends = [node.name for node in procedure.of_kind("terminal")]
    if not ends:
        words = "the procedure has no terminal; add a node with 'kind: terminal'"
        yield document.problem(("nodes",), words, key=True)
        return
    into: dict[str, tuple[str, ...]] = {}
    for name, targets in graph.items():
        for target in targets:
            into[target] = (*into.get(target, ()), name)
    leaving = _closure(ends, into)
    trapped = [n.name for n in procedure.nodes if n.name not in leaving and n.targets()]
    while trapped:
        group = [name for name in trapped if name in _closure([trapped[0]], graph)]
        names = ", ".join(f"'{name}'" for name in group)
        words = f"cycle without exit: from {names} no terminal can be reached"
        yield document.problem(("nodes", trapped[0]), words, key=True)
        trapped = [name for name in trapped if name not in group]


def _closure(starts: Iterable[str], graph: Graph) -> set[str]:
    reached = set(starts)
    waiting = list(reached)
    while waiting:
        new = [name for name in graph.get(waiting.pop(), ()) if name not in reached]
        reached.update(new)
        waiting += new
    return reached


def _slot_and_flag_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    asked = _named(procedure.slot_names, (node.asks for node in procedure.nodes))
    for name in procedure.slot_names:
        if name not in asked:
            words = f"slot '{name}' is never asked; name it in a node's 'asks'"
            yield document.problem(("slots", name), words, key=True)
    set_by_nodes = _named(procedure.flags, (node.sets for node in procedure.nodes))
    edges = [edge for node in procedure.nodes for edge in node.edges]
    tested = _named(procedure.flags, (tuple(dict(edge.when.flags)) for edge in edges))
    for name in procedure.flags:
        lacks = [
            word for word, has in (("set", set_by_nodes), ("tested", tested)) if name not in has
        ]
        if lacks:
            words = f"flag '{name}' is never {' and never '.join(lacks)}"
            yield document.problem(("flags", name), words, key=True)


def _intent_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    edges = [edge for node in procedure.nodes for edge in node.edges]
    known = [intent.name for intent in (*procedure.intents, *procedure.corrections)]
    used = _named(known, (edge.intents for edge in edges))
    for intent in procedure.intents:
        if intent.name not in used:
            words = f"intent '{intent.name}' is used by no edge"
            yield document.problem(("intents", intent.name), words, key=True)
    for intent in procedure.corrections:
        for name in dict.fromkeys(slot.decided_at for slot in procedure.slots):
            if _falls_through(procedure, name, intent.name):
                words = (
                    f"correction '{intent.name}' is taken by no edge of '{name}', so a changed"
                    " value falls to its default; name it where the value decides"
                )
                yield document.problem(("corrections", intent.name), words, key=True)


def _named(known: Sequence[str], mentions: Iterable[tuple[str, ...]]) -> set[str]:
    """Gather the names mentioned; a mistyped one counts as the one that was probably meant."""
    return {_meant(name, known) for names in mentions for name in names}


def _falls_through(procedure: Procedure, hub: str, correction: str) -> bool:
    """Tell whether a hub decides on slot values only together with intents other than this."""
    edges = [edge for node in procedure.nodes if node.name == hub for edge in node.edges]
    decisive = [edge for edge in edges if any(value is not None for _, value in edge.when.slots)]
    return bool(decisive) and not any(
        not edge.intents or correction in edge.intents for edge in decisive
    )


def _shadow_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    for node in procedure.nodes:
        for index, edge in enumerate(node.edges):
            before = [i for i, other in enumerate(node.edges[:index]) if _covers(other, edge)]
            if before:
                words = (
                    f"this edge to '{edge.to}' is never taken; edge {before[0] + 1}"
                    f" to '{node.edges[before[0]].to}' holds wherever it would"
                )
                yield document.problem(("nodes", node.name, "edges", index), words)


def _covers(first: Edge, second: Edge) -> bool:
    """Tell whether `first` holds wherever `second` does."""
    meant = not first.intents or (
        bool(second.intents) and set(second.intents) <= set(first.intents)
    )
    slots = set(first.when.slots) <= set(second.when.slots)
    return meant and slots and set(first.when.flags) <= set(second.when.flags)

"""From a plain document to the frozen `Procedure`.

Goes in: mappings and lists as YAML gives them, checked by the schema or pruned until they fit.
Comes out: the objects. Runs of white space in texts become one space. Does not check anything.

    >>> build_procedure({"name": "demo", "start": "hello", "nodes": {...}}).start
    'hello'
"""

from collections.abc import Mapping
from typing import Any, cast

from subterra.compile.procedure import (
    Aside,
    Edge,
    Fact,
    Intent,
    Node,
    NodeKind,
    Procedure,
    Slot,
    When,
    Wording,
)

Plain = Mapping[str, Any]
"""A mapping whose shape the schema has settled."""


def build_procedure(document: Plain) -> Procedure:
    """Build the procedure; keys that are missing become empty."""
    return Procedure(
        name=document.get("name", ""),
        title=line(document.get("title", "")),
        system=line(document.get("system", "")),
        start=document.get("start", ""),
        slots=tuple(_slot(n, s) for n, s in document.get("slots", {}).items()),
        flags=tuple(document.get("flags", {})),
        intents=tuple(_intent(n, i) for n, i in document.get("intents", {}).items()),
        corrections=tuple(_intent(n, i) for n, i in document.get("corrections", {}).items()),
        asides=tuple(_aside(n, a) for n, a in document.get("asides", {}).items()),
        nodes=tuple(_node(n, d) for n, d in document.get("nodes", {}).items()),
    )


def line(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def _slot(name: str, slot: Plain) -> Slot:
    about = line(slot.get("about", ""))
    return Slot(name, about, tuple(slot.get("values", ())), slot.get("decided_at", ""))


def _intent(name: str, intent: Plain) -> Intent:
    about = line(intent.get("about", ""))
    return Intent(name, about, tuple(intent.get("sets", {}).items()), intent.get("act"))


def _aside(name: str, aside: Plain) -> Aside:
    say = tuple(line(text) for text in aside.get("say", ()))
    repeats = aside.get("repeats", False)
    return Aside(name, line(aside.get("about", "")), say, repeats, aside.get("act"))


def _node(name: str, node: Plain) -> Node:
    return Node(
        name=name,
        kind=cast(NodeKind, node.get("kind", "")),
        about=line(node.get("about", "")),
        say=_wordings(node.get("say", ())),
        again=tuple(line(text) for text in node.get("again", ())),
        facts=tuple(_fact(fact) for fact in node.get("facts", ())),
        asks=tuple(node.get("asks", ())),
        mandatory=node.get("mandatory", False),
        sets=tuple(node.get("sets", ())),
        clears=tuple(node.get("clears", ())),
        next=node.get("next"),
        edges=tuple(_edge(edge) for edge in node.get("edges", ())),
        default=node.get("default"),
        outcome=node.get("outcome"),
    )


def _wordings(say: list[Any]) -> tuple[Wording, ...]:
    """Gather bare texts into one block that always holds, placed where the first of them stood."""
    blocks: list[Wording] = []
    bare = tuple(line(item) for item in say if isinstance(item, str))
    for item in say:
        if not isinstance(item, str):
            texts = tuple(line(text) for text in item.get("text", ()))
            blocks.append(Wording(_slot_tests(item.get("when")), texts))
        elif bare:
            blocks.append(Wording(When(), bare))
            bare = ()
    return tuple(blocks)


def _fact(fact: Any) -> Fact:
    if isinstance(fact, str):
        return Fact(When(), line(fact))
    return Fact(_slot_tests(fact.get("when")), line(fact.get("text", "")))


def _edge(edge: Plain) -> Edge:
    tests = When(tuple(edge.get("slots", {}).items()), tuple(edge.get("flags", {}).items()))
    intents = tuple(edge.get("intents", ()))
    return Edge(edge.get("to", ""), line(edge.get("condition", "")), intents, tests)


def _slot_tests(tests: Plain | None) -> When:
    return When(tuple((tests or {}).items()))

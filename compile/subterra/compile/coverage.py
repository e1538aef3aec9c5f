"""In which states a node is entered, and whether it has a fact and a wording for each.

Goes in: a procedure and its document. Comes out: problems. For each node, only the slots that its
own tests name are followed (abstract interpretation over the projected state): a test on anything
else may hold or not. So no state is missed; a state may be reported that never comes, where a test
on another slot rules it out.

    >>> list(coverage_problems(procedure, document))
    []
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from subterra.compile.procedure import Node, Procedure, When
from subterra.compile.yaml_source import Document, Problem

MAX_STATES = 2000
"""States followed for one node; a node whose tests span more is not examined."""
OTHER = "any other value"
"""Stands for the values of an open slot that no test names."""

Held = tuple[str | None, ...]
"""The values of the followed slots."""


@dataclass(frozen=True, slots=True)
class _Followed:
    """The slots that are followed, and the values each may take."""

    names: tuple[str, ...]
    domains: tuple[tuple[str, ...], ...]

    def state(self, held: Held) -> dict[str, str | None]:
        return dict(zip(self.names, held, strict=True))


def coverage_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    """Yield nodes that can be entered in a state for which they have no fact or no wording."""
    for node in procedure.nodes:
        tests = [w.when for w in node.say] + [f.when for f in node.facts]
        names = {name for when in tests for name, _ in when.slots} & set(procedure.slot_names)
        followed = _followed(procedure, names)
        count = 1
        for domain in followed.domains:
            count *= len(domain) + 1
        if not names or count > MAX_STATES:
            continue
        states = [followed.state(held) for held in _entered(procedure, followed, node.name)]
        yield from _holes(node, document, states)


def _holes(
    node: Node, document: Document, states: list[dict[str, str | None]]
) -> Iterator[Problem]:
    bare = [s for s in states if not any(w.when.holds(s, frozenset()) for w in node.say)]
    if node.say and bare:
        words = f"node '{node.name}' has no wording where {_in_words(bare[0])}"
        yield document.problem(("nodes", node.name, "say"), words, key=True)
    needing = [s for s in states if any("{fact}" in text for text in node.wordings(s, frozenset()))]
    mute = [s for s in needing if node.fact(s, frozenset()) is None]
    if node.facts and mute:
        words = f"node '{node.name}' has no fact for '{{fact}}' where {_in_words(mute[0])}"
        yield document.problem(("nodes", node.name, "facts"), words, key=True)


def _in_words(state: dict[str, str | None]) -> str:
    return " and ".join(f"{name} is {value or 'empty'}" for name, value in state.items())


def _followed(procedure: Procedure, names: set[str]) -> _Followed:
    slots = [slot for slot in procedure.slots if slot.name in names]
    domains = tuple(slot.values or (*_tested(procedure, slot.name), OTHER) for slot in slots)
    return _Followed(tuple(slot.name for slot in slots), domains)


def _tested(procedure: Procedure, slot: str) -> tuple[str, ...]:
    whens = [edge.when for node in procedure.nodes for edge in node.edges]
    whens += [wording.when for node in procedure.nodes for wording in node.say]
    whens += [fact.when for node in procedure.nodes for fact in node.facts]
    found = [v for when in whens for name, v in when.slots if name == slot and v is not None]
    return tuple(dict.fromkeys(found))


def _entered(procedure: Procedure, followed: _Followed, wanted: str) -> list[Held]:
    """List the states in which `wanted` is entered, in a fixed order."""
    known = {node.name: node for node in procedure.nodes}
    first: tuple[str, Held] = (procedure.start, (None,) * len(followed.names))
    seen = {first} if procedure.start in known else set()
    waiting = list(seen)
    decisions: dict[tuple[str, Held], frozenset[str]] = {}
    while waiting:
        name, held = waiting.pop()
        for after in _answers(followed, held):
            for hub in _hubs(procedure, known[name], held, after):
                if hub not in known or known[hub].kind != "hub":
                    continue
                if (hub, after) not in decisions:
                    decisions[hub, after] = frozenset(
                        _targets(procedure, known[hub], followed, after)
                    )
                new = {(t, after) for t in decisions[hub, after] if t in known} - seen
                seen |= new
                waiting += sorted(new, key=repr)
    return sorted((held for name, held in seen if name == wanted), key=repr)


def _answers(followed: _Followed, held: Held) -> Iterator[Held]:
    """Yield what the slots may hold after a message: filled or changed, never emptied."""
    choices = [
        domain if value is not None else (None, *domain)
        for value, domain in zip(held, followed.domains, strict=True)
    ]
    yield from product(*choices)


def _hubs(procedure: Procedure, node: Node, held: Held, after: Held) -> set[str]:
    """Name the hubs that may decide: the next one, or a slot's own after a change of mind."""
    if node.kind != "agent":
        return set()
    changed = any(old is not None and old != new for old, new in zip(held, after, strict=True))
    hubs = {slot.decided_at for slot in procedure.slots}
    return hubs if changed or node.next is None else hubs | {node.next}


def _targets(procedure: Procedure, hub: Node, followed: _Followed, held: Held) -> Iterator[str]:
    """Yield where a hub may lead, over everything that a user may mean with these values."""
    state = followed.state(held)
    meanings = [(i.name, dict(i.sets)) for i in (*procedure.intents, *procedure.corrections)]
    for intent, sets in [*meanings, ("", {})]:
        if any(name in state and state[name] != value for name, value in sets.items()):
            continue
        for edge in hub.edges:
            if edge.intents and intent not in edge.intents:
                continue
            verdict = _verdict(edge.when, state)
            if verdict is not False:
                yield edge.to
            if verdict is True:
                break
        else:
            if hub.default:
                yield hub.default


def _verdict(when: When, state: dict[str, str | None]) -> bool | None:
    """Tell whether a test holds; None if that hangs on something not followed."""
    if any(name in state and state[name] != value for name, value in when.slots):
        return False
    unknown = when.flags or any(name not in state for name, _ in when.slots)
    return None if unknown else True

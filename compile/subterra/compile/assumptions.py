"""What a path takes for granted: the slot values and flags that its tests settled so far.

Goes in: a node and the assumptions under which it is entered. Comes out: the nodes that may follow,
each with its own assumptions. Flags are known exactly, since nodes set and clear them; a slot is
known once an edge has tested it for a value. Does not know which nodes were visited.

    >>> sorted(followers(procedure, "triage", START))
    ['collect', 'escalated', 'fix_audio', ...]
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from subterra.compile.procedure import Edge, Node, Procedure, When


@dataclass(frozen=True, slots=True)
class Assumed:
    """Slot values, as sorted pairs, and the flags that are set."""

    slots: tuple[tuple[str, str], ...] = ()
    flags: frozenset[str] = frozenset()


Assumptions = frozenset[Assumed]
"""Everything that may hold at one point of a path; several where two edges lead to one node."""

START: Assumptions = frozenset({Assumed()})


def followers(procedure: Procedure, name: str, assumptions: Assumptions) -> dict[str, Assumptions]:
    """Give the nodes that may follow, in the order written, with what holds on entering them."""
    node = procedure.node(name)
    found: dict[str, set[Assumed]] = {target: set() for target in node.targets()}
    for assumed in assumptions:
        for target, then in _steps(procedure, node, assumed):
            found[target].add(_entered(procedure.node(target), then))
    return {target: frozenset(held) for target, held in found.items() if held}


def opening(procedure: Procedure) -> Assumptions:
    """Give what holds at the start."""
    start = procedure.node(procedure.start)
    return frozenset(_entered(start, assumed) for assumed in START)


def _steps(procedure: Procedure, node: Node, assumed: Assumed) -> Iterator[tuple[str, Assumed]]:
    if node.next:
        yield node.next, assumed
    for edge in node.edges:
        if _verdict(edge.when, assumed) is not False:
            yield edge.to, _learnt(edge.when, assumed)
    if node.default and not _always_met(procedure, node, assumed):
        yield node.default, assumed


def _verdict(when: When, assumed: Assumed) -> bool | None:
    """Tell whether a test holds; None where that hangs on a slot not settled yet."""
    known = dict(assumed.slots)
    if any((name in assumed.flags) != wanted for name, wanted in when.flags):
        return False
    if any(name in known and known[name] != value for name, value in when.slots):
        return False
    return True if all(name in known for name, _ in when.slots) else None


def _learnt(when: When, assumed: Assumed) -> Assumed:
    known = dict(assumed.slots)
    known.update({name: value for name, value in when.slots if value is not None})
    return Assumed(tuple(sorted(known.items())), assumed.flags)


def _entered(node: Node, assumed: Assumed) -> Assumed:
    return Assumed(assumed.slots, (assumed.flags | set(node.sets)) - set(node.clears))


def _always_met(procedure: Procedure, hub: Node, assumed: Assumed) -> bool:
    """Tell whether an edge is sure to hold whatever a user means here, so that no default comes."""
    sure = [edge for edge in hub.edges if _verdict(edge.when, assumed)]
    corrections = {intent.name for intent in procedure.corrections}
    meant = {name for edge in hub.edges for name in edge.intents} - corrections
    return bool(sure) and all(_takes(sure, name) for name in meant)


def _takes(edges: Iterable[Edge], intent: str) -> bool:
    return any(not edge.intents or intent in edge.intents for edge in edges)

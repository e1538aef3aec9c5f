"""How often a message can cut the slot values at most, before an agent is sealed.

Goes in: a table of transitions. Comes out: a number that no conversation exceeds, so that the limit
of `legal_moves` is met at the author's and never in a chat. Any way with intents or flags may be
open or closed, so the values are parted along all tests and nothing is taken away: that is never
coarser than what a message really leaves. Does not know conversations.

    >>> most_cuts(table) <= CUTS_MAX
    True
"""

from collections.abc import Sequence

from subterra.runtime.legal_moves import CUTS_MAX, Demands, Domains, cut, demands, full
from subterra.runtime.transition_table import TransitionTable, Way


def most_cuts(table: TransitionTable) -> int:
    """Bound the cuts of one message.

    Every filled slot may decide at its own hub, and the hub after the node decides once. A message
    of asides alone first cuts the values as they are away: nothing at the hub of a slot, whose
    value has changed there, and a box into one for each slot at the other hub.
    """
    size = len(table.slots)
    costs = [_cuts(table, ways) for ways in table.hubs]
    nodes = [costs[node.hub] for node in table.nodes.values() if node.hub is not None]
    at_slots = sum(size + costs[slot.hub] for slot in table.slots)
    return at_slots + size + max(size, 1) * max(nodes, default=0)


def _cuts(table: TransitionTable, ways: Sequence[Way]) -> int:
    """Bound the cuts of one hub; a bound above CUTS_MAX may be too low."""
    boxes: list[Domains] = [full(table)]
    grown, cuts = 1, 0
    for way in ways:
        wanted = demands(table, way)
        parts = max(len(wanted), 1)
        known = len(boxes) <= CUTS_MAX
        cuts += (min(grown, len(boxes)) if known else grown) * parts
        grown *= parts
        if cuts > CUTS_MAX:
            break
        if known:
            boxes = _parted(boxes, wanted, keep=bool(way.intents or way.flags))
    return cuts


def _parted(boxes: Sequence[Domains], wanted: Demands, *, keep: bool) -> list[Domains]:
    """Cut every box along a test; keep what meets it where the way may be closed."""
    parts = []
    for box in boxes:
        outside, met = cut(box, wanted)
        parts += outside
        if keep and met is not None:
            parts.append(met)
    return parts

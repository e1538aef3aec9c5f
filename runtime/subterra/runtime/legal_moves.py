"""What is legal next: from one state line and the intents of a message to nodes and slot values.

Goes in: a `TransitionTable`, the line before (None at the opening), the intents. Comes out:
`Outcome`s: a node, and for each slot the values with which the procedure leads there. Ways out of a
hub exclude one another in order, so the slot values are cut along their tests into boxes, each of
which leads to one node. Does not know texts, bytes or tokens.

    >>> sorted({found.node for found in outcomes(table, line, ("not_fixed",))})
    ['deeper']
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from subterra.runtime.errors import BundleError
from subterra.runtime.state_line import UNFILLED, StateLine
from subterra.runtime.transition_table import OPENING_INTENT, TransitionTable, Way

CUTS_MAX: Final = 1 << 14
"""Of slot values, at one message; a person's tests need far fewer. Without a limit, ways that test
two slots each could double the boxes every time. Sealing refuses a table that could reach it."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The values that a slot may have (None: empty): the listed ones, or any text but some.

    A text that is not listed does not begin with `?`: a model that starts so means an empty slot.
    """

    only: frozenset[str | None] | None = None
    but: frozenset[str | None] = frozenset()

    def holds(self, value: str | None) -> bool:
        """Tell whether the value is one of them."""
        if self.only is not None:
            return value in self.only
        return value not in self.but and not (value or "").startswith(UNFILLED)

    def just(self, value: str | None) -> "Domain":
        """Leave this value alone, or nothing."""
        return Domain(frozenset({value} if self.holds(value) else ()))

    def without(self, value: str | None) -> "Domain":
        """Take a value away."""
        if self.only is None:
            return Domain(but=self.but | {value})
        return Domain(self.only - {value})

    @property
    def listed(self) -> frozenset[str | None]:
        """The values that can be listed; an unfilled slot is among them where it may be one."""
        if self.only is not None:
            return self.only
        return frozenset() if None in self.but else frozenset({None})

    @property
    def empty(self) -> bool:
        """Whether no value is left."""
        return self.only is not None and not self.only


Domains = tuple[Domain, ...]
"""One domain a slot, in the order of the state line."""

Demands = Sequence[tuple[int, str | None]]
"""Slot by its index -> the value it must have."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A node that may follow, and the slot values with which it does."""

    node: str
    domains: Domains


def outcomes(
    table: TransitionTable, before: StateLine | None, intents: Sequence[str]
) -> list[Outcome]:
    """List what a message with these intents may lead to; never empty for known intents.

    Raises:
        BundleError: the tests of a hub cut the slot values into too many boxes.
    """
    if before is None:
        empty = Domain(frozenset({None}))
        return [Outcome(table.start, (empty,) * len(table.slots))]
    old = tuple(before.slot(slot.name) for slot in table.slots)
    stay = (tuple(enumerate(old)), before.node)
    only_asides = set(intents) <= set(table.asides)
    found = []
    for hub, domains in _entered(table, before.node, old, intents):
        if hub is None:  # a terminal that nothing leads away from
            found.append(Outcome(before.node, domains))
            continue
        tests = _tests(table, hub, intents, frozenset(before.flags))
        limit = CUTS_MAX - len(found)
        found += _first_met(domains, [stay, *tests] if only_asides else tests, limit)
    return found


def opens_with(table: TransitionTable, before: StateLine | None) -> tuple[str, ...]:
    """Name the intents that may stand in the line."""
    return (OPENING_INTENT,) if before is None else table.meanings


def full(table: TransitionTable) -> Domains:
    """Give each slot every value that it may ever hold."""
    return tuple(
        Domain(frozenset({*slot.values, None})) if slot.values else Domain() for slot in table.slots
    )


def demands(table: TransitionTable, way: Way) -> Demands:
    """Write what a way demands of the slots by their indices."""
    names = table.slot_names
    return tuple((names.index(name), value) for name, value in way.slots.items())


def cut(box: Domains, wanted: Demands) -> tuple[list[Domains], Domains | None]:
    """Cut a box along demands, one by one: the parts that do not meet them, and the one that does.

    The last is None where nothing does.
    """
    outside = []
    for index, value in wanted:
        other = box[index].without(value)
        if not other.empty:
            outside.append(_with(box, index, other))
        box = _with(box, index, box[index].just(value))
        if box[index].empty:
            return outside, None
    return outside, box


def is_legal(table: TransitionTable, before: StateLine | None, line: StateLine) -> bool:
    """Tell whether a whole line may follow."""
    known = opens_with(table, before)
    if not set(line.intents) <= set(known) or len(set(line.intents)) != len(line.intents):
        return False
    if tuple(name for name, _ in line.slots) != table.slot_names or not line.intents:
        return False
    flags = frozenset(before.flags if before else ())
    return any(
        found.node == line.node
        and all(d.holds(v) for d, (_, v) in zip(found.domains, line.slots, strict=True))
        and line.flags == table.flags_at(line.node, flags)
        for found in outcomes(table, before, line.intents)
    )


def _implied(table: TransitionTable, intents: Sequence[str]) -> dict[str, str]:
    implied: dict[str, str] = {}
    for intent, sets in table.intents.items():
        if intent in intents:
            implied.update(sets)
    return implied


def _domains(table: TransitionTable, old: Sequence[str | None], intents: Sequence[str]) -> Domains:
    """Give each slot what it may hold at all: no filled slot is emptied, intents fill theirs."""
    corrected = bool(set(intents) & set(table.corrections))
    implied = _implied(table, intents)
    found = []
    for slot, value, domain in zip(table.slots, old, full(table), strict=True):
        if value is not None or slot.name in implied:
            domain = domain.without(None)
        if slot.name in implied and not corrected:  # a correction may name another value
            domain = domain.just(implied[slot.name])
        found.append(domain)
    return tuple(found)


def _entered(
    table: TransitionTable, node: str, old: Sequence[str | None], intents: Sequence[str]
) -> Iterator[tuple[int | None, Domains]]:
    """Yield the hubs that may decide, each with the slot values with which it does.

    The first filled slot that changes decides at its own hub; with a correction, one that is said
    again does as well. Without either, the hub after the node decides.
    """
    corrected = bool(set(intents) & set(table.corrections))
    implied = _implied(table, intents)
    domains = _domains(table, old, intents)
    for index, (name, value) in enumerate(zip(table.slot_names, old, strict=True)):
        if value is None:
            continue
        moved = domains[index] if corrected else domains[index].without(value)
        if not moved.empty:
            yield table.slots[index].hub, _with(domains, index, moved)
        domains = _with(domains, index, domains[index].just(value))
        if domains[index].empty or implied.get(name, value) != value:
            return  # it can only have changed, or been said again
    yield table.nodes[node].hub, domains


def _tests(
    table: TransitionTable, hub: int, intents: Sequence[str], flags: frozenset[str]
) -> list[tuple[Demands, str]]:
    """List what the open ways of a hub demand of the slots, and where they lead, in order."""
    ways = [way for way in table.hubs[hub] if _open(way, intents, flags)]
    return [(demands(table, way), way.to) for way in ways]


def _open(way: Way, intents: Sequence[str], flags: frozenset[str]) -> bool:
    meant = not way.intents or any(intent in way.intents for intent in intents)
    return meant and all((name in flags) == wanted for name, wanted in way.flags.items())


def _first_met(domains: Domains, tests: Sequence[tuple[Demands, str]], limit: int) -> list[Outcome]:
    """Cut a box along tests that are tried in order; each part leads where its first test says."""
    found, rest, cuts = [], [domains], 0
    for wanted, node in tests:
        cuts += len(rest) * max(len(wanted), 1)
        if cuts > limit:
            raise BundleError(
                f"the tests of a hub cut the slot values more than {CUTS_MAX} times",
                hint="subterra chat AGENT --unconstrained; its author seals with --unconstrained",
            )
        left: list[Domains] = []
        for box in rest:
            if not all(box[index].holds(value) for index, value in wanted):
                left.append(box)
                continue
            outside, met = cut(box, wanted)
            left += outside
            if met is not None:
                found.append(Outcome(node, met))
        rest = left
    return found


def _with(domains: Domains, index: int, domain: Domain) -> Domains:
    return (*domains[:index], domain, *domains[index + 1 :])

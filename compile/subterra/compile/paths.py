"""Acyclic paths of a procedure: the ways from the start to a terminal.

Goes in: a procedure. Comes out: node sequences, lazily, and how many there are. On a path no agent
or terminal node comes twice; hubs are decisions and may be passed again. An edge is followed only
where its tests agree with what the path has settled: an auto claim has no home steps on its path.

    >>> count_paths(procedure)
    PathCount(value=68, exact=True)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from subterra.compile.assumptions import Assumptions, followers, opening
from subterra.compile.procedure import Procedure

MAX_STEPS = 200_000
"""Partial results held while counting; past it the count is a lower bound."""


@dataclass(frozen=True, slots=True)
class PathCount:
    """A number of paths; not exact where counting on would take too long."""

    value: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.value}" if self.exact else f">= {self.value}"


def acyclic_paths(procedure: Procedure) -> Iterator[tuple[str, ...]]:
    """Yield every path once, depth first, in the order in which edges are written."""
    hubs = {node.name for node in procedure.of_kind("hub")}
    ends = {node.name for node in procedure.of_kind("terminal")}
    path = [procedure.start]
    branches = [iter(followers(procedure, procedure.start, opening(procedure)).items())]
    while branches:
        name, assumptions = next(branches[-1], (None, None))
        if name is None or assumptions is None:
            branches.pop()
            path.pop()
        elif not _may_follow(name, path, hubs):
            continue
        elif name in ends:
            yield (*path, name)
        else:
            path.append(name)
            branches.append(iter(followers(procedure, name, assumptions).items()))


def count_paths(procedure: Procedure, max_steps: int = MAX_STEPS) -> PathCount:
    """Count the paths without listing them all.

    What lies ahead depends on the node, on what the path has settled, and on which nodes *still
    ahead* were visited, so equal situations are counted once.
    """
    return _Counter(procedure, max_steps).count()


def _may_follow(name: str, path: list[str], hubs: set[str]) -> bool:
    """Tell whether a path may go on to a node; hubs come again only after an agent node."""
    if name not in hubs:
        return name not in path
    for earlier in reversed(path):
        if earlier not in hubs:
            return True
        if earlier == name:
            return False
    return True


Situation = tuple[str, Assumptions, frozenset[str]]
"""A node, what holds there, and the nodes ahead of it that may not be entered any more."""


class _Counter:
    def __init__(self, procedure: Procedure, max_steps: int) -> None:
        self._procedure = procedure
        self._targets = {node.name: node.targets() for node in procedure.nodes}
        self._hubs = frozenset(node.name for node in procedure.of_kind("hub"))
        self._ends = frozenset(node.name for node in procedure.of_kind("terminal"))
        self._ahead = {name: self._reachable(name) for name in self._targets}
        self._start = procedure.start
        self._max_steps = max_steps
        self._known: dict[Situation, int] = {}

    def count(self) -> PathCount:
        """Work through the situations, those ahead first; a stack of our own spares recursion."""
        first = self._situation(self._start, opening(self._procedure), frozenset())
        stack: list[tuple[Situation, Iterator[Situation]]] = [(first, self._next(first))]
        partial: list[int] = [0]
        while stack:
            situation, following = stack[-1]
            ahead = next(following, None)
            if ahead is None:
                stack.pop()
                total = self._known[situation] = partial.pop()
                if partial:
                    partial[-1] += total
            elif ahead[0] in self._ends:
                partial[-1] += 1
            elif ahead in self._known:
                partial[-1] += self._known[ahead]
            elif len(self._known) + len(stack) > self._max_steps:
                return PathCount(sum(partial), exact=False)
            else:
                stack.append((ahead, self._next(ahead)))
                partial.append(0)
        return PathCount(self._known[first], exact=True)

    def _next(self, situation: Situation) -> Iterator[Situation]:
        name, assumptions, barred = situation
        for target, then in followers(self._procedure, name, assumptions).items():
            if target not in barred:
                yield self._situation(target, then, barred)

    def _situation(self, name: str, assumptions: Assumptions, barred: frozenset[str]) -> Situation:
        """Enter a node: bar it, free the hubs if an agent spoke, forget what is out of reach."""
        if name not in self._hubs:
            barred = barred - self._hubs
        return name, assumptions, (barred | {name}) & self._ahead[name]

    def _reachable(self, name: str) -> frozenset[str]:
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = [t for t in self._targets[waiting.pop()] if t not in found]
            found.update(new)
            waiting += new
        return frozenset(found)

"""A procedure as a tree for a terminal.

Goes in: a procedure. Comes out: a rich `Tree`, or its plain text. A node's ways out are drawn where
it comes first; later it stands as a reference. Does not print.

    >>> plain_tree(procedure).splitlines()[0]
    'welcome  asks issue, device'
"""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from subterra.compile.procedure import Node, NodeKind, Procedure

STYLES: dict[NodeKind, str] = {"agent": "bold cyan", "hub": "bold yellow", "terminal": "bold green"}
PLAIN_WIDTH = 100
"""Columns of the plain tree, so that it is the same everywhere."""


def node_tree(procedure: Procedure) -> Tree:
    """Build the tree, breadth first, so that a node hangs as near to the start as it can."""
    start = procedure.node(procedure.start)
    root = Tree(_label(start), guide_style="dim")
    drawn = {start.name}
    level = [(start, root)]
    while level:
        below: list[tuple[Node, Tree]] = []
        for node, branch in level:
            for condition, target in _ways(node):
                known = target in drawn
                twig = branch.add(_label(procedure.node(target), condition, again=known))
                drawn.add(target)
                if not known:
                    below.append((procedure.node(target), twig))
        level = below
    return root


def plain_tree(procedure: Procedure) -> str:
    """Draw the tree without colours."""
    console = Console(width=PLAIN_WIDTH, color_system=None, force_terminal=False, markup=False)
    with console.capture() as capture:
        console.print(node_tree(procedure))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _ways(node: Node) -> Iterator[tuple[str, str]]:
    """Yield (condition, target), one for each target; several conditions are joined."""
    conditions: dict[str, list[str]] = {}
    for edge in node.edges:
        conditions.setdefault(edge.to, []).append(edge.condition)
    if node.default:
        conditions.setdefault(node.default, []).append("otherwise")
    if node.next:
        conditions.setdefault(node.next, [])
    for target, words in conditions.items():
        yield "; ".join(words), target


def _label(node: Node, condition: str = "", *, again: bool = False) -> Text:
    label = Text()
    if condition:
        label.append(f"{condition} → ", style="dim")
    label.append(node.name, style=STYLES[node.kind])
    if again:
        label.append(" (above)" if node.kind != "terminal" else "", style="dim")
        return label
    notes = [f"asks {', '.join(node.asks)}"] if node.asks else []
    notes += ["mandatory"] if node.mandatory and node.kind == "agent" else []
    notes += [f"ends: {node.outcome}"] if node.outcome else []
    if notes:
        label.append("  " + "; ".join(notes), style="dim")
    return label

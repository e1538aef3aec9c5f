"""A procedure as a Mermaid flowchart.

Goes in: a procedure. Comes out: text for https://mermaid.js.org (`flowchart TD`): agent nodes are
boxes, hubs diamonds, terminals stadiums; edges carry their condition. Does not know any viewer.

    >>> flowchart(procedure).splitlines()[0]
    'flowchart TD'
"""

from collections.abc import Iterator

from subterra.compile.procedure import Node, NodeKind, Procedure

SHAPES: dict[NodeKind, tuple[str, str]] = {
    "agent": ("[", "]"),
    "hub": ("{", "}"),
    "terminal": ("([", "])"),
}
OTHERWISE = "otherwise"
"""The label of a hub's default."""


def flowchart(procedure: Procedure) -> str:
    """Draw the procedure, nodes first, in the order written."""
    lines = ["flowchart TD"]
    lines += [f"    {_box(node)}" for node in procedure.nodes]
    lines += [f"    {arrow}" for node in procedure.nodes for arrow in _arrows(node)]
    return "\n".join(lines) + "\n"


def _box(node: Node) -> str:
    left, right = SHAPES[node.kind]
    words = node.name.replace("_", " ")
    if node.outcome and node.outcome.replace("_", " ") != words:
        words = f"{words}: {node.outcome.replace('_', ' ')}"
    return f"{_id(node.name)}{left}{_quoted(words)}{right}"


def _arrows(node: Node) -> Iterator[str]:
    source = _id(node.name)
    for edge in node.edges:
        yield f"{source} -->|{_quoted(edge.condition)}| {_id(edge.to)}"
    if node.default:
        yield f"{source} -.->|{_quoted(OTHERWISE)}| {_id(node.default)}"
    if node.next:
        yield f"{source} --> {_id(node.next)}"


def _id(name: str) -> str:
    """Mark identifiers, because Mermaid takes a few names, such as `end`, for its own."""
    return f"n_{name}"


def _quoted(words: str) -> str:
    """Quote a label; Mermaid has entity codes for what would end it or start markup."""
    for character, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        words = words.replace(character, code)
    return f'"{words}"'

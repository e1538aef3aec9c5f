"""What the agent says: the wording of a move, from the procedure's own samples.

Goes in: a `Move` and a random source. Comes out: one reply. Does not know what the user said.

    >>> reply(procedure, opening(procedure), random.Random(0))
    'Hello, this is Zoom support. ...'
"""

import random
from collections.abc import Iterator

from subterra.compile.policy import Move, aside
from subterra.compile.procedure import Node, Procedure


def reply(procedure: Procedure, move: Move, rng: random.Random) -> str:
    """Write the agent's reply: the asides first, then the node's text or its short question."""
    asides = [aside(procedure, name) for name in move.asides]
    parts = [rng.choice(item.say) for item in asides]
    node = procedure.node(move.state.node)
    if move.stayed and node.again and not any(item.repeats for item in asides):
        parts.append(rng.choice(node.again))
    else:
        parts.append(rng.choice(texts(node, move)))
    return " ".join(parts)


def texts(node: Node, move: Move) -> list[str]:
    """Every wording of the node in this state, facts filled in."""
    fact = node.fact(move.state.slots, move.state.flags) or ""
    wordings = node.wordings(move.state.slots, move.state.flags)
    if not wordings:
        wordings = tuple(text for block in node.say for text in block.texts)
    return [text.replace("{fact}", fact) for text in wordings]


def every_text(procedure: Procedure) -> Iterator[tuple[str, str]]:
    """Yield every (node name, whole wording), for classifying a reply that has no state line."""
    for node in procedure.nodes:
        facts = [fact.text for fact in node.facts] or [""]
        for block in node.say:
            for text in block.texts:
                yield from ((node.name, text.replace("{fact}", fact)) for fact in facts)


def says_fact(procedure: Procedure, move: Move, said: str) -> bool:
    """Tell whether a reply holds the fact that its node must state (true where there is none)."""
    fact = procedure.node(move.state.node).fact(move.state.slots, move.state.flags)
    return fact is None or _folded(fact) in _folded(said)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())

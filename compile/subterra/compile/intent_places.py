"""Where an intent may be said: what the agent asked before, and what else may be meant there.

Goes in: a procedure and an intent's name. Comes out: the agent's questions and the bank keys that
are its rivals. Does not know wordings of users.

    >>> questions(procedure, "fixed")[0]
    'Did that bring the sound back?'
"""

from collections.abc import Iterable

from subterra.compile.bank_checks import heard_together
from subterra.compile.procedure import Aside, Intent, Node, Procedure

MAX_QUESTIONS = 4
"""Questions shown to a teacher: more of them tell it nothing new."""


def questions(procedure: Procedure, intent: str) -> tuple[str, ...]:
    """List what the agent asks where the intent may be said, a text each node, facts left out."""
    hubs = [node.name for node in procedure.of_kind("hub")]
    heard = zip(hubs, heard_together(procedure), strict=True)
    near = {hub for hub, names in heard if intent in names}
    asked = [_question(node) for node in procedure.nodes if node.next in near]
    return tuple(dict.fromkeys(text for text in asked if text))[:MAX_QUESTIONS]


def rivals(procedure: Procedure, intent: str, keys: Iterable[str]) -> tuple[str, ...]:
    """List the keys of a bank that mean something else where the intent may be said.

    A key that means the intent and something more (`intent+other`) is no rival: it is near by
    right.
    """
    near = {name for group in heard_together(procedure) if intent in group for name in group}
    found = ((key, set(key.split("+"))) for key in keys)
    return tuple(key for key, parts in found if intent not in parts and parts & near)


def about(procedure: Procedure, intent: str) -> str:
    """Give the author's description of an intent, aside or correction."""
    meanings: tuple[Intent | Aside, ...] = (
        *procedure.intents,
        *procedure.corrections,
        *procedure.asides,
    )
    return next(meaning.about for meaning in meanings if meaning.name == intent)


def _question(node: Node) -> str:
    texts = node.again or tuple(text for block in node.say for text in block.texts)
    return " ".join(texts[0].replace("{fact}", "").split()) if texts else ""

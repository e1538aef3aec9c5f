"""What the agent says: no text empty, none twice, no unknown placeholder, every fact said.

Goes in: a procedure and its document. Comes out: problems. Does not know in which states a node is
entered; `coverage` does.

    >>> list(wording_problems(procedure, document))
    []
"""

import re
from collections.abc import Iterator

from subterra.compile.procedure import Node, Procedure
from subterra.compile.yaml_source import Document, Problem, Steps, Value, closest

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
FACT = "fact"
CONTROL_MARK = re.compile(r"<\|[^|>]*\|>")
"""A token of the chat format, which no text may imitate."""


def wording_problems(procedure: Procedure, document: Document) -> Iterator[Problem]:
    """Yield problems of the texts."""
    for name in ("title", "system"):
        yield from _text_problems(document, ((name,), getattr(procedure, name)), ())
    for aside in procedure.asides:
        steps: Steps = ("asides", aside.name, "say")
        yield from _list_problems(document, list(_texts(document, steps)), ())
    for node in procedure.nodes:
        yield from _node_problems(node, document)


def _node_problems(node: Node, document: Document) -> Iterator[Problem]:
    steps: Steps = ("nodes", node.name)
    say = list(_texts(document, (*steps, "say")))
    again = list(_texts(document, (*steps, "again")))
    facts = list(_texts(document, (*steps, "facts")))
    yield from _list_problems(document, say, (FACT,))
    yield from _list_problems(document, again, ())
    yield from (p for text in facts for p in _text_problems(document, text, ()))
    for at, text in say:
        if node.facts and "{fact}" not in text and text.strip():
            words = f"node '{node.name}' must say a fact, but this text has no '{{fact}}'"
            yield document.problem(at, words)
        if not node.facts and "{fact}" in text:
            words = f"'{{fact}}' in a node without facts; add 'facts:' to '{node.name}'"
            yield document.problem(at, words)


def _texts(document: Document, steps: Steps) -> Iterator[tuple[Steps, str]]:
    """Yield the texts under a key, with their places, out of lists and blocks."""
    value = document.root.at(steps)
    if value is not None:
        yield from _texts_in(value, steps)


def _texts_in(value: Value, steps: Steps) -> Iterator[tuple[Steps, str]]:
    if isinstance(value.content, str):
        yield steps, value.content
    elif isinstance(value.content, list):
        for index, item in enumerate(value.content):
            yield from _texts_in(item, (*steps, index))
    elif isinstance(value.content, dict) and "text" in value.content:
        yield from _texts_in(value.content["text"], (*steps, "text"))


def _list_problems(
    document: Document, texts: list[tuple[Steps, str]], known: tuple[str, ...]
) -> Iterator[Problem]:
    """Check texts that stand for each other; the same text twice in one block says nothing new."""
    seen: dict[tuple[Steps, str], Steps] = {}
    for at, text in texts:
        folded = " ".join(text.casefold().split())
        first = seen.setdefault((at[:-1], folded), at)
        if first != at and folded:
            line = document.position(first)[0]
            yield document.problem(at, f"the same wording stands in line {line}")
        yield from _text_problems(document, (at, text), known)


def _text_problems(
    document: Document, text: tuple[Steps, str], known: tuple[str, ...]
) -> Iterator[Problem]:
    at, words = text
    if not words.strip() and len(at) > 1:
        yield document.problem(at, "an empty text")
    for name in dict.fromkeys(PLACEHOLDER.findall(words)):
        if name not in known:
            yield document.problem(at, f"unknown placeholder '{{{name}}}'{closest(name, known)}")
    rest = PLACEHOLDER.sub("", words)
    if "{" in rest or "}" in rest:
        yield document.problem(at, "a stray brace; braces hold a placeholder's name")
    if mark := CONTROL_MARK.search(words):
        yield document.problem(at, f"'{mark[0]}' belongs to the chat format and may not be said")

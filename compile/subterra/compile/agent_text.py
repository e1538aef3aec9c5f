"""What the agent says, so that it can be recognised in a user's mouth.

Goes in: a procedure. Comes out: its whole sentences and its runs of words. Does not know users.

    >>> AgentText(procedure).leaks("Hello, this is Zoom support.", allowed=frozenset())
    True
"""

from collections.abc import Collection, Iterator

from subterra.compile.bank_document import fold
from subterra.compile.procedure import Procedure
from subterra.compile.speech import every_text

RUN_WORDS = 6
"""Words in a row that the agent says and no user of the bank does."""
SENTENCE_WORDS = 3
"""A whole message that the agent says is a leak from so many words on."""

Run = tuple[str, ...]


class AgentText:
    """Everything that the agent says: texts, short questions, facts, answers to asides."""

    def __init__(self, procedure: Procedure) -> None:
        folded = {fold(text) for text in _texts(procedure)}
        self._sentences = {text for text in folded if len(text.split()) >= SENTENCE_WORDS}
        self._runs = frozenset(run for text in folded for run in runs(text))

    def leaks(self, text: str, allowed: Collection[Run]) -> bool:
        """Tell whether a text is the agent's, but for runs of words that users have said."""
        folded = fold(text)
        return folded in self._sentences or bool(self._runs.intersection(runs(folded)) - {*allowed})


def runs(folded: str) -> frozenset[Run]:
    """List every run of `RUN_WORDS` words of a folded text."""
    words = folded.split()
    return frozenset(tuple(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1))


def _texts(procedure: Procedure) -> Iterator[str]:
    for _, text in every_text(procedure):
        yield text
        yield from _sentences(text)
    for node in procedure.nodes:
        yield from node.again
        for fact in node.facts:
            yield fact.text
            yield from _sentences(fact.text)
    for aside in procedure.asides:
        yield from aside.say


def _sentences(text: str) -> Iterator[str]:
    marked = text.replace("! ", "!\n").replace("? ", "?\n").replace(". ", ".\n")
    yield from marked.splitlines()

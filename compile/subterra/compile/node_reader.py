"""Read from a reply at which node the agent is.

Goes in: a procedure and the text that a model wrote. Comes out: a `Reading`. In traced recipes the
state line tells; in `plain` the nearest sample wording does (a classifier whose own accuracy
`score` prints). Does not know what the agent should have said.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subterra.compile.procedure import Procedure
from subterra.compile.recipe import Recipe
from subterra.compile.speech import every_text
from subterra.runtime import state_line

WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply shows."""

    node: str | None
    """None: the state line is malformed or names no node, or a plain reply is like no sample."""
    slots: Mapping[str, str | None] | None
    """None: the recipe shows no slots."""
    flags: frozenset[str]
    intents: tuple[str, ...]
    text: str
    """What the user sees."""


class NodeReader:
    """Reads replies of one procedure in one recipe."""

    def __init__(self, procedure: Procedure, recipe: Recipe) -> None:
        self._procedure = procedure
        self._recipe = recipe
        self._names = {node.name for node in procedure.nodes if node.kind != "hub"}
        samples = [*every_text(procedure)]
        samples += [(node.name, text) for node in procedure.nodes for text in node.again]
        self._samples = [(name, _words(text)) for name, text in samples]
        frequency = Counter(word for _, words in self._samples for word in words)
        self._worth = {word: 1 / count for word, count in frequency.items()}

    def read(self, raw: str) -> Reading:
        """Read one reply."""
        if self._recipe == "plain":
            return Reading(self.classify(raw), None, frozenset(), (), raw)
        head, _, text = raw.partition("\n")
        line = state_line.parse(head, self._procedure.slot_names)
        if line is None or line.node not in self._names:
            return Reading(None, None, frozenset(), (), text)
        return Reading(line.node, dict(line.slots), frozenset(line.flags), line.intents, text)

    def classify(self, text: str) -> str | None:
        """Name the node whose sample wording shares most words with the text; None without any.

        The measure is recall of the sample's words, weighted by rarity among the samples, so that
        an aside in front of a node's text does not count against it.
        """
        said = set(_words(text))

        def share(words: Sequence[str]) -> float:
            total = sum(self._worth[word] for word in words)
            return sum(self._worth[word] for word in words if word in said) / max(total, 1e-9)

        best = max(self._samples, key=lambda sample: share(sample[1]))
        return best[0] if share(best[1]) > 0 else None


def _words(text: str) -> list[str]:
    """List the different words, in the order said."""
    return list(dict.fromkeys(WORD.findall(text.casefold())))

"""Training text as the model reads it, cut where the kind of its tokens changes.

Goes in: an encoded dialogue and its tokenizer. Comes out: spans; joined, their texts are the exact
training text, special tokens written out.

    >>> [span.kind for span in spans(encoded, tokenizer)][:4]
    [<Kind.READ: 0>, <Kind.STATE: 3>, <Kind.REPLY: 1>, <Kind.READ: 0>]
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from subterra.compile.recipe import Encoded, Kind
from subterra.runtime.chatml import ChatTokenizer

OPEN, CLOSE = "⟦", "⟧"
"""Stand round what is learnt; rare in any wording."""


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens of one kind."""

    kind: Kind
    text: str


def spans(encoded: Encoded, tokenizer: ChatTokenizer) -> Iterator[Span]:
    """Cut a dialogue; a character that two tokens share belongs to the second one's span."""
    special = {
        tokenizer.start_of_turn_id: tokenizer.chat.start_of_turn,
        tokenizer.end_of_turn_id: tokenizer.chat.end_of_turn,
    }
    decoder = tokenizer.stream_decoder()
    kind, text = Kind.READ, ""
    for token, of in zip(encoded.ids, encoded.kinds, strict=True):
        if of != kind and text:
            yield Span(kind, text)
            text = ""
        kind = of
        text += special.get(token) or decoder.feed(token)
    if text:
        yield Span(kind, text)


def marked(cut: Iterable[tuple[str, str]]) -> str:
    """Write spans (kind, text) as one text, what is learnt in marks with its kind in front."""
    return "".join(
        text if kind == Kind.READ.name.lower() else f"{OPEN}{kind}:{text}{CLOSE}"
        for kind, text in cut
    )

"""Tokens of a reply at which the facts of a procedure part.

Goes in: a procedure and its tokenizer. Comes out: a marker for replies. Facts that begin alike (the
same step on two devices) are told apart by few tokens; where the last tokens alone do not say how a
fact goes on, the model must look at the state. Those tokens are always learnt, in full.

    >>> choices = choice_tokens(procedure, tokenizer)
    >>> choices(tokenizer.encode_text("Let us fix the sound. Open Settings ..."))
"""

from collections.abc import Iterator, Sequence

from subterra.compile.procedure import Procedure
from subterra.compile.recipe import Choices
from subterra.runtime.chatml import ChatTokenizer

CONTEXT = 4
"""Tokens before a token that may tell it."""


def choice_tokens(procedure: Procedure, tokenizer: ChatTokenizer) -> Choices:
    """Learn from every reply with a fact which contexts leave the next token of a fact open."""
    follows: dict[tuple[int, ...], set[int]] = {}
    for pieces, start, end in _replies(procedure, tokenizer):
        for index in range(start, end):
            follows.setdefault(_context(pieces, index), set()).add(pieces[index])
    open_ = frozenset(context for context, tokens in follows.items() if len(tokens) > 1)
    return lambda reply: [_context(reply, index) in open_ for index in range(len(reply))]


def _context(tokens: Sequence[int], index: int) -> tuple[int, ...]:
    return tuple(tokens[max(0, index - CONTEXT) : index])


def _replies(
    procedure: Procedure, tokenizer: ChatTokenizer
) -> Iterator[tuple[list[int], int, int]]:
    """Yield the tokens of every reply that states a fact, and where the fact stands."""
    for node in procedure.nodes:
        for fact in node.facts:
            for text in (text for block in node.say for text in block.texts if "{fact}" in text):
                before, _, after = text.partition("{fact}")
                pieces = tokenizer.encode_text(before + fact.text + after)
                start = len(before.encode())
                span = _span(pieces, tokenizer, start, start + len(fact.text.encode()))
                yield pieces, *span


def _span(pieces: Sequence[int], tokenizer: ChatTokenizer, start: int, end: int) -> tuple[int, int]:
    """Find the tokens that hold the bytes from `start` to `end`."""
    touched: list[int] = []
    size = 0
    for index, token in enumerate(pieces):
        begin, size = size, size + len(tokenizer.token_bytes(token))
        if begin < end and size > start:
            touched.append(index)
    return touched[0], touched[-1] + 1

"""Recipes: how a dialogue becomes training text.

    plain    the dialogue alone (arXiv 2605.22502)
    traced   a state line in words before each reply

Goes in: a dialogue. Comes out: token ids and the kind of each token: what is only read, and what is
learnt as state, as reply, or as the choice between facts. Does not know models or optimisers.

    >>> encode(dialogue, tokenizer, "traced", slot_names=("issue", "device"))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

from subterra.compile.dialogue import Dialogue, Turn, state_line
from subterra.runtime import state_line as state_lines
from subterra.runtime.chatml import ChatTokenizer

Recipe = Literal["plain", "traced"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)


class Kind(IntEnum):
    """What a token is to the training loss."""

    READ = 0
    """Read, not learnt."""
    REPLY = 1
    CHOICE = 2
    """A token of the reply at which the facts of the procedure part."""
    STATE = 3


@dataclass(frozen=True, slots=True)
class Weights:
    """What the loss of a token counts, by kind."""

    state: float = 1.0
    choice: float = 1.0
    reply: float = 0.3

    def by_kind(self) -> tuple[float, ...]:
        """List the weights in the order of `Kind`."""
        return (0.0, self.reply, self.choice, self.state)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One dialogue as tokens; `kinds[i]` says what predicting `ids[i]` is to the loss."""

    ids: tuple[int, ...]
    kinds: tuple[Kind, ...]


Choices = Callable[[Sequence[int]], Sequence[bool]]
"""Tells of each token of a reply whether it decides between facts."""


def assistant_text(turn: Turn, recipe: Recipe, slot_names: Sequence[str]) -> str:
    """Write the assistant's turn as the model must write it."""
    if recipe == "plain":
        return turn.reply
    return state_lines.format(state_line(turn), slot_names) + "\n" + turn.reply


def encode(
    dialogue: Dialogue,
    tokenizer: ChatTokenizer,
    recipe: Recipe,
    slot_names: Sequence[str],
    choices: Choices | None = None,
) -> Encoded:
    """Tokenize a dialogue, turn by turn, exactly as the runtime does.

    Args:
        dialogue: gold turns.
        tokenizer: of the base.
        recipe: whether state lines are written.
        slot_names: in the order of the state line.
        choices: marks tokens of a reply as `CHOICE`; without it all are `REPLY`.
    """
    ids = list(tokenizer.system_turn())
    kinds = [Kind.READ] * len(ids)
    for turn in dialogue.turns:
        if turn.user is not None:
            _append(ids, kinds, tokenizer.encode_turn("user", turn.user), Kind.READ)
        _append(ids, kinds, tokenizer.assistant_prefix(), Kind.READ)
        text = assistant_text(turn, recipe, slot_names)
        pieces = tokenizer.encode_text(text)
        head = _head_tokens(pieces, tokenizer, text, turn.reply)
        _append(ids, kinds, pieces[:head], Kind.STATE)
        reply = pieces[head:]
        marks = choices(reply) if choices else [False] * len(reply)
        ids.extend(reply)
        kinds.extend(Kind.CHOICE if mark else Kind.REPLY for mark in marks)
        end = tokenizer.turn_end()
        _append(ids, kinds, end[:1], Kind.REPLY)
        _append(ids, kinds, end[1:], Kind.READ)
    return Encoded(tuple(ids), tuple(kinds))


def _append(ids: list[int], kinds: list[Kind], tokens: Sequence[int], kind: Kind) -> None:
    ids.extend(tokens)
    kinds.extend([kind] * len(tokens))


def _head_tokens(pieces: Sequence[int], tokenizer: ChatTokenizer, text: str, reply: str) -> int:
    """Count the tokens of the state line and its newline (a token across the border counts)."""
    border = len(text.encode()) - len(reply.encode())
    size = 0
    for index, token in enumerate(pieces):
        if size >= border:
            return index
        size += len(tokenizer.token_bytes(token))
    return len(pieces)

"""Recipes: how a dialogue becomes training text.

    plain    the dialogue alone (arXiv 2605.22502)
    traced   a state line in words before each reply

Goes in: a dialogue. Comes out: token ids and a weight for each token (0: read, not learnt). Does
not know models or optimisers.

    >>> encode(dialogue, tokenizer, "traced", slot_names=("issue", "device"), weights=Weights())
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from subterra.compile.dialogue import Dialogue, Turn, state_line
from subterra.runtime import state_line as state_lines
from subterra.runtime.chatml import ChatTokenizer

Recipe = Literal["plain", "traced"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)


@dataclass(frozen=True, slots=True)
class Weights:
    """What a token's loss counts."""

    state: float = 1.0
    reply: float = 0.3


@dataclass(frozen=True, slots=True)
class Encoded:
    """One dialogue as tokens; `weights[i]` is what predicting `ids[i]` counts."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


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
    weights: Weights,
) -> Encoded:
    """Tokenize a dialogue, turn by turn, exactly as the runtime does."""
    ids = list(tokenizer.system_turn())
    counts = [0.0] * len(ids)
    for turn in dialogue.turns:
        if turn.user is not None:
            _append(ids, counts, tokenizer.encode_turn("user", turn.user), 0.0)
        _append(ids, counts, tokenizer.assistant_prefix(), 0.0)
        text = assistant_text(turn, recipe, slot_names)
        pieces = tokenizer.encode_text(text)
        head = _head_tokens(pieces, tokenizer, text, turn.reply)
        _append(ids, counts, pieces[:head], weights.state)
        _append(ids, counts, pieces[head:], weights.reply)
        end = tokenizer.turn_end()
        _append(ids, counts, end[:1], weights.reply)
        _append(ids, counts, end[1:], 0.0)
    return Encoded(tuple(ids), tuple(counts))


def _append(ids: list[int], counts: list[float], tokens: Sequence[int], weight: float) -> None:
    ids.extend(tokens)
    counts.extend([weight] * len(tokens))


def _head_tokens(pieces: Sequence[int], tokenizer: ChatTokenizer, text: str, reply: str) -> int:
    """Count the tokens of the state line and its newline (a token across the border counts)."""
    border = len(text.encode()) - len(reply.encode())
    size = 0
    for index, token in enumerate(pieces):
        if size >= border:
            return index
        size += len(tokenizer.token_bytes(token))
    return len(pieces)

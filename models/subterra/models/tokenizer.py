"""Build `tokenizer.json` from a GGUF's own vocabulary so that it agrees with llama.cpp.

Goes in: token texts, their kinds, merges and the name of the pre-tokenizer. Comes out: a byte-level
BPE tokenizer that gives llama.cpp's token ids for any text. Does not know chat formats.

Two places where a plain byte-level BPE differs from llama.cpp are mended here:
digits are split one by one (pre-tokenizer `smollm`), and bytes that have no token of their own are
dropped *between* words; a plain BPE drops them inside a word and then merges the neighbours.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from subterra.runtime.errors import BaseModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NORMAL, CONTROL = 1, 3
"""GGUF token kinds (`tokenizer.ggml.token_type`): ordinary and special."""

PRE_TOKENIZERS = ("smollm",)
"""GGUF pre-tokenizers (`tokenizer.ggml.pre`) that are rebuilt exactly."""


def byte_level_tokenizer(
    tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], pre: str
) -> "Tokenizer":
    """Assemble the tokenizer; ids are positions in `tokens`.

    Raises:
        BaseModelError: the pre-tokenizer is not one that is rebuilt exactly.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models

    if pre not in PRE_TOKENIZERS:
        raise BaseModelError(
            f"the GGUF asks for the pre-tokenizer '{pre}'; known: {', '.join(PRE_TOKENIZERS)}",
            hint="name a checkpoint folder that has its own tokenizer.json",
        )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = smollm_pre_tokenizer(vocabulary)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == CONTROL
        ]
    )
    return tokenizer


def smollm_pre_tokenizer(vocabulary: dict[str, int]) -> "object":
    """Return digits one by one, then GPT-2's words, then bytes without a token removed."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
    missing = [c for c in sorted(pre_tokenizers.ByteLevel.alphabet()) if c not in vocabulary]
    if missing:
        steps.append(pre_tokenizers.Split(Regex(f"[{re.escape(''.join(missing))}]"), "removed"))
    return pre_tokenizers.Sequence(steps)

"""Greedy replies of a checkpoint in torch at fp32, with a KV cache and a draft.

Goes in: a checkpoint folder, prompts, drafts. Comes out: the reply that greedy decoding gives. The
draft (another engine's reply) is read in one pass; it is kept as far as every token is torch's own
first choice, and torch writes the rest alone. So a wrong draft costs time, never correctness
(speculative decoding, arXiv 2211.17192, at temperature 0).

    >>> TorchGreedy(Path("merged")).reply(prompt, draft, max_tokens=256, stop=2)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from subterra.quantize.torch_reference import load_model
from subterra.runtime.engine import common_prefix


class TorchGreedy:
    """A checkpoint that continues one conversation at a time."""

    def __init__(self, merged: Path) -> None:
        self._model = load_model(merged)
        self._cache = DynamicCache()
        self._cached: list[int] = []

    def reply(
        self, prompt: Sequence[int], draft: Sequence[int], *, max_tokens: int, stop: int
    ) -> list[int]:
        """Continue `prompt` to the stop token, which is left out, or to `max_tokens`."""
        reply: list[int] = []
        guess = [*draft, stop]
        while len(reply) < max_tokens:
            tops = self.logits([*prompt, *reply, *guess], len(guess) + 1).argmax(-1).tolist()
            agreed = common_prefix(tops, guess)
            reply += [*guess[:agreed], tops[agreed]]
            guess = []
            if stop in reply:
                return reply[: reply.index(stop)][:max_tokens]
        return reply[:max_tokens]

    def logits(self, tokens: Sequence[int], rows: int) -> NDArray[np.float32]:
        """Logits (rows, V) after the last tokens; the longest cached prefix is not read again."""
        keep = min(common_prefix(self._cached, tokens), len(tokens) - rows)
        self._cache.crop(keep)
        ids = torch.tensor([list(tokens[keep:])])
        with torch.inference_mode():
            output = self._model(ids, past_key_values=self._cache, logits_to_keep=rows)
        self._cached = list(tokens)
        found: NDArray[np.float32] = output.logits[0].numpy()  # (rows, V)
        return found

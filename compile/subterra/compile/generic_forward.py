"""The training forward pass of any causal model that transformers loads; slower, but general."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class GenericForward:
    """Runs transformers' own forward under bf16 autocast; same interface as `LlamaForward`."""

    def __init__(self, model: Any) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._trunk = base.base_model
        self._embed: nn.Embedding = base.get_input_embeddings()
        self._head: nn.Linear = base.get_output_embeddings()

    def __call__(self, ids: Tensor, *, noise: float = 0.0) -> Tensor:
        """Compute hidden states (B, T, C) after the final norm."""
        x = self._embed(ids)
        if noise > 0:
            size = noise / (x.shape[1] * x.shape[2]) ** 0.5
            x = x + torch.empty_like(x).uniform_(-size, size)
        with torch.autocast("cpu", torch.bfloat16):
            hidden: Tensor = self._trunk(inputs_embeds=x, use_cache=False).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Project (N, C) on the vocabulary, fp32 (N, V)."""
        with torch.autocast("cpu", torch.bfloat16):
            return functional.linear(hidden, self._head.weight, self._head.bias).float()

"""The general forward pass, on families that the lean one does not know."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from subterra.compile.generic_forward import GenericForward
from subterra.compile.learner import forward_of


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    )


def qwen2() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=96, **sizes, **heads))


@pytest.mark.parametrize("build", [gpt2, qwen2])
def test_another_family_is_computed_as_transformers_does(build: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    forward = forward_of(model)
    assert isinstance(forward, GenericForward)
    ids = torch.randint(0, 96, (2, 24))
    with torch.no_grad():
        hidden = forward(ids)
        logits = forward.logits(hidden.flatten(0, 1)).view(2, 24, -1)
        wanted = model(input_ids=ids).logits
    assert (logits - wanted).norm() / wanted.norm() < 0.03
    assert logits.dtype == torch.float32

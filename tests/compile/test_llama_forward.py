"""The lean forward pass is transformers' forward pass: hidden states, logits, gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile.generic_forward import GenericForward
from subterra.compile.learner import forward_of
from subterra.compile.llama_forward import LlamaForward
from subterra.compile.model import load_trainable
from subterra.compile.settings import TrainSettings
from subterra.compile.validate import Forward
from subterra.models.resolve import resolve_base

BF16 = 2.0**-8
"""Relative rounding error of bf16."""
Load = Callable[[str], Any]


@pytest.fixture
def load(tiny_checkpoint: Path) -> Load:
    """Load the tiny base as training does, with an adapter that is not zero."""

    def load(method: str) -> Any:
        settings = TrainSettings(method="lora" if method == "lora" else "full", rank=4, alpha=8)
        model = load_trainable(resolve_base(str(tiny_checkpoint)), settings)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.05)
        return model

    return load


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(3, 250, (2, 48), generator=torch.Generator().manual_seed(0))


def reference(model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Compute hidden states and logits by transformers, in fp32."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.model(input_ids=ids, use_cache=False).last_hidden_state
    return hidden, inner.lm_head(hidden)


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def gradients(model: Any, logits: Tensor, ids: Tensor) -> dict[str, Tensor]:
    loss = functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].flatten()
    )
    torch.autograd.backward(loss)
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def lean(forward: Forward, ids: Tensor) -> Tensor:
    hidden = forward(ids)
    return forward.logits(hidden.flatten(0, 1)).view(*ids.shape, -1)


FORWARDS = [LlamaForward, GenericForward]


@pytest.mark.parametrize("make", FORWARDS, ids=["lean", "generic"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_hidden_states_and_logits_are_those_of_transformers(
    load: Load, ids: Tensor, make: Callable[[Any], Forward], method: str
) -> None:
    model = load(method)
    forward = make(model)
    with torch.no_grad():
        found = forward(ids), lean(forward, ids)
        wanted = reference(model.float(), ids)
        rounded = reference(model.bfloat16(), ids)  # how far bf16 itself leads away
    for mine, theirs, exact in zip(found, rounded, wanted, strict=True):
        assert distance(mine, exact) < 1.3 * distance(theirs, exact) < 10 * BF16


@pytest.mark.parametrize("make", FORWARDS, ids=["lean", "generic"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradients_point_where_those_of_transformers_do(
    load: Load, ids: Tensor, make: Callable[[Any], Forward], method: str
) -> None:
    model = load(method)
    found = gradients(model, lean(make(model), ids), ids)
    wanted = gradients(model, reference(model.float(), ids)[1], ids)
    assert found.keys() == wanted.keys()
    assert len(found) > 10
    for name, gradient in wanted.items():
        cosine = functional.cosine_similarity(found[name].float().flatten(), gradient.flatten(), 0)
        assert cosine > 0.98, name
        assert found[name].norm() / gradient.norm() == pytest.approx(1, abs=0.1), name


def test_the_adapter_counts(load: Load, ids: Tensor) -> None:
    model = load("lora")
    forward = LlamaForward(model)
    with torch.no_grad():
        before = forward(ids)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
        assert distance(forward(ids), before) > 0.05


def test_padding_on_the_right_changes_nothing_before_it(load: Load, ids: Tensor) -> None:
    forward = LlamaForward(load("lora"))
    with torch.no_grad():
        whole = forward(torch.cat((ids, torch.zeros_like(ids)), 1))[:, : ids.shape[1]]
        assert distance(whole, forward(ids)) < BF16


def test_a_token_does_not_see_the_ones_after_it(load: Load, ids: Tensor) -> None:
    forward = LlamaForward(load("lora"))
    other = ids.clone()
    other[:, 20:] = 5
    with torch.no_grad():
        before, after = forward(ids), forward(other)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


@pytest.mark.parametrize("make", FORWARDS, ids=["lean", "generic"])
def test_noise_is_drawn_anew_and_stays_small(
    load: Load, ids: Tensor, make: Callable[[Any], Forward]
) -> None:
    forward = make(load("lora"))
    with torch.no_grad():
        quiet, one, two = forward(ids), forward(ids, noise=5.0), forward(ids, noise=5.0)
    assert not torch.equal(one, two)
    assert 0 < distance(one, quiet) < 1


def test_a_llama_gets_the_lean_forward_and_another_family_the_general_one(load: Load) -> None:
    assert isinstance(forward_of(load("lora")), LlamaForward)
    assert isinstance(forward_of(load("full")), LlamaForward)


@pytest.mark.parametrize("field", ["attention_bias", "mlp_bias", "rope_scaling"])
def test_a_llama_with_something_special_gets_the_general_forward(load: Load, field: str) -> None:
    model = load("full")
    setattr(model.config, field, {"type": "linear"} if field == "rope_scaling" else True)
    assert isinstance(forward_of(model), GenericForward)
    setattr(model.config, field, None)
    model.config.hidden_act = "gelu"
    assert isinstance(forward_of(model), GenericForward)


def test_the_forward_follows_weights_that_training_changes(load: Load, ids: Tensor) -> None:
    for method in ("lora", "full"):
        model = load(method)
        forward = LlamaForward(model)
        with torch.no_grad():
            before = forward(ids)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
            after, wanted = forward(ids), reference(model.float(), ids)[0]
        assert distance(after, before) > 0.1
        assert distance(after, wanted) < 10 * BF16


def test_the_frozen_weights_stay_what_they_were(load: Load) -> None:
    model = load("lora")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    LlamaForward(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_what_is_trained_gets_a_gradient(load: Load, ids: Tensor) -> None:
    model = load("lora")
    LlamaForward(model)(ids).float().square().mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name), name

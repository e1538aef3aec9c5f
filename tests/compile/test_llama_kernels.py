"""The layer's two halves are the textbook's, and their gradients those of finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile import llama_kernels
from subterra.compile.llama_kernels import Attention, Geometry, Linear, Mlp, causal_masks

BATCH, LENGTH, WIDTH, HEADS, KV_HEADS, SIZE, FFN, RANK = 2, 7, 12, 4, 2, 4, 10, 3
EPS = 1e-5
TOTAL = (HEADS + 2 * KV_HEADS) * SIZE
SHAPES = {
    "attention": ((TOTAL, WIDTH), (WIDTH, HEADS * SIZE)),
    "mlp": ((2 * FFN, WIDTH), (WIDTH, FFN)),
}


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_kernels, "QUERIES", 3)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture
def geometry() -> Geometry:
    torch.manual_seed(0)
    angle = torch.outer(torch.arange(LENGTH), torch.tensor([1.0, 0.1])).double()
    return Geometry(
        HEADS,
        KV_HEADS,
        EPS,
        torch.cat((angle.cos(), angle.cos()), -1),
        torch.cat((-angle.sin(), angle.sin()), -1),
        causal_masks(LENGTH, HEADS // KV_HEADS, torch.float64),
    )


def linear(out: int, width: int, *, adapted: bool) -> Linear:
    weight = draw(out, width) * width**-0.5
    if not adapted:
        return Linear(weight)
    return Linear(weight, draw(RANK, width), draw(out, RANK), weight.t().contiguous())


def textbook(x: Tensor, weights: Linear) -> Tensor:
    weight = weights.weight
    if weights.down is not None and weights.up is not None:
        weight = weight + weights.up @ weights.down
    return x @ weight.t()


def attention(x: Tensor, norm: Tensor, qkv: Linear, output: Linear, geometry: Geometry) -> Tensor:
    h = functional.rms_norm(x, (WIDTH,), norm, EPS)
    heads = textbook(h, qkv).view(BATCH, LENGTH, -1, SIZE).transpose(1, 2)
    q, k, v = torch.split(heads, [HEADS, KV_HEADS, KV_HEADS], 1)
    q, k = (
        t * geometry.cos + torch.cat((t[..., SIZE // 2 :], t[..., : SIZE // 2]), -1) * geometry.sin
        for t in (q, k)
    )
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return x + textbook(mixed.transpose(1, 2).flatten(2), output)


def mlp(x: Tensor, norm: Tensor, gate_up: Linear, down: Linear, _: Geometry) -> Tensor:
    gate, up = textbook(functional.rms_norm(x, (WIDTH,), norm, EPS), gate_up).chunk(2, -1)
    return x + textbook(functional.silu(gate) * up, down)


CASES = [(Attention, attention), (Mlp, mlp)]


@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "adapted"])
@pytest.mark.parametrize(("function", "wanted"), CASES, ids=list(SHAPES))
def test_it_is_the_textbook(function: Any, wanted: Any, adapted: bool, geometry: Geometry) -> None:
    first, second = (linear(*shape, adapted=adapted) for shape in SHAPES[wanted.__name__])
    x, norm = draw(BATCH, LENGTH, WIDTH), draw(WIDTH)
    found = function.apply(x, norm, *first, *second, geometry)
    torch.testing.assert_close(found, wanted(x, norm, first, second, geometry))


@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "adapted"])
@pytest.mark.parametrize(("function", "wanted"), CASES, ids=list(SHAPES))
def test_gradients_are_right(function: Any, wanted: Any, adapted: bool, geometry: Geometry) -> None:
    first, second = (linear(*shape, adapted=adapted) for shape in SHAPES[wanted.__name__])
    inputs: Any = [draw(BATCH, LENGTH, WIDTH), draw(WIDTH), *first, *second]
    for i, value in enumerate(inputs):
        frozen = adapted and i in (1, 2, 5, 6, 9)
        if value is not None and not frozen:
            value.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *values: function.apply(*values, geometry), inputs, fast_mode=True
    )


def test_the_future_is_masked_in_every_block() -> None:
    masks = causal_masks(LENGTH, 2, torch.float32)
    assert [tuple(mask.shape) for mask in masks] == [(6, 3), (6, 6), (2, 7)]
    whole = torch.cat(
        [functional.pad(m[: len(m) // 2], (0, LENGTH - m.shape[1]), value=-1.0) for m in masks]
    )
    assert torch.equal(whole == 0, torch.ones(LENGTH, LENGTH).tril().bool())

"""A lean training forward pass for Llama-type models with LoRA, made for two CPU cores.

Goes in: a peft model (Llama architecture, LoRA on all linear layers or none), token ids. Comes out:
hidden states of the last layer, with gradients to the adapter (and to the weights, when they are
trainable). Same mathematics as transformers' forward; what differs is what costs time on a CPU:
bf16 products without casting round each adapter, LoRA added inside the matrix product, attention as
two batched products. Does not know losses or data.

    >>> hidden = LlamaForward(peft_model)(ids)  # (B, T) -> (B, T, C)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
MASKED = -1.0e4
"""Added to the score of a future token; exp() of it is zero in bf16."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the layer needs to know of the architecture."""

    heads: int
    kv_heads: int
    head_size: int
    eps: float
    scale: float
    """LoRA's alpha / r."""


class LlamaForward:
    """Runs the decoder stack of a model in bf16."""

    def __init__(self, model: Any) -> None:
        """Collect the weights of `model` (a peft model, or a plain Llama when all is trained).

        Args:
            model: its base weights should be bf16, the adapter fp32.
        """
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._trunk = base.model
        self._head: nn.Linear = base.lm_head
        config = base.config
        head_size = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        first = _module(self._trunk.layers[0], LINEARS[0])
        scale = float(first.scaling["default"]) if hasattr(first, "scaling") else 0.0
        self._shape = Shape(
            config.num_attention_heads,
            config.num_key_value_heads,
            head_size,
            config.rms_norm_eps,
            scale,
        )
        self._theta = float(config.rope_theta)

    def __call__(self, ids: Tensor, *, noise: float = 0.0) -> Tensor:
        """Compute hidden states after the final norm.

        Args:
            ids: (B, T) token ids, padded on the right (a causal mask needs no other).
            noise: NEFTune alpha (arXiv 2310.05914); uniform noise of size alpha / sqrt(T * C).
        """
        x = functional.embedding(ids, self._trunk.embed_tokens.weight).to(torch.bfloat16)
        length = ids.shape[1]  # x: (B, T, C)
        if noise > 0:
            size = noise / (length * x.shape[2]) ** 0.5
            x = x + torch.empty_like(x).uniform_(-size, size)
        cos, sin = _rotary(length, self._shape.head_size, self._theta)
        mask = torch.full((length, length), MASKED, dtype=torch.bfloat16).triu(1)
        for layer in self._trunk.layers:
            x = _layer(x, _weights(layer), cos, sin, mask, self._shape)
        return _norm(x, self._trunk.norm.weight, self._shape.eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """Project selected hidden states (N, C) on the vocabulary, fp32 (N, V)."""
        return functional.linear(hidden, self._head.weight.to(torch.bfloat16)).float()


def _module(layer: nn.Module, path: str) -> Any:
    for name in path.split("."):
        layer = getattr(layer, name)
    return layer


def _weights(layer: nn.Module) -> list[tuple[Tensor, ...]]:
    norms = (_module(layer, "input_layernorm"), _module(layer, "post_attention_layernorm"))
    weights: list[tuple[Tensor, ...]] = [tuple(norm.weight for norm in norms)]
    for path in LINEARS:
        module = _module(layer, path)
        if hasattr(module, "lora_A"):
            down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
            weights.append((module.base_layer.weight, down, up))
        else:
            weights.append((module.weight,))
    return weights


def _layer(
    x: Tensor,
    weights: list[tuple[Tensor, ...]],
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
    shape: Shape,
) -> Tensor:
    norms, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj = weights
    batch, length, width = x.shape
    h = _norm(x, norms[0], shape.eps).view(batch * length, width)
    q = _linear(h, q_proj, shape.scale).view(batch, length, shape.heads, shape.head_size)
    k = _linear(h, k_proj, shape.scale).view(batch, length, shape.kv_heads, shape.head_size)
    v = _linear(h, v_proj, shape.scale).view(batch, length, shape.kv_heads, shape.head_size)
    mixed = _attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v, mask)
    x = x + _linear(mixed.view(batch * length, -1), o_proj, shape.scale).view_as(x)
    h = _norm(x, norms[1], shape.eps).view(batch * length, width)
    gate = functional.silu(_linear(h, gate_proj, shape.scale))
    return x + _linear(gate * _linear(h, up_proj, shape.scale), down_proj, shape.scale).view_as(x)


def _linear(x: Tensor, weights: tuple[Tensor, ...], scale: float) -> Tensor:
    """Multiply (N, in) by a weight (out, in) plus, if any, its adapter (r, in) and (out, r)."""
    y = x @ weights[0].to(torch.bfloat16).t()
    if len(weights) == 1:
        return y
    low = (x @ weights[1].to(torch.bfloat16).t()) * scale  # (N, r)
    return torch.addmm(y, low, weights[2].to(torch.bfloat16).t())


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * weight.float()).to(torch.bfloat16)


def _rotary(length: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    frequency = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)  # (T, D/2)
    cos = torch.cat((angle.cos(), angle.cos()), -1)[None, :, None]
    sin = torch.cat((-angle.sin(), angle.sin()), -1)[None, :, None]
    return cos.to(torch.bfloat16), sin.to(torch.bfloat16)  # (1, T, 1, D)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (B, T, H, D) by its position; the halves of D are the pairs (GPT-NeoX order)."""
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attend causally; a key head serves a group of query heads: (B, T, H, D) -> (B, T, H * D)."""
    batch, length, heads, size = q.shape
    groups = heads // k.shape[2]
    q = (q * size**-0.5).view(batch, length, -1, groups, size).permute(0, 2, 3, 1, 4)
    q = q.reshape(-1, groups * length, size)  # (B * G, R * T, D)
    k = k.permute(0, 2, 3, 1).reshape(-1, size, length)
    v = v.transpose(1, 2).reshape(-1, length, size)
    scores = torch.bmm(q, k).view(-1, groups, length, length) + mask
    shares = torch.softmax(scores, -1).view(-1, groups * length, length)
    out = torch.bmm(shares, v).view(batch, -1, groups, length, size)
    return out.permute(0, 3, 1, 2, 4).reshape(batch, length, heads * size)

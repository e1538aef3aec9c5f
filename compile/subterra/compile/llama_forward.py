"""A lean training forward pass for Llama-type models with LoRA, made for one or two CPU cores.

Goes in: a peft model (Llama architecture, LoRA on all linear layers or none), token ids. Comes out:
hidden states of the last layer, with gradients to the adapter (and to the weights, when they are
trainable). Same mathematics as transformers' forward; what differs is what costs time on a CPU:
everything in bf16, projections that read the same input stacked into one product, adapters cast
and stacked for all layers at once, layers with hand-written gradients (`llama_kernels`). Does not
know losses or data.

    >>> hidden = LlamaForward(peft_model)(ids)  # (B, T) -> (B, T, C)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from subterra.compile.llama_kernels import Attention, Geometry, Linear, Mlp, causal_masks

STACKS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Projections that read the same input, in the order of the layer."""


class LlamaForward:
    """Runs the decoder stack of a model in bf16."""

    def __init__(self, model: Any) -> None:
        """Collect the weights of `model` (a peft model, or a plain Llama when all is trained).

        Args:
            model: its base weights should be bf16, the adapter fp32. Frozen weights are stacked
                here, once, in two orders (bf16); the model's own become views of the first.
        """
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._trunk = base.model
        self._head: nn.Linear = base.lm_head
        self._config = base.config
        self._stacks = [_Stack(self._trunk.layers, paths) for paths in STACKS]

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
        geometry = _geometry(self._config, length)
        layers = zip(*(stack.layers() for stack in self._stacks), strict=True)
        for layer, (qkv, output, gate_up, down) in zip(self._trunk.layers, layers, strict=True):
            norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            x = _apply(Attention, x, norms[0], *qkv, *output, geometry)
            x = _apply(Mlp, x, norms[1], *gate_up, *down, geometry)
        norm = self._trunk.norm.weight.float()
        return functional.rms_norm(x.float(), norm.shape, norm, geometry.eps).to(x.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Project selected hidden states (N, C) on the vocabulary, fp32 (N, V)."""
        return functional.linear(hidden, self._head.weight.to(torch.bfloat16)).float()


def _apply(function: Any, *args: Any) -> Tensor:
    found: Tensor = function.apply(*args)
    return found


class _Stack:
    """Projections of the same input, of all layers."""

    def __init__(self, layers: nn.ModuleList, paths: Sequence[str]) -> None:
        self._modules: list[list[Any]] = [
            [layer.get_submodule(path) for layer in layers] for path in paths
        ]
        first = self._modules[0][0]
        self._adapted = hasattr(first, "lora_A")
        self._scale = float(first.scaling["default"]) if self._adapted else 1.0
        self._frozen: list[Linear] | None = None
        if not any(w.requires_grad for column in self._weights() for w in column):
            stack = _stacked(self._weights())
            _point(self._weights(), stack)
            self._frozen = [Linear(weight, turned=weight.t().contiguous()) for weight in stack]

    def layers(self) -> list[Linear]:
        """Cast and stack what is trained; give each layer's share."""
        linears = self._frozen
        if linears is None:
            linears = [Linear(weight) for weight in _stacked(self._weights()).unbind()]
        if not self._adapted:
            return linears
        downs = _stacked([[m.lora_A["default"].weight for m in c] for c in self._modules])
        blocks = [torch.stack([m.lora_B["default"].weight for m in c]) for c in self._modules]
        ups = (_diagonal(blocks) * self._scale).to(torch.bfloat16)
        adapters = zip(linears, downs.unbind(), ups.unbind(), strict=True)
        return [linear._replace(down=down, up=up) for linear, down, up in adapters]

    def _weights(self) -> list[list[Tensor]]:
        return [[getattr(m, "base_layer", m).weight for m in c] for c in self._modules]


def _stacked(columns: list[list[Tensor]]) -> Tensor:
    """Stack (O, C) weights of projections and layers: (layers, sum of O, C), bf16."""
    stacks = [torch.stack([w.to(torch.bfloat16) for w in column]) for column in columns]
    return torch.cat(stacks, 1)


def _point(columns: list[list[Tensor]], stack: Tensor) -> None:
    """Make bf16 weights views of their stack, lest they lie in memory twice."""
    start = 0
    for column in columns:
        end = start + column[0].shape[0]
        for i, weight in enumerate(column):
            if weight.dtype == stack.dtype:
                weight.data = stack[i, start:end]
        start = end


def _diagonal(blocks: list[Tensor]) -> Tensor:
    """Put (layers, O, R) blocks on the diagonal: (layers, sum of O, sum of R)."""
    width, start, rows = sum(block.shape[2] for block in blocks), 0, []
    for block in blocks:
        rows.append(functional.pad(block, (start, width - start - block.shape[2])))
        start += block.shape[2]
    return torch.cat(rows, 1)


def _geometry(config: Any, length: int) -> Geometry:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    frequency = config.rope_theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)  # (T, D/2)
    cos = torch.cat((angle.cos(), angle.cos()), -1).to(torch.bfloat16)
    sin = torch.cat((-angle.sin(), angle.sin()), -1).to(torch.bfloat16)
    masks = causal_masks(length, heads // config.num_key_value_heads, torch.bfloat16)
    return Geometry(heads, config.num_key_value_heads, config.rms_norm_eps, cos, sin, masks)

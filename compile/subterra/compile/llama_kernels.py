"""The two halves of a Llama layer as autograd functions with hand-written gradients.

Goes in: hidden states, weights of one layer with their adapters. Comes out: hidden states. On one
CPU core the products are cheap and memory traffic is dear: few passes over few tensors, attention
in blocks of queries that skip the future, no gradient of weights that are frozen. Differentiable
once. Does not know models; runs in any floating type.

    >>> x = Attention.apply(x, norm, *qkv, *output, geometry)
    >>> x = Mlp.apply(x, norm, *gate_up, *down, geometry)
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

QUERIES = 192
"""Queries in a block of attention; keys after the block are never looked at. Of 128, 192 and 352
the quickest for sequences of 352."""
MASKED = -1.0e4
"""Added to the score of a future token; exp() of it is zero."""

Gradient = Tensor | None


class Linear(NamedTuple):
    """A product with (O, C) weights plus, if any, with an adapter of low rank."""

    weight: Tensor
    """(O, C); outputs of several projections may be stacked."""
    down: Tensor | None = None
    """(R, C), LoRA's A."""
    up: Tensor | None = None
    """(O, R), LoRA's B times its scale; block diagonal where projections are stacked."""
    turned: Tensor | None = None
    """(C, O), the weights in the order in which the forward product is a quarter quicker."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a layer needs to know besides its weights."""

    heads: int
    kv_heads: int
    eps: float
    cos: Tensor
    """(T, D)"""
    sin: Tensor
    """(T, D), the first half negative."""
    masks: list[Tensor]
    """See `causal_masks`."""


def causal_masks(length: int, repeats: int, dtype: torch.dtype) -> list[Tensor]:
    """Give what is added to the scores of each block of queries, (R * block, T of its end)."""
    masks = []
    for start in range(0, length, QUERIES):
        end = min(start + QUERIES, length)
        mask = torch.full((end - start, end), MASKED, dtype=dtype).triu(start + 1)
        masks.append(mask.repeat(repeats, 1))
    return masks


class Attention(torch.autograd.Function):
    """x + output(attention(qkv(norm(x)))), (B, T, C) -> (B, T, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Tensor, *rest: Any) -> Tensor:  # noqa: D102
        qkv, output, ctx.geometry = Linear(*rest[:4]), Linear(*rest[4:8]), rest[8]
        rows = x.reshape(-1, x.shape[-1])
        h, inverse = _norm(rows, norm, ctx.geometry.eps)
        y, low = _product(h, qkv)
        heads = _split(y, x.shape[:2], ctx.geometry)
        mixed, shares = _mix(heads, ctx.geometry)
        y, low_output = _product(mixed, output)
        ctx.save_for_backward(
            x, norm, *qkv, *output, h, inverse, low, heads, mixed, low_output, *shares
        )
        return y.add_(rows).view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Gradient, ...]:  # noqa: D102
        x, norm, *rest = ctx.saved_tensors
        qkv, output = Linear(*rest[:4]), Linear(*rest[4:8])
        h, inverse, low, heads, mixed, low_output, *shares = rest[8:]
        needs, rows = ctx.needs_input_grad, x.reshape(-1, x.shape[-1])
        g = gradients[0].reshape(rows.shape)
        g_mixed, g_output = _product_back(g, mixed, low_output, output, needs[6:9])
        g_heads = _mix_back(g_mixed, heads, shares, ctx.geometry)
        g_qkv = _join(g_heads, ctx.geometry)
        g_h, g_qkv_weights = _product_back(g_qkv, h, low, qkv, needs[2:5])
        g_x, g_norm = _norm_back(g_h, rows, norm, inverse, needs[1])
        return g_x.add_(g).view_as(x), g_norm, *g_qkv_weights, *g_output, None


class Mlp(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))), (B, T, C) -> (B, T, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Tensor, *rest: Any) -> Tensor:  # noqa: D102
        gate_up, down, geometry = Linear(*rest[:4]), Linear(*rest[4:8]), rest[8]
        rows = x.reshape(-1, x.shape[-1])
        h, inverse = _norm(rows, norm, geometry.eps)
        both, low = _product(h, gate_up)
        gate, up = both.chunk(2, 1)
        active = functional.silu(gate)
        y, low_down = _product(active * up, down)
        ctx.save_for_backward(x, norm, *gate_up, *down, h, inverse, low, both, active, low_down)
        return y.add_(rows).view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Gradient, ...]:  # noqa: D102
        x, norm, *rest = ctx.saved_tensors
        gate_up, down = Linear(*rest[:4]), Linear(*rest[4:8])
        h, inverse, low, both, active, low_down = rest[8:]
        needs, rows = ctx.needs_input_grad, x.reshape(-1, x.shape[-1])
        g = gradients[0].reshape(rows.shape)
        gate, up = both.chunk(2, 1)
        g_y, g_down = _product_back(g, active * up, low_down, down, needs[6:9])
        g_both = torch.empty_like(both)
        g_gate, g_up = g_both.chunk(2, 1)
        torch.mul(g_y, active, out=g_up)
        torch.ops.aten.silu_backward.grad_input(g_y.mul_(up), gate, grad_input=g_gate)
        g_h, g_gate_up = _product_back(g_both, h, low, gate_up, needs[2:5])
        g_x, g_norm = _norm_back(g_h, rows, norm, inverse, needs[1])
        return g_x.add_(g).view_as(x), g_norm, *g_gate_up, *g_down, None


def _norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Normalise rows (N, C) by their root mean square; give its inverse (N, 1), too."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32), copy=True)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    inverse = norm.square_().div_(x.shape[1]).add_(eps).rsqrt_()
    return wide.mul_(inverse).mul_(weight.to(wide.dtype)).to(x.dtype), inverse


def _norm_back(
    g: Tensor, x: Tensor, weight: Tensor, inverse: Tensor, trained: bool
) -> tuple[Tensor, Gradient]:
    """Take layer norm's gradient at mean zero, and put back what it takes away for the mean."""
    weight = weight.to(inverse.dtype)
    g_x, g_weight, _ = torch.ops.aten.native_layer_norm_backward(
        g, x, x.shape[1:], torch.zeros_like(inverse), inverse, weight, None, [True, trained, False]
    )
    mean = (g @ weight.to(g.dtype))[:, None] * inverse / x.shape[1]
    return g_x.add_(mean.to(g.dtype)), g_weight if trained else None


def _product(x: Tensor, linear: Linear) -> tuple[Tensor, Tensor | None]:
    """Multiply (N, C) -> (N, O); give the adapter's middle (N, R), too."""
    y = x @ (linear.weight.t() if linear.turned is None else linear.turned)
    if linear.down is None or linear.up is None:
        return y, None
    low = x @ linear.down.t()
    return y.addmm_(low, linear.up.t()), low


def _product_back(
    g: Tensor, x: Tensor, low: Tensor | None, linear: Linear, needs: tuple[bool, ...]
) -> tuple[Tensor, tuple[Gradient, ...]]:
    g_x = g @ linear.weight
    g_weight = g.t() @ x if needs[0] else None
    if linear.down is None or linear.up is None or low is None:
        return g_x, (g_weight, None, None, None)
    g_low = g @ linear.up
    g_down = g_low.t() @ x if needs[1] else None
    g_up = (low.t() @ g).t() if needs[2] else None
    return g_x.addmm_(g_low, linear.down), (g_weight, g_down, g_up, None)


def _split(y: Tensor, sizes: torch.Size, geometry: Geometry) -> Tensor:
    """Turn stacked projections (N, O) into (B, H + 2 G, T, D): rotated queries and keys, values."""
    heads = y.view(*sizes, -1, geometry.cos.shape[1]).transpose(1, 2).contiguous()
    turned = geometry.heads + geometry.kv_heads
    _rotate(heads[:, :turned], geometry.cos, geometry.sin)
    heads[:, geometry.heads : turned] *= heads.shape[-1] ** -0.5
    return heads


def _join(heads: Tensor, geometry: Geometry) -> Tensor:
    """Undo `_split`, for gradients (its transpose)."""
    turned = geometry.heads + geometry.kv_heads
    heads[:, geometry.heads : turned] *= heads.shape[-1] ** -0.5
    _rotate(heads[:, :turned], geometry.cos, -geometry.sin)
    return heads.transpose(1, 2).reshape(heads.shape[0] * heads.shape[2], -1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn (B, H, T, D) by its position; the halves of D are the pairs (GPT-NeoX order)."""
    other = x.roll(x.shape[-1] // 2, -1)
    x.mul_(cos).addcmul_(other, sin)


def _views(heads: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """Give queries (B, G, R, T, D), keys and values (B, G, T, D)."""
    groups = geometry.kv_heads
    q, (k, v) = heads[:, : geometry.heads], heads[:, geometry.heads :].chunk(2, 1)
    return q.view(q.shape[0], groups, -1, *q.shape[2:]), k, v


def _mix(heads: Tensor, geometry: Geometry) -> tuple[Tensor, list[Tensor]]:
    """Attend causally, block by block; a key head serves R query heads.

    Returns:
        (B * T, H * D), and the shares of each block (B * G, R * block, T of its end).
    """
    q, k, v = _views(heads, geometry)
    batch, groups, repeats, length, size = q.shape
    k, v = k.flatten(0, 1).transpose(1, 2).contiguous(), v.flatten(0, 1)
    mixed = heads.new_empty(batch, length, groups, repeats, size)
    kept = []
    for mask in geometry.masks:
        end = mask.shape[1]
        part = slice(end - mask.shape[0] // repeats, end)
        block = q[:, :, :, part].reshape(batch * groups, -1, size)
        shares = torch.baddbmm(mask, block, k[:, :, :end]).softmax(-1)
        out = torch.bmm(shares, v[:, :end]).view(batch, groups, repeats, -1, size)
        mixed[:, part] = out.permute(0, 3, 1, 2, 4)
        kept.append(shares)
    return mixed.view(batch * length, -1), kept


def _mix_back(g: Tensor, heads: Tensor, shares: list[Tensor], geometry: Geometry) -> Tensor:
    """Give the gradient with respect to `heads`, given that of `_mix`'s result."""
    q, k, v = _views(heads, geometry)
    batch, groups, repeats, length, size = q.shape
    k, v = k.flatten(0, 1), v.flatten(0, 1).transpose(1, 2).contiguous()
    g = g.view(batch, length, groups, repeats, size).permute(0, 2, 3, 1, 4)
    g_heads = torch.empty_like(heads)
    g_q, g_k, g_v = _views(g_heads, geometry)
    sum_k, sum_v = torch.zeros_like(k), torch.zeros_like(k)
    for share in shares:
        end = share.shape[2]
        part = slice(end - share.shape[1] // repeats, end)
        block = q[:, :, :, part].reshape(batch * groups, -1, size)
        g_out = g[:, :, :, part].reshape(batch * groups, -1, size)
        sum_v[:, :end] += torch.bmm(share.transpose(1, 2), g_out)
        g_share = torch.bmm(g_out, v[:, :, :end])
        g_scores = torch.ops.aten._softmax_backward_data(g_share, share, -1, share.dtype)
        sum_k[:, :end] += torch.bmm(g_scores.transpose(1, 2), block)
        g_block = torch.bmm(g_scores, k[:, :end])
        g_q[:, :, :, part] = g_block.view(batch, groups, repeats, -1, size)
    g_k.copy_(sum_k.view_as(g_k))
    g_v.copy_(sum_v.view_as(g_v))
    return g_heads

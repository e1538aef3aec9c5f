"""Read a trusted llama-architecture GGUF back into Hugging Face tensor names and plain numbers.

Goes in: a GGUF whose sha256 has been checked (the reader hangs on hostile files, so nothing else).
Comes out: metadata and dequantised tensors. Does not know where the file came from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.errors import MissingExtraError

FloatArray = NDArray[np.float32]

TENSOR_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class GgufSource:
    """An open GGUF: metadata by key, tensors one at a time."""

    metadata: dict[str, object]
    path: Path

    def number(self, key: str) -> float:
        """Return a numeric metadata value."""
        return float(cast("float", self.metadata[key]))

    def strings(self, key: str) -> list[str]:
        """Return a metadata array of strings."""
        return cast("list[str]", self.metadata[key])

    def integers(self, key: str) -> list[int]:
        """Return a metadata array of integers."""
        return cast("list[int]", self.metadata[key])

    def tensors(self) -> Iterator[tuple[str, FloatArray]]:
        """Yield every tensor under its Hugging Face name, dequantised to fp32, (out, in)."""
        import gguf

        heads = {
            "attn_q": int(self.number("llama.attention.head_count")),
            "attn_k": int(self.number("llama.attention.head_count_kv")),
        }
        for tensor in gguf.GGUFReader(self.path).tensors:
            values: FloatArray = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            part = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
            if part in heads:
                values = unpermuted(values, heads[part])
            yield hugging_face_name(tensor.name), np.ascontiguousarray(values, dtype=np.float32)


def read_gguf(path: Path) -> GgufSource:
    """Read the metadata of a trusted GGUF.

    Raises:
        MissingExtraError: the `gguf` package is not installed.
    """
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError("gguf", "compile") from error
    reader = gguf.GGUFReader(path)
    return GgufSource({key: field.contents() for key, field in reader.fields.items()}, path)


def hugging_face_name(name: str) -> str:
    """Translate `blk.3.attn_q.weight` into `model.layers.3.self_attn.q_proj.weight`."""
    if name in TENSOR_NAMES:
        return TENSOR_NAMES[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{BLOCK_NAMES[part]}.{kind}"


def unpermuted(weight: FloatArray, heads: int) -> FloatArray:
    """Undo llama.cpp's interleaving of the rotary halves: (out, in), out = heads * head size."""
    half = weight.shape[0] // heads // 2
    paired = weight.reshape(heads, half, 2, *weight.shape[1:])
    return paired.swapaxes(1, 2).reshape(weight.shape)

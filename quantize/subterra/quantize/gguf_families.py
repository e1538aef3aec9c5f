"""The table of model families that can be exported to GGUF, one entry each.

Goes in: a checkpoint's `config.json`. Comes out: its family: name in GGUF, tensors, sizes.
To add a family, add a line to FAMILIES; the tests export and compare every line of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subterra.models.gguf_source import BLOCK_NAMES, TENSOR_NAMES
from subterra.runtime.errors import ExportError

if TYPE_CHECKING:
    from gguf import GGUFWriter

IGNORED = ("rotary_emb.inv_freq",)
"""Ends of tensor names that are computed, not learnt."""


SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
)
"""Config keys without which nothing can be exported."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one Hugging Face architecture is written in GGUF."""

    architecture: str
    """Name in GGUF (`general.architecture`)."""
    block: Mapping[str, str]
    """Tensors of a layer: name in GGUF -> name in the checkpoint."""
    heads_key: Mapping[str, str]
    """Tensors whose rotary halves are interleaved -> config key of their number of heads."""
    refused: Mapping[str, object]
    """Config keys -> the only value that is supported, where the checkpoint has the key."""

    def tensor_names(
        self, config: Mapping[str, Any], present: set[str], folder: Path
    ) -> dict[str, str]:
        """Return name in GGUF -> name in the checkpoint, in the order of the file.

        Raises:
            ExportError: the checkpoint lacks a tensor, or has one that has no place.
        """
        layers = range(int(config["num_hidden_layers"]))
        tied = bool(config.get("tie_word_embeddings")) or "lm_head.weight" not in present
        outer = {k: v for k, v in TENSOR_NAMES.items() if not (tied and k == "output.weight")}
        names = {"token_embd.weight": outer.pop("token_embd.weight")}
        for layer in layers:
            for part, name in self.block.items():
                names[f"blk.{layer}.{part}.weight"] = f"model.layers.{layer}.{name}.weight"
        names.update(outer)
        missing = [name for name in names.values() if name not in present]
        allowed = {*names.values(), "lm_head.weight"}
        foreign = [n for n in sorted(present - allowed) if not n.endswith(IGNORED)]
        if missing or foreign:
            what = f"lacks {missing[0]}" if missing else f"has the unknown tensor {foreign[0]}"
            raise ExportError(
                f"{folder} {what} ({len(missing)} missing, {len(foreign)} unknown)",
                hint="export the merged checkpoint: subterra merge",
            )
        return names

    def permuted(
        self, name: str, values: NDArray[np.float32], config: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        """Interleave the rotary halves of queries and keys: (heads * 2 * half, in), same shape."""
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if part not in self.heads_key:
            return values
        heads = int(config.get(self.heads_key[part]) or config["num_attention_heads"])
        halves = values.reshape(heads, 2, -1, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)

    def add_sizes(self, writer: "GGUFWriter", config: Mapping[str, Any]) -> None:
        """Write the hyperparameters that llama.cpp needs."""
        heads = int(config["num_attention_heads"])
        head_size = int(config.get("head_dim") or config["hidden_size"] // heads)
        writer.add_vocab_size(int(config["vocab_size"]))
        writer.add_context_length(int(config["max_position_embeddings"]))
        writer.add_embedding_length(int(config["hidden_size"]))
        writer.add_block_count(int(config["num_hidden_layers"]))
        writer.add_feed_forward_length(int(config["intermediate_size"]))
        writer.add_head_count(heads)
        writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
        writer.add_key_length(head_size)
        writer.add_value_length(head_size)
        writer.add_rope_dimension_count(head_size)
        writer.add_rope_freq_base(float(config.get("rope_theta", 10000.0)))
        writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))


FAMILIES = {
    "LlamaForCausalLM": Family(
        architecture="llama",
        block=BLOCK_NAMES,
        heads_key={"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"},
        refused={
            "attention_bias": False,
            "mlp_bias": False,
            "rope_scaling": None,
            "hidden_act": "silu",
        },
    ),
}
"""Architecture in `config.json` -> family."""


def family_of(config: Mapping[str, Any], folder: Path) -> Family:
    """Find the family of a checkpoint.

    Raises:
        ExportError: the architecture or one of its options is unsupported, or a size is missing.
    """
    architecture = str((config.get("architectures") or ["none"])[0])
    family = FAMILIES.get(architecture)
    if family is None:
        raise ExportError(
            f"{folder}: architecture {architecture} has no GGUF export; "
            f"supported: {', '.join(FAMILIES)}",
            hint="choose another --base, or ship the ONNX variants only",
        )
    for key, value in family.refused.items():
        if config.get(key, value) != value:
            raise ExportError(
                f"{folder}: {architecture} with {key} = {config[key]!r} has no GGUF export; "
                f"supported: {key} = {value!r}",
                hint="choose another --base, or ship the ONNX variants only",
            )
    if absent := [key for key in SIZES if not isinstance(config.get(key), int | float)]:
        raise ExportError(
            f"{folder / 'config.json'} lacks {', '.join(absent)}", hint="restore the checkpoint"
        )
    return family

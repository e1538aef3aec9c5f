"""Shared fixtures: a seeded two-layer model with everything a real checkpoint has."""

import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

TINY_WORDS = ["the", "and", "sound", "video", "start", "end", "user", "assistant", "system"]
TINY_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a llama checkpoint of 2 layers: ChatML specials at 1 and 2, a token for each byte."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    folder.mkdir()
    vocab_size = write_tiny_tokenizer(folder)
    config = LlamaConfig(
        **TINY_SIZES,
        vocab_size=vocab_size,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        initializer_range=0.25,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(config).half().float()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tiny_checkpoint: Path) -> Path:
    """Return the F16 GGUF of `tiny_checkpoint`."""
    pytest.importorskip("gguf")
    from subterra.quantize.gguf_export import export_gguf

    return export_gguf(tiny_checkpoint, tiny_checkpoint.parent / "F16.gguf")


class LlamaReference:
    """llama.cpp with a fp32 cache and nothing else on top: tokens and logits to compare with."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self.llama = llama_cpp
        llama_cpp.llama_backend_init()
        self.silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silent, None)
        settings = llama_cpp.llama_model_default_params()
        settings.use_extra_bufts = False  # AMX kernels fault on some virtual machines
        self.model = llama_cpp.llama_model_load_from_file(bytes(path), settings)
        assert self.model, f"llama.cpp does not load {path}"
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self.llama.llama_tokenize(
            self.vocabulary, data, len(data), tokens, room, False, parse_special
        )
        assert count >= 0
        return list(tokens[:count])

    def logits(self, tokens: list[int]) -> NDArray[np.float32]:
        """Return the logits of every position, (T, V)."""
        llama, count = self.llama, len(tokens)
        settings = llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = max(count, 32)
        settings.n_threads = settings.n_threads_batch = 2
        settings.type_k = settings.type_v = 0  # F32
        settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = llama.llama_init_from_model(self.model, settings)
        batch = llama.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = True
        assert llama.llama_decode(context, batch) == 0
        pointer = llama.llama_get_logits(context)
        values = np.ctypeslib.as_array(pointer, shape=(count, self.vocab_size)).copy()
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        return values

    def close(self) -> None:
        self.llama.llama_model_free(self.model)


@pytest.fixture
def open_llama() -> Iterator[Callable[[Path], Any]]:
    """Open GGUFs in llama.cpp; they are closed after the test."""
    pytest.importorskip("llama_cpp")
    opened: list[LlamaReference] = []

    def opener(path: Path) -> LlamaReference:
        opened.append(LlamaReference(path))
        return opened[-1]

    yield opener
    for reference in opened:
        reference.close()


@pytest.fixture(scope="session")
def real_base() -> Path:
    """Return the checkpoint folder of the packaged base model (slow tests only)."""
    from subterra.models.resolve import resolve_base

    return resolve_base("smollm2-135m-instruct").path


def write_tiny_tokenizer(folder: Path) -> int:
    """Write a byte-level BPE that splits like the real base; return the number of rows."""
    from tokenizers import pre_tokenizers

    from subterra.models.tokenizer import CONTROL, NORMAL, byte_level_tokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[str] = []
    for word in TINY_WORDS:
        for text in (word, f"Ġ{word}"):
            for length in range(2, len(text) + 1):
                if text[:length] not in tokens:
                    tokens.append(text[:length])
                    merges.append(f"{text[: length - 1]} {text[length - 1]}")
    kinds = [CONTROL] * len(special) + [NORMAL] * (len(tokens) - len(special))
    tokenizer = byte_level_tokenizer(tokens, kinds, merges, "smollm")
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special[1],
        "eos_token": special[2],
        "pad_token": special[0],
        "additional_special_tokens": special,
        "chat_template": CHATML_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return -(-len(tokens) // 32) * 32

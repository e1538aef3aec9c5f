"""The packaged GGUF is checked, unpacked once, and never half-way."""

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from subterra.models import checkpoint
from subterra.models.catalogue import BaseModel, base_model
from subterra.models.checkpoint import cache_folder, checkpoint_folder, materialise
from subterra.models.gguf_source import read_gguf
from subterra.models.resolve import packaged_file
from subterra.runtime.errors import BaseModelError, ResourceError
from subterra.runtime.files import sha256_file

BASE = base_model("smollm2-135m-instruct")


@pytest.fixture
def tiny_base(tiny_gguf: Path, tiny_checkpoint: Path) -> BaseModel:
    """Return a catalogue entry whose packaged file is the tiny GGUF."""
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    return replace(
        BASE,
        id="tiny",
        bytes=tiny_gguf.stat().st_size,
        sha256=sha256_file(tiny_gguf),
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        key_value_heads=config["num_key_value_heads"],
        vocab_size=config["vocab_size"],
        context_tokens=config["max_position_embeddings"],
    )


def test_unpacking_a_gguf_gives_back_the_checkpoint_it_came_from(
    tiny_base: BaseModel, tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = materialise(tiny_base, tiny_gguf, tmp_path)
    original = load_file(tiny_checkpoint / "model.safetensors")
    unpacked = load_file(folder / "model.safetensors")
    assert unpacked.keys() == original.keys()
    for name, values in original.items():
        np.testing.assert_array_equal(unpacked[name].astype(np.float32), values, err_msg=name)


def test_the_checkpoint_loads_with_the_right_specials_and_template(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoTokenizer

    folder = materialise(tiny_base, tiny_gguf, tmp_path)
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])
    assert ids[0] == 1
    assert ids[-2] == 2
    assert not list(folder.glob("*.gguf"))
    assert not (folder / "tokenizer.model").exists()


def test_a_second_call_and_a_concurrent_call_unpack_nothing(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = checkpoint._write_checkpoint

    def counted(*arguments: Any) -> None:
        written.append(arguments)
        write(*arguments)

    monkeypatch.setattr(checkpoint, "_write_checkpoint", counted)
    threads = [
        threading.Thread(target=materialise, args=(tiny_base, tiny_gguf, tmp_path))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    materialise(tiny_base, tiny_gguf, tmp_path)
    assert len(written) == 1


def test_what_a_killed_run_left_is_removed(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path
) -> None:
    folder = checkpoint_folder(tiny_base, tmp_path)
    leftover = folder.with_name(f".{folder.name}.abc.part")
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_text("half")
    assert materialise(tiny_base, tiny_gguf, tmp_path) == folder
    assert not leftover.exists()


def test_a_truncated_gguf_is_refused_before_it_is_read(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="truncated or changed") as error:
        materialise(tiny_base, cut, tmp_path / "cache")
    assert f"--no-deps {tiny_base.package}" in error.value.hint
    assert not checkpoint_folder(tiny_base, tmp_path / "cache").exists()


def test_a_changed_gguf_is_refused_by_its_sha256(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path
) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    data[-1] ^= 1
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(data)
    with pytest.raises(BaseModelError, match="has sha256"):
        materialise(tiny_base, changed, tmp_path / "cache")


def test_a_full_disk_leaves_no_checkpoint_behind(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_checkpoint", full)
    with pytest.raises(ResourceError, match="no space left"):
        materialise(tiny_base, tiny_gguf, tmp_path)
    assert [p.name for p in (tmp_path / "models").iterdir() if not p.name.endswith(".lock")] == []


def test_a_cache_that_cannot_be_written_names_the_variable(
    tiny_base: BaseModel, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ResourceError, match="Read-only") as error:
        materialise(tiny_base, tiny_gguf, tmp_path)
    assert "SUBTERRA_CACHE" in error.value.hint


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.delenv("SUBTERRA_CACHE", raising=False)
    assert cache_folder() == Path("/xdg/subterra")
    monkeypatch.setenv("SUBTERRA_CACHE", "/own")
    assert cache_folder() == Path("/own")


@pytest.mark.slow
def test_the_catalogue_agrees_with_the_packaged_file() -> None:
    found = read_gguf(packaged_file(BASE)).metadata
    expected = {
        "general.license": BASE.licence.lower(),
        "general.architecture": BASE.architecture,
        "llama.embedding_length": BASE.hidden_size,
        "llama.feed_forward_length": BASE.intermediate_size,
        "llama.block_count": BASE.layers,
        "llama.attention.head_count": BASE.heads,
        "llama.attention.head_count_kv": BASE.key_value_heads,
        "llama.context_length": BASE.context_tokens,
        "llama.vocab_size": BASE.vocab_size,
        "tokenizer.ggml.eos_token_id": BASE.end_of_turn_id,
    }
    assert {key: found[key] for key in expected} == expected
    tokens = read_gguf(packaged_file(BASE)).strings("tokenizer.ggml.tokens")
    for text, index in (
        (BASE.start_of_turn, BASE.start_of_turn_id),
        (BASE.end_of_turn, BASE.end_of_turn_id),
        (BASE.pad, BASE.pad_id),
    ):
        assert tokens[index] == text


@pytest.mark.slow
def test_the_unpacked_base_speaks_like_the_packaged_file(
    real_base: Path, open_llama: Callable[[Path], Any]
) -> None:
    """llama.cpp rounds activations to 8 bits for Q4_1 weights, so this is near, not equal."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = load_file(real_base / "model.safetensors")
    assert sum(values.size for values in weights.values()) == BASE.parameters
    tokenizer = AutoTokenizer.from_pretrained(real_base)
    tokens = tokenizer(Path(__file__).read_text(encoding="utf-8"))["input_ids"][:256]
    model = AutoModelForCausalLM.from_pretrained(real_base, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    found = torch.from_numpy(open_llama(packaged_file(BASE)).logits(tokens)).log_softmax(-1)
    divergence = (expected.exp() * (expected - found)).sum(-1).mean().item()
    same_top = (expected.argmax(-1) == found.argmax(-1)).double().mean().item()
    assert divergence < 0.01
    assert same_top > 0.95

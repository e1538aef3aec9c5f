"""A checkpoint and its F16 GGUF are the same model: tokens, logits, greedy text."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from subterra.quantize.gguf_export import export_gguf
from subterra.quantize.gguf_families import FAMILIES
from subterra.runtime.errors import BaseModelError, ExportError, ResourceError

PROMPT = [1, *range(40, 60), 2, 1, 7, 8, 9, 300, 12]
CHATS = [
    "My microphone does not work in Zoom on Windows.",
    "Write two sentences about the sea.",
    "error 5003?? 3x already",
    "Explain what a router does.",
    "音声が聞こえません",
]


def torch_logits(folder: Path, tokens: list[int]) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        values: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()  # (T, V)
    return values


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def changed_config(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_logits_of_an_f32_export_equal_those_of_torch(
    tiny_checkpoint: Path, tmp_path: Path, open_llama: Callable[[Path], Any]
) -> None:
    exact = export_gguf(tiny_checkpoint, tmp_path / "F32.gguf", precision="F32")
    expected = torch_logits(tiny_checkpoint, PROMPT)
    assert relative_error(open_llama(exact).logits(PROMPT), expected) < 1e-5


def test_logits_of_the_f16_export_differ_by_rounded_activations_only(
    tiny_checkpoint: Path, tiny_gguf: Path, open_llama: Callable[[Path], Any]
) -> None:
    """llama.cpp rounds activations to F16; a random tiny model amplifies that more than a real."""
    expected = torch_logits(tiny_checkpoint, PROMPT)
    found = open_llama(tiny_gguf).logits(PROMPT)
    assert relative_error(found, expected) < 5e-3
    assert (found.argmax(-1) == expected.argmax(-1)).all()


def test_untied_embeddings_and_bf16_weights_survive(
    copy: Path, tmp_path: Path, open_llama: Callable[[Path], Any]
) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(copy, tie_word_embeddings=False, num_key_value_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(config).bfloat16().save_pretrained(copy)
    gguf = export_gguf(copy, tmp_path / "untied.gguf", precision="F32")
    assert relative_error(open_llama(gguf).logits(PROMPT), torch_logits(copy, PROMPT)) < 1e-5


def test_special_tokens_template_and_provenance_are_written(copy: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    note = {
        "name": "zoom_support",
        "base": {"id": "smollm2-135m-instruct", "sha256": "ab" * 32},
        "adapter_sha256": "cd" * 32,
        "recipe": "traced",
        "system": "You are secret.",
        "nodes": ["fix_audio"],
    }
    (copy / "subterra.json").write_text(json.dumps(note))
    fields = GGUFReader(export_gguf(copy, tmp_path / "x.gguf")).fields
    found = {key: field.contents() for key, field in fields.items()}
    assert found["tokenizer.ggml.pre"] == "smollm"
    assert found["tokenizer.ggml.bos_token_id"] == 1
    assert found["tokenizer.ggml.eos_token_id"] == found["tokenizer.ggml.eot_token_id"] == 2
    assert found["tokenizer.ggml.padding_token_id"] == 0
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert "<|im_end|>" in found["tokenizer.chat_template"]
    assert found["general.license"] == "apache-2.0"
    assert found["subterra.base.sha256"] == "ab" * 32
    assert found["subterra.adapter.sha256"] == "cd" * 32
    assert b"secret" not in (tmp_path / "x.gguf").read_bytes()
    assert b"fix_audio" not in (tmp_path / "x.gguf").read_bytes()


def test_the_same_input_gives_the_same_bytes(
    tiny_checkpoint: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    again = export_gguf(tiny_checkpoint, tmp_path / "again.gguf")
    assert again.read_bytes() == tiny_gguf.read_bytes()


def test_an_unsupported_architecture_is_named_with_the_supported_ones(
    copy: Path, tmp_path: Path
) -> None:
    changed_config(copy, architectures=["MambaForCausalLM"])
    with pytest.raises(ExportError, match="MambaForCausalLM") as error:
        export_gguf(copy, tmp_path / "x.gguf")
    assert all(name in str(error.value) for name in FAMILIES)
    assert error.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"hidden_act": "gelu"},
        {"hidden_size": None},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"vocab_size": 300},
    ],
)
def test_what_the_config_asks_and_the_exporter_cannot_do_is_refused(
    changes: dict[str, object], copy: Path, tmp_path: Path
) -> None:
    changed_config(copy, **changes)
    with pytest.raises(ExportError) as error:
        export_gguf(copy, tmp_path / "x.gguf")
    assert error.value.hint
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_beyond_f16_are_refused(value: float, copy: Path, tmp_path: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"blk\.1\.ffn_up"):
        export_gguf(copy, tmp_path / "x.gguf")
    assert list(tmp_path.glob("*.gguf")) == []


def test_an_adapter_left_unmerged_is_refused(copy: Path, tmp_path: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.lora_A.weight"] = np.ones((2, 2), np.float32)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match="lora_A") as error:
        export_gguf(copy, tmp_path / "x.gguf")
    assert "subterra merge" in error.value.hint


def test_a_tokenizer_that_llama_cpp_would_split_otherwise_is_refused(
    copy: Path, tmp_path: Path
) -> None:
    path = copy / "tokenizer.json"
    document = json.loads(path.read_text())
    document["pre_tokenizer"] = {"type": "Whitespace"}
    path.write_text(json.dumps(document))
    with pytest.raises(ExportError, match="Whitespace"):
        export_gguf(copy, tmp_path / "x.gguf")


def test_a_truncated_checkpoint_is_refused(copy: Path, tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BaseModelError, match="truncated"):
        export_gguf(copy, tmp_path / "x.gguf")


def test_a_full_disk_leaves_the_old_file(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf import GGUFWriter

    def full(*_: object) -> None:
        raise OSError("4096 requested and 12 written")

    target = tmp_path / "x.gguf"
    target.write_text("old")
    monkeypatch.setattr(GGUFWriter, "write_tensor_data", full)
    with pytest.raises(ResourceError, match="no space left"):
        export_gguf(tiny_checkpoint, target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]


@pytest.mark.slow
def test_the_real_base_keeps_logits_and_greedy_text(
    real_base: Path, tmp_path: Path, open_llama: Callable[[Path], Any]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    llama = open_llama(export_gguf(real_base, tmp_path / "F16.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(real_base)
    model = AutoModelForCausalLM.from_pretrained(real_base, dtype=torch.float32).eval()
    for text in CHATS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )
        whole = model.generate(prompt, max_new_tokens=40, do_sample=False)
        with torch.no_grad():
            expected = model(whole).logits[0].numpy()
        tokens = whole[0].tolist()
        found = llama.logits(tokens)
        assert relative_error(found, expected) < 3e-3, text
        reply = tokens[prompt.shape[1] :]
        greedy = found[prompt.shape[1] - 1 : -1].argmax(-1).tolist()
        assert greedy == reply, text

"""Engines on the tiny model, one for each backend."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from subterra.runtime.engine import Engine, open_engine

OpenTiny = Callable[..., Engine]


@pytest.fixture(scope="session")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every byte is a token; ids 0 to 2 are special as in SmolLM2, `<tool>` is merely added."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: token for token, text in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path) -> Path:
    """Export `tiny_checkpoint` as an fp32 ONNX folder."""
    pytest.importorskip("optimum.exporters.onnx")
    from subterra.quantize.onnx_export import export_onnx

    folder = tiny_checkpoint.parent / "onnx-fp32"
    export_onnx(tiny_checkpoint, folder)
    return folder


@pytest.fixture(params=["llama.cpp", "onnxruntime"])
def open_tiny(request: pytest.FixtureRequest) -> Iterator[OpenTiny]:
    """Open the tiny model in each engine; closed after the test."""
    name: str = request.param
    if name == "llama.cpp":
        pytest.importorskip("llama_cpp")
    path: Path = request.getfixturevalue("tiny_gguf" if name == "llama.cpp" else "tiny_onnx")
    opened: list[Engine] = []

    def opener(context_tokens: int = 256) -> Engine:
        opened.append(open_engine(name, path, context_tokens=context_tokens, threads=1))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.close()

"""What is particular to ONNX Runtime: graphs that are no decoders, chunks, cached values."""

import itertools
import os
from pathlib import Path

import pytest

from subterra.runtime.errors import EngineError
from subterra.runtime.onnx import CHUNK_TOKENS, OnnxEngine

TELEMETRY = "ORT_DISABLE_TELEMETRY"


def test_telemetry_is_off_before_the_library_is_imported() -> None:
    assert os.environ[TELEMETRY] == "1"


def test_the_shapes_come_from_the_graph(tiny_onnx: Path) -> None:
    engine = OnnxEngine(tiny_onnx, context_tokens=128, threads=1)
    graph = engine._open_graph()
    assert graph.past_shapes == {
        f"past_key_values.{layer}.{kind}": (2, 16) for layer in (0, 1) for kind in ("key", "value")
    }
    engine.close()


def test_cancelling_works_between_the_chunks_of_a_prompt(tiny_onnx: Path) -> None:
    engine = OnnxEngine(tiny_onnx, context_tokens=1024, threads=1)
    asked = itertools.count()
    prompt = [10] * (4 * CHUNK_TOKENS)
    reply = engine.generate(prompt, max_tokens=4, stop=[], cancel=lambda: next(asked) >= 2)
    assert list(reply) == []
    assert len(engine._cache.tokens) == 2 * CHUNK_TOKENS
    engine.close()


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, tiny_onnx: Path) -> None:
    with pytest.raises(EngineError, match="no model at"):
        OnnxEngine(tmp_path)
    file = tmp_path / "model.onnx"
    for content in (b"", b"hello", (tiny_onnx / "model.onnx").read_bytes()[:5000]):
        file.write_bytes(content)
        with pytest.raises(EngineError) as caught:
            OnnxEngine(tmp_path)
        assert caught.value.hint


def test_a_graph_without_a_cache_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input_ids"], ["logits"], to=kinds.FLOAT)],
        "plain",
        [helper.make_tensor_value_info("input_ids", kinds.INT64, [1, None])],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, [1, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="not a decoder with a cache"):
        OnnxEngine(tmp_path)

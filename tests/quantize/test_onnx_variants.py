import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from subterra.quantize import onnx_export
from subterra.quantize.onnx_export import export_onnx, run_graph, session
from subterra.quantize.onnx_quantize import (
    DATA_FILE,
    initializer_bytes,
    load_graph,
    quantize_onnx,
    save_graph,
)
from subterra.quantize.onnx_vocabulary import (
    BLOCK,
    EMBEDDING_CODES,
    head_name,
    quantize_table,
    shrink_vocabulary,
)
from subterra.quantize.torch_reference import TorchReference, load_model
from subterra.runtime.engine import open_engine
from subterra.runtime.errors import EngineError, ExportError, ModelError

TOKENS = [1, 17, 40, 33, 90, 8, 61, 2, 5, 1, 77, 21]


@pytest.fixture(scope="module")
def fp32(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("onnx") / "onnx-fp32"
    export_onnx(tiny_checkpoint, target)
    return target


def logits(folder: Path, tokens: Sequence[int] = TOKENS) -> NDArray[np.float32]:
    return run_graph(session(folder / "model.onnx", 1), np.array(tokens, np.int64), split=8)


def test_the_export_agrees_with_torch_with_and_without_cache(
    fp32: Path, tiny_checkpoint: Path
) -> None:
    measured = json.loads((fp32 / "export.json").read_text())
    assert measured["max_logit_difference"] < 1e-3
    assert measured["same_top"] == 1.0
    expected = TorchReference(tiny_checkpoint).logits(TOKENS)
    np.testing.assert_allclose(logits(fp32), expected, atol=1e-3)


def test_only_what_an_engine_reads_is_kept(fp32: Path) -> None:
    names = {file.name for file in fp32.iterdir()}
    required = {"model.onnx", "config.json", "tokenizer.json", "export.json"}
    assert required <= names <= required | {"generation_config.json"}
    assert not list(fp32.parent.glob(".*"))


def test_a_tied_table_is_stored_once(fp32: Path, tiny_checkpoint: Path) -> None:
    parameters = sum(p.numel() for p in load_model(tiny_checkpoint).parameters())
    assert initializer_bytes(fp32) < 4 * parameters * 1.05


@pytest.mark.parametrize(("kind", "limit"), [("int8", 0.1), ("int4", 2.0)])
def test_a_quantized_graph_is_smaller_and_stays_close(
    fp32: Path, tmp_path: Path, kind: str, limit: float
) -> None:
    target = tmp_path / kind
    quantize_onnx(fp32, target, kind)  # type: ignore[arg-type]
    assert initializer_bytes(target) < initializer_bytes(fp32) / 3
    difference = np.abs(logits(target) - logits(fp32))
    assert 0 < difference.mean() < limit
    assert {f.name for f in target.iterdir()} == {f.name for f in fp32.iterdir()} - {"export.json"}


def test_the_engine_of_the_runtime_runs_every_kind(fp32: Path, tmp_path: Path) -> None:
    quantize_onnx(fp32, tmp_path / "int4", "int4")
    for folder in (fp32, tmp_path / "int4"):
        engine = open_engine("onnxruntime", folder, context_tokens=64, threads=1)
        np.testing.assert_allclose(engine.logits(TOKENS), logits(folder), atol=0.05)
        assert len(list(engine.generate(TOKENS, max_tokens=4, stop=()))) == 4
        engine.close()


def test_quantizing_twice_gives_the_same_bytes(fp32: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        quantize_onnx(fp32, tmp_path / name, "int4")
    first, second = ((tmp_path / n / "model.onnx").read_bytes() for n in ("a", "b"))
    assert first == second


def test_a_table_in_blocks_is_off_by_at_most_half_a_step() -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (50, 3 * BLOCK)).astype(np.float32)
    matrix[7] = 0.0
    table = quantize_table(matrix)
    step = np.repeat(table.scales, BLOCK, axis=1)
    assert (np.abs(table.dequantized() - matrix) <= step / 2 + 1e-7).all()
    assert (table.dequantized()[7] == 0).all()


def test_a_hidden_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ExportError, match="hidden size 40 is not a multiple of 32"):
        quantize_table(np.zeros((4, 40), np.float32))


def test_an_untied_head_keeps_its_own_table(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    model = load_model(tiny_checkpoint)
    model.config.tie_word_embeddings = False
    untied = LlamaForCausalLM(model.config)
    untied.load_state_dict(model.state_dict())
    untied.lm_head.weight.data = untied.lm_head.weight.data.flip(0).clone()
    untied.save_pretrained(tmp_path / "merged")
    shutil.copy(tiny_checkpoint / "tokenizer.json", tmp_path / "merged")
    export_onnx(tmp_path / "merged", tmp_path / "fp32")
    quantize_onnx(tmp_path / "fp32", tmp_path / "int8", "int8")
    names = {t.name for t in load_graph(tmp_path / "int8" / "model.onnx").graph.initializer}
    assert {EMBEDDING_CODES, "subterra_head_codes"} <= names
    assert np.abs(logits(tmp_path / "int8") - logits(tmp_path / "fp32")).mean() < 0.1


def test_weights_past_the_limit_of_one_message_go_to_a_data_file(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subterra.quantize.onnx_quantize.SINGLE_FILE_LIMIT", 1000)
    model = load_graph(fp32 / "model.onnx")
    save_graph(model, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"model.onnx", DATA_FILE}
    np.testing.assert_array_equal(logits(tmp_path), logits(fp32))
    quantize_onnx(tmp_path, tmp_path / "int4", "int4")
    assert np.isfinite(logits(tmp_path / "int4")).all()


def test_a_graph_that_disagrees_with_torch_is_not_kept(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "DIFFERENCE_LIMIT", -1.0)
    with pytest.raises(ExportError, match="differs from torch"):
        export_onnx(tiny_checkpoint, tmp_path / "onnx-fp32")
    assert not list(tmp_path.iterdir())


def test_a_missing_or_damaged_source_is_an_error_of_ours(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no merged checkpoint"):
        export_onnx(tmp_path, tmp_path / "out")
    with pytest.raises(ExportError, match="no ONNX graph"):
        quantize_onnx(tmp_path, tmp_path / "out", "int8")
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = (fp32 / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExportError, match="not a complete ONNX graph"):
        quantize_onnx(broken, tmp_path / "out", "int4")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_is_no_decoder_is_refused() -> None:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))
    with pytest.raises(ExportError, match="no MatMul makes the output 'logits'"):
        head_name(model)
    with pytest.raises(ExportError, match="no Gather looks up input_ids"):
        shrink_vocabulary(model, 1)


def test_a_damaged_checkpoint_is_a_model_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "merged")
    (tmp_path / "merged" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(ModelError, match="cannot load the checkpoint"):
        TorchReference(tmp_path / "merged")


def test_the_reference_gives_the_rows_that_are_asked_for(tiny_checkpoint: Path) -> None:
    reference = TorchReference(tiny_checkpoint)
    rows = np.array([2, 5, 11])
    expected = reference.logits(TOKENS)[rows]
    np.testing.assert_allclose(reference.logits_at(TOKENS, rows), expected, atol=1e-5)
    with pytest.raises(EngineError, match="more than the context"):
        reference.logits([1] * (reference.context_tokens + 1))

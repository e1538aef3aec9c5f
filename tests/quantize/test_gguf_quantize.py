"""Quantizing is atomic, exact about bits, quiet, and typed in its failures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from subterra.quantize.gguf_quantize import Kind, quantize_gguf, tensor_sizes
from subterra.runtime.errors import ExportError, ResourceError

pytest.importorskip("llama_cpp")
PROMPT = [1, *range(40, 60), 2, 1, 7]


@pytest.mark.parametrize(("kind", "block_bits"), [("Q8_0", 8.5), ("Q5_0", 5.5), ("Q4_1", 5.0)])
def test_bits_per_weight_are_those_of_the_block_format(
    kind: Kind, block_bits: float, tiny_gguf: Path, tmp_path: Path
) -> None:
    result = quantize_gguf(tiny_gguf, tmp_path / f"{kind}.gguf", kind, threads=1)
    before = tensor_sizes(tiny_gguf)
    assert result.parameters == before.parameters
    assert result.bytes == (tmp_path / f"{kind}.gguf").stat().st_size < before.bytes
    # norms stay F32 and llama.cpp keeps tied embeddings at 6 or 8 bits
    assert block_bits <= result.bits_per_weight < before.bits_per_weight


def test_the_f16_export_has_sixteen_bits_but_for_its_norms(tiny_gguf: Path) -> None:
    assert 16.0 < tensor_sizes(tiny_gguf).bits_per_weight < 16.1


def test_eight_bits_keep_the_model_and_four_bits_lose_more(
    tiny_gguf: Path, tmp_path: Path, open_llama: Callable[[Path], Any]
) -> None:
    exact = open_llama(tiny_gguf).logits(PROMPT)
    errors = []
    for kind in cast("tuple[Kind, ...]", ("Q8_0", "Q4_0")):
        file = quantize_gguf(tiny_gguf, tmp_path / f"{kind}.gguf", kind, threads=1).path
        errors.append(float(np.abs(open_llama(file).logits(PROMPT) - exact).mean()))
    assert 0 < errors[0] < errors[1] / 3


def test_the_same_input_gives_the_same_bytes(tiny_gguf: Path, tmp_path: Path) -> None:
    one = quantize_gguf(tiny_gguf, tmp_path / "one.gguf", "Q4_0", threads=1).path
    two = quantize_gguf(tiny_gguf, tmp_path / "two.gguf", "Q4_0", threads=2).path
    assert one.read_bytes() == two.read_bytes()


def test_llama_cpp_says_nothing_unless_asked(
    tiny_gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quantize_gguf(tiny_gguf, tmp_path / "quiet.gguf", "Q8_0", threads=1)
    assert capfd.readouterr() == ("", "")
    quantize_gguf(tiny_gguf, tmp_path / "loud.gguf", "Q8_0", threads=1, verbose=True)
    assert "blk.0" in capfd.readouterr().err


@pytest.mark.parametrize("kept", [0, 4, 49, 5000, -64])
def test_a_truncated_source_leaves_the_old_target(
    kept: int, tiny_gguf: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "cut.gguf", tmp_path / "out" / "Q8_0.gguf"
    source.write_bytes(tiny_gguf.read_bytes()[:kept])
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(ExportError, match=r"cut\.gguf") as error:
        quantize_gguf(source, target, "Q8_0", threads=1)
    assert error.value.hint
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["Q8_0.gguf"]


def test_a_missing_source_and_an_unknown_kind_are_named(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no GGUF at .*absent"):
        quantize_gguf(tmp_path / "absent.gguf", tmp_path / "x.gguf", "Q8_0")
    with pytest.raises(ExportError, match="unknown GGUF kind 'Q9_9'") as error:
        quantize_gguf(tiny_gguf, tmp_path / "x.gguf", cast("Kind", "Q9_9"))
    assert "Q4_0" in error.value.hint


def test_a_full_disk_is_a_resource_error(tiny_gguf: Path, tmp_path: Path) -> None:
    """A file size limit stands for the full disk: the write fails in the same place."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    target = tmp_path / "Q8_0.gguf"
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ResourceError, match="no space left"):
            quantize_gguf(tiny_gguf, target, "Q8_0", threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []

"""Safetensors files are read exactly in every float format, and damage is a BaseModelError."""

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subterra.models.safetensors_file import stored_tensors
from subterra.runtime.errors import BaseModelError


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_values_are_those_that_torch_wrote(kind: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    stored = values.to(getattr(torch, kind))
    save_file({"a": torch.ones(2), "b": stored}, tmp_path / "x.safetensors")
    found = stored_tensors(tmp_path / "x.safetensors")
    assert set(found) == {"a", "b"}
    assert found["b"].shape == (3, 5)
    assert torch.equal(torch.from_numpy(found["b"].read()), stored.float())


def test_a_format_without_floats_is_named(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2, dtype=torch.int8)}, tmp_path / "x.safetensors")
    with pytest.raises(BaseModelError, match="stores I8"):
        stored_tensors(tmp_path / "x.safetensors")["a"].read()


@given(header=st.binary(max_size=80), length=st.integers(0, 2**64 - 1) | st.integers(0, 80))
def test_arbitrary_bytes_raise_only_our_error(
    header: bytes, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header)
    with contextlib.suppress(BaseModelError):
        assert stored_tensors(path) == {}


@pytest.mark.parametrize(
    "header",
    [
        '{"a": 3}',
        "[]",
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        '{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}',
    ],
)
def test_a_header_that_lies_is_refused(header: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    with pytest.raises(BaseModelError):
        stored_tensors(path)

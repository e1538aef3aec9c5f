"""The quick header reader agrees with gguf's own, and refuses what is no whole GGUF."""

import struct
from pathlib import Path

import gguf
import pytest

from subterra.quantize.gguf_header import read_tensors


def test_every_tensor_is_as_ggufs_own_reader_finds_it(tiny_gguf: Path) -> None:
    reader = gguf.GGUFReader(tiny_gguf)
    expected = [
        (t.name, int(t.n_elements), int(t.n_bytes), int(t.data_offset) - reader.data_offset)
        for t in reader.tensors
    ]
    found = [(t.name, t.elements, t.bytes, t.offset) for t in read_tensors(tiny_gguf)]
    assert found == expected


@pytest.mark.parametrize("kept", [4, 23, 24, 49, 5000, -64])
def test_a_truncated_file_is_refused(kept: int, tiny_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"damaged|bytes of|begins with"):
        read_tensors(cut)


@pytest.mark.parametrize("version", [1, 4])
def test_another_version_is_refused(version: int, tiny_gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + struct.pack("<I", version) + tiny_gguf.read_bytes()[8:])
    with pytest.raises(ValueError, match=f"version {version}"):
        read_tensors(other)


def test_arrays_in_arrays_are_stepped_over(tmp_path: Path) -> None:
    strings = struct.pack("<IQ", 8, 2) + b"".join(
        struct.pack("<Q", len(s)) + s for s in (b"a", b"bc")
    )
    nested = struct.pack("<IQ", 9, 2) + strings + struct.pack("<IQ2H", 2, 2, 7, 8)
    entry = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + nested
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 4, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + entry + tensor
    path = tmp_path / "nested.gguf"
    path.write_bytes(header + bytes(-len(header) % 32) + bytes(16))
    (found,) = read_tensors(path)
    assert (found.name, found.elements, found.bytes, found.offset) == ("t", 4, 16, 0)

"""The tensors that a GGUF announces, read from its header without its metadata.

Goes in: a file that this program or llama.cpp wrote. Comes out: name, elements and bytes of each
tensor. The metadata is stepped over, not decoded: the vocabulary alone has 100,000 strings, on
which gguf's own reader takes four seconds. Does not read weights.

Format: version 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

    >>> sum(tensor.bytes for tensor in read_tensors(Path("Q8_0.gguf")))
    143198208
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Of the weights, unless `general.alignment` says otherwise, which neither writer here does."""

SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Kind of a metadata value -> its bytes."""
STRING, ARRAY = 8, 9

DIMENSIONS_MAX = 4
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
COUNTS = struct.Struct("<4sIQQ")
"""Magic, version, tensors, metadata entries."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the header describes it."""

    name: str
    elements: int
    bytes: int
    offset: int
    """From the begin of the weights."""


def read_tensors(path: Path) -> list[TensorInfo]:
    """List the tensors of a whole GGUF.

    Raises:
        ValueError: the file is no GGUF, or ends before its last tensor.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Header(data).tensors()
        except (struct.error, KeyError, OverflowError, UnicodeDecodeError) as error:
            raise ValueError(f"its header is damaged: {error}") from error


class _Header:
    """A position that moves over the header."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        magic, version, self._tensors, self._entries = COUNTS.unpack_from(data)
        if magic != MAGIC or version not in VERSIONS:
            raise ValueError(f"it begins with {magic!r}, version {version}")
        self._at = COUNTS.size

    def tensors(self) -> list[TensorInfo]:
        for _ in range(self._entries):
            self._skip_string()
            self._skip_value(self._number(U32))
        sizes = _block_sizes()
        found = [self._tensor(sizes) for _ in range(self._tensors)]
        begin = -(-self._at // ALIGNMENT) * ALIGNMENT
        end = begin + max((tensor.offset + tensor.bytes for tensor in found), default=0)
        if end > len(self._data):
            raise ValueError(f"it has {len(self._data)} bytes of {end}")
        return found

    def _tensor(self, sizes: dict[int, tuple[int, int]]) -> TensorInfo:
        length = self._number(U64)
        name = self._data[self._at : self._at + length].decode()
        self._at += length
        dimensions = self._number(U32)
        if dimensions > DIMENSIONS_MAX:
            raise ValueError(f"its tensor {name} has {dimensions} dimensions")
        elements = prod(self._number(U64) for _ in range(dimensions))
        weights, size = sizes[self._number(U32)]
        return TensorInfo(name, elements, elements // weights * size, self._number(U64))

    def _number(self, kind: struct.Struct) -> int:
        (value,) = kind.unpack_from(self._data, self._at)
        self._at += kind.size
        return int(value)

    def _skip_string(self) -> None:
        self._at += U64.size + U64.unpack_from(self._data, self._at)[0]

    def _skip_value(self, kind: int) -> None:
        if kind == STRING:
            self._skip_string()
        elif kind != ARRAY:
            self._at += SCALAR_BYTES[kind]
        else:
            element, count = self._number(U32), self._number(U64)
            if element in SCALAR_BYTES:
                self._at += SCALAR_BYTES[element] * count
                return
            for _ in range(count):  # ends at the end of the file at the latest
                self._skip_value(element)


def _block_sizes() -> dict[int, tuple[int, int]]:
    """Type of a tensor -> (weights, bytes) of one block."""
    import gguf

    sizes: dict[Any, tuple[int, int]] = gguf.GGML_QUANT_SIZES
    return {int(kind): size for kind, size in sizes.items()}

"""Read safetensors files with numpy alone: which tensors there are, and one of them at a time.

Goes in: a path. Comes out: a table of tensors, and values as fp32 (bf16 too, which numpy lacks).
A truncated or foreign file is told by its header, before any weight is read.
Layout (safetensors format): u64 little-endian header size, JSON header, tensor bytes.
"""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.errors import BaseModelError

MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
"""Number formats that can be read; bf16 as its bits."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies."""

    path: Path
    dtype: str
    """Name in the safetensors format: F32, BF16, ..."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""

    def read(self) -> NDArray[np.float32]:
        """Read the values as fp32.

        Raises:
            BaseModelError: the number format is neither F32, F16 nor BF16.
        """
        if self.dtype not in DTYPES:
            raise BaseModelError(
                f"{self.path} stores {self.dtype}, which is not one of {', '.join(DTYPES)}",
                hint="save the checkpoint in bf16, fp16 or fp32",
            )
        count = prod(self.shape)
        with self.path.open("rb") as file:
            raw = np.fromfile(file, DTYPES[self.dtype], count, offset=self.offset)
        if self.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        values: NDArray[np.float32] = raw.astype(np.float32, copy=False)
        return values.reshape(self.shape)


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a file by name.

    Raises:
        BaseModelError: unreadable, truncated, or not a safetensors file.
    """
    try:
        size = path.stat().st_size
        start, header = _header(path)
        header.pop("__metadata__", None)
        end = start + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        tensors = {name: _entry(path, start, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BaseModelError(
            f"{path} is not a readable safetensors file: {error}", hint=f"restore {path.parent}"
        ) from error
    if end != size:
        raise BaseModelError(
            f"{path} has {size} bytes instead of {end}: truncated or changed",
            hint=f"delete {path.parent} and run again, or restore it",
        )
    return tensors


def _header(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER:
            raise ValueError(f"header of {length} bytes")
        return 8 + length, json.loads(file.read(length))


def _entry(path: Path, start: int, entry: dict[str, Any]) -> StoredTensor:
    begin, end = entry["data_offsets"]
    shape = tuple(int(side) for side in entry["shape"])
    dtype = str(entry["dtype"])
    if begin < 0 or (dtype in DTYPES and end - begin != prod(shape) * DTYPES[dtype].itemsize):
        raise ValueError(f"a tensor of shape {shape} in {end - begin} bytes")
    return StoredTensor(path, dtype, shape, start + int(begin))

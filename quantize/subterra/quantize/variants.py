"""The variants of a merged model: what each is made from and where it lies in a work folder.

Goes in: a work folder. Comes out: which variants exist, with their size.
Does not know how a variant is made (`quantize.py`) or measured (`report.py`).

    >>> VARIANTS["Q8_0"].path(Path("build/zoom_support"))
    PosixPath('build/zoom_support/variants/Q8_0.gguf')
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from subterra.runtime.errors import ExportError

EngineName = Literal["llama.cpp", "onnxruntime"]

HEADER_LIMIT = 100_000_000
"""Bytes; the safetensors format allows no larger header."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One file (GGUF) or folder (ONNX) made from the merged model."""

    name: str
    engine: EngineName
    quantization: str
    file_name: str
    source: str | None = None
    """Name of the variant it is made from; None: from the merged checkpoint."""

    def path(self, work: Path) -> Path:
        """Where the variant lies."""
        return work / "variants" / self.file_name

    def record_path(self, work: Path) -> Path:
        """Where it is recorded what the variant was made from; written last."""
        return work / "variants" / f"{self.name}.json"


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("F16", "llama.cpp", "F16", "F16.gguf"),
        Variant("Q8_0", "llama.cpp", "Q8_0", "Q8_0.gguf", source="F16"),
        Variant("Q4_0", "llama.cpp", "Q4_0", "Q4_0.gguf", source="F16"),
        Variant("onnx-fp32", "onnxruntime", "fp32", "onnx-fp32"),
        Variant("onnx-int8", "onnxruntime", "int8", "onnx-int8", source="onnx-fp32"),
        Variant("onnx-int4", "onnxruntime", "int4", "onnx-int4", source="onnx-fp32"),
    )
}
"""Every variant, sources before what is made from them."""


def existing(work: Path) -> list[Variant]:
    """Variants of `work` whose making was completed."""
    return [
        variant
        for variant in VARIANTS.values()
        if variant.path(work).exists() and variant.record_path(work).is_file()
    ]


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def parameter_count(merged: Path) -> int:
    """Weights of the merged checkpoint, read from the safetensors header; tied ones count once.

    Raises:
        ExportError: the checkpoint is missing or its header is damaged.
    """
    path = merged / "model.safetensors"
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(min(length, HEADER_LIMIT))
        header = json.loads(text) if len(text) == length else None
        if not isinstance(header, dict):
            raise ValueError(f"no header of {length} bytes")
        header.pop("__metadata__", None)
        return sum(math.prod(entry["shape"]) for entry in header.values())
    except FileNotFoundError as error:
        raise missing_checkpoint(merged) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path} is not a safetensors file: {error}", hint="run subterra merge again"
        ) from error


def missing_checkpoint(merged: Path) -> ExportError:
    """Error for a work folder without a merged model."""
    return ExportError(
        f"no merged checkpoint at {merged}",
        hint="subterra merge makes it from an adapter and its base model",
    )

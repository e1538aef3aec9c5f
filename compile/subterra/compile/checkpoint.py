"""Checkpoints of a training run, written in one rename, read only by the run that wrote them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subterra.runtime.files import replacing


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that the next step depends on."""

    step: int
    fingerprint: str
    """Settings and inputs of the run; another run does not resume from it."""
    parameters: list[Tensor]
    optimiser: dict[str, Any]
    best: dict[str, Tensor]
    history: list[dict[str, Any]]
    random: Tensor


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint.

    Raises:
        ResourceError: the folder is read-only or the disk is full.
    """
    with replacing(path) as temporary:
        torch.save(_fields(checkpoint), temporary)


def load_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is none of this very run, or it is damaged."""
    try:
        fields = torch.load(path, weights_only=True)
        checkpoint = Checkpoint(**fields)
    except (OSError, RuntimeError, TypeError, ValueError, EOFError):
        return None
    return checkpoint if checkpoint.fingerprint == fingerprint else None


def _fields(checkpoint: Checkpoint) -> dict[str, Any]:
    names = asdict(Checkpoint(0, "", [], {}, {}, [], torch.empty(0)))
    return {name: getattr(checkpoint, name) for name in names}

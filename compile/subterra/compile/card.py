"""The card of an adapter or merged folder: what it was made from and how it talks.

Goes in: a folder. Comes out: the content of its `subterra.json`. Loads no weight, and no torch.

    >>> read_card(Path("build/zoom_support/adapter"))["recipe"]
    'traced'
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subterra.runtime.errors import AdapterError

ADAPTER_FILE = "adapter_model.safetensors"
FULL_FILE = "model.safetensors"
CARD_FILE = "subterra.json"


def checkpoint_file(adapter: Path) -> Path:
    """Where the run that trains this adapter keeps what it resumes from, until it is done."""
    return adapter.parent / f".{adapter.name}.checkpoint.pt"


def compiled_procedure(card: Mapping[str, Any]) -> str | None:
    """Digest of the procedure file that a card says it was compiled from; None: it does not say."""
    inputs = card.get("inputs")
    found = inputs.get("procedure") if isinstance(inputs, dict) else None
    return found if isinstance(found, str) else None


def read_card(folder: Path) -> dict[str, Any]:
    """Read what an adapter or merged folder says of itself.

    Raises:
        AdapterError: the folder or its card is missing or damaged.
    """
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"{path} is missing or damaged: {error}", hint="subterra compile examples/zoom_support"
        ) from None
    base = card.get("base") if isinstance(card, dict) else None
    if not isinstance(base, dict) or not {"id", "sha256"} <= base.keys():
        raise AdapterError(
            f"{path} names no base model", hint="subterra compile writes such a card"
        )
    return dict(card)

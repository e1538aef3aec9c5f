"""The card of a merged model in the manifest's own terms.

Goes in: the merged checkpoint's folder. Comes out: an `AgentNote`. Does not know bundles. What is
of no use to a bundle or a report (settings, validation) stays in the card.

    >>> read_note(Path("build/zoom_support/merged")).recipe
    'traced'
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from subterra.compile.card import CARD_FILE, compiled_procedure, read_card
from subterra.runtime.errors import BundleError
from subterra.runtime.field_problem import first_problem
from subterra.runtime.manifest import Base, Line, Name, Sha256, Teacher

POSITIONS = 2048
"""Where a checkpoint does not say."""


class AgentNote(BaseModel):
    """The part of a card that a manifest repeats, and what a report needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Name
    base: Base
    adapter_sha256: Sha256
    recipe: Literal["traced", "plain"]
    system: Line
    slots: tuple[str, ...] = ()
    teacher: Teacher = Teacher(kind="bank")
    seeds: dict[Name, int] = Field(default_factory=dict)
    positions: int = Field(default=POSITIONS, ge=1, exclude=True)
    """Longest sequence the model was made for, in tokens (from `config.json`)."""
    procedure_sha256: str | None = Field(default=None, exclude=True)
    """Digest of the procedure that was compiled; None: the card does not say."""


def read_note(merged: Path) -> AgentNote:
    """Read the note of a merged checkpoint.

    Raises:
        AdapterError: the card is missing, damaged, or names no base.
        BundleError: a field is wrong, which the message names, or `config.json` is damaged.
    """
    card = read_card(merged)
    path, hint = merged / "config.json", "subterra merge writes it anew"
    try:
        positions = json.loads(path.read_bytes()).get("max_position_embeddings", POSITIONS)
        more = {"positions": positions, "procedure_sha256": compiled_procedure(card)}
        return AgentNote.model_validate_json(json.dumps({**card, **more}))
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except ValidationError as error:
        raise BundleError(f"{merged / CARD_FILE}, {first_problem(error)}", hint=hint) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is not a JSON object", hint=hint) from error

"""`merged/subterra.json`: where a merged model comes from.

Goes in: the merged checkpoint's folder. Comes out: an `AgentNote` in the manifest's own terms. Does
not know bundles. Keys that are of no use to a bundle (nodes, scores) are left where they are.

    >>> read_note(Path("build/zoom_support/merged")).recipe
    'traced'
"""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from subterra.runtime.errors import BundleError
from subterra.runtime.manifest import Base, Line, Name, Sha256, Teacher

NOTE_NAME = "subterra.json"
POSITIONS = 2048
"""Where a checkpoint does not say."""


class AgentNote(BaseModel):
    """The part of `subterra.json` that a manifest repeats."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Name
    base: Base
    adapter_sha256: Sha256
    recipe: Literal["traced", "plain"]
    system: Line
    teacher: Teacher = Teacher(kind="bank")
    seeds: dict[Name, int] = Field(default_factory=dict)
    positions: int = Field(default=POSITIONS, ge=1, exclude=True)
    """Longest sequence the model was made for, in tokens (from `config.json`)."""


def read_note(merged: Path) -> AgentNote:
    """Read the note of a merged checkpoint.

    Raises:
        BundleError: the note is missing or a field is wrong; the message names the field.
    """
    path = merged / NOTE_NAME
    hint = "subterra merge writes it anew"
    try:
        document = json.loads(path.read_bytes())
        config = json.loads((merged / "config.json").read_bytes())
        positions = config.get("max_position_embeddings", POSITIONS)
        return AgentNote.model_validate_json(json.dumps({**document, "positions": positions}))
    except OSError as error:
        named = error.filename or path
        raise BundleError(f"cannot read {named}: {error.strerror}", hint=hint) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}, {field}: {first['msg']}", hint=hint) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} or config.json is not a JSON object", hint=hint) from error

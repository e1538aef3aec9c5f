"""The catalogue of base models: `catalogue.toml` as typed records.

Goes in: the TOML file beside this module. Comes out: `BaseModel` records by id.
Does not know where a model's file lies on this machine (`resolve` does).

    >>> base_model("smollm2-135m-instruct").end_of_turn
    '<|im_end|>'
"""

import difflib
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Literal, get_origin

from subterra.runtime.errors import BaseModelError

CATALOGUE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """One base model: where it comes from, what its chat looks like, its sizes."""

    id: str
    title: str
    licence: str
    """SPDX identifier of the weights' licence."""
    package: str
    """Distribution that carries the weights; only the file is wanted, not its dependencies."""
    module: str
    """Import name of that distribution's folder. It is located, never imported."""
    file: str
    """Name of the GGUF inside the folder."""
    bytes: int
    sha256: str
    architecture: str
    parameters: int
    """Weights, tied embeddings counted once."""
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    vocab_size: int
    context_tokens: int
    chat_format: Literal["chatml"]
    start_of_turn: str
    start_of_turn_id: int
    end_of_turn: str
    """The token that ends a turn, and so a reply."""
    end_of_turn_id: int
    pad: str
    """Padding token. Not the end of turn: a loss mask that drops padding would drop turn ends."""
    pad_id: int


@cache
def catalogue() -> dict[str, BaseModel]:
    """Read every base model, by id, in the order of the file.

    Raises:
        BaseModelError: the catalogue has an unknown, missing or wrongly typed key.
    """
    document = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    models = [_checked(entry) for entry in document["base"]]
    return {model.id: model for model in models}


def base_model(name: str) -> BaseModel:
    """Return the base model of that id.

    Raises:
        BaseModelError: no such id; the message lists the known ones.
    """
    model = catalogue().get(name)
    if model is None:
        raise unknown_base(name)
    return model


def unknown_base(name: str) -> BaseModelError:
    """Make the error for an id that is not in the catalogue, with the nearest one as hint."""
    known = list(catalogue())
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4) or known[:1]
    return BaseModelError(
        f"unknown base model '{name}'; known: {', '.join(known)}",
        hint=f"--base {near[0]}, or the path of a checkpoint folder, or a hub id OWNER/NAME",
    )


def _checked(entry: dict[str, object]) -> BaseModel:
    kinds = {f.name: str if get_origin(f.type) is Literal else f.type for f in fields(BaseModel)}
    problems = [f"unknown key '{key}'" for key in entry if key not in kinds]
    problems += [f"missing key '{key}'" for key in kinds if key not in entry]
    problems += [
        f"'{key}' has the wrong type"
        for key, kind in kinds.items()
        if key in entry and type(entry[key]) is not kind
    ]
    if problems:
        raise BaseModelError(
            f"{CATALOGUE.name}, base '{entry.get('id', '?')}': {'; '.join(problems)}",
            hint="restore the file by installing subterra again",
        )
    return BaseModel(**entry)  # type: ignore[arg-type]  # types checked above

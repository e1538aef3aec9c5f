"""What a sealed agent says about itself: `manifest.json`.

Goes in: the bytes of a manifest. Comes out: a `Manifest` whose names, paths and variants agree, or
a BundleError that names the field. Does not know the files, the signature or any procedure: of the
procedure it carries a salted commitment only; the legal transitions are a file of their own.

    manifest = parse_manifest(data)
    manifest.variant("Q8_0").path
"""

import unicodedata
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from subterra.runtime.errors import BundleError
from subterra.runtime.field_problem import first_problem
from subterra.runtime.transition_table import TRANSITIONS_NAME

MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "signature"
TOKENIZER_NAME: Final = "tokenizer.json"

MANIFEST_MAX_BYTES: Final = 1 << 20
"""A manifest of 200 files takes 20 KiB; a megabyte is an attack on the parser."""
FILES_MAX: Final = 512
"""An ONNX variant has about ten files; six variants stay far below this."""
PATH_MAX_CHARACTERS: Final = 255
PATH_MAX_DEPTH: Final = 8
FILE_MAX_BYTES: Final = 1 << 38
"""256 GiB: beyond any model that a laptop runs."""
TEXT_MAX: Final = 4096
TOKENS_MAX: Final = 1 << 24

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(max_length=TEXT_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[str, Field(max_length=120, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]
BaseId = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f\\]+$")]
"""A name, or a hub id OWNER/NAME; never used as a path."""
Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]
RelativePath = Annotated[str, Field(min_length=1, max_length=PATH_MAX_CHARACTERS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Base(_Part):
    """The base model that the procedure was compiled into."""

    id: BaseId
    sha256: Sha256


class Commitment(_Part):
    """HMAC of the procedure file under a salt that stays with the author."""

    algorithm: Literal["hmac-sha256"] = "hmac-sha256"
    value: Sha256


class Teacher(_Part):
    """Who wrote the wording, and which hosts saw the procedure."""

    kind: Name
    disclosed_to: tuple[Line, ...] = Field(default=())


class Variant(_Part):
    """One quantised form of the model: a file, or a folder for ONNX."""

    name: Name
    engine: Literal["llama.cpp", "onnxruntime"]
    quantization: Name
    path: RelativePath
    bytes: int = Field(ge=1, le=FILE_MAX_BYTES)


class Manifest(_Part):
    """Everything that a runtime needs besides the model itself."""

    schema_version: Literal[1] = 1
    name: Name
    title: Line
    base: Base
    adapter_sha256: Sha256
    recipe: Literal["traced", "plain"]
    system: Line
    slots: tuple[Name, ...]
    terminals: tuple[Name, ...] = ()
    """Nodes at which a conversation is over."""
    constrained: bool = False
    """State lines are held to the legal transitions in `transitions.json`."""
    commitment: Commitment
    teacher: Teacher
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=64)
    default_variant: Name
    chat_format: Literal["chatml"] = "chatml"
    end_of_turn_id: int = Field(ge=0, le=TOKENS_MAX)
    context_tokens: Tokens
    max_reply_tokens: Tokens
    tools: dict[Name, Line]
    seeds: dict[Name, int]
    files: dict[RelativePath, Sha256] = Field(max_length=FILES_MAX)

    def variant(self, name: str | None = None) -> Variant:
        """Find a variant by name, the default one without a name.

        Raises:
            BundleError: the agent has no such variant.
        """
        wanted = name or self.default_variant
        for variant in self.variants:
            if variant.name == wanted:
                return variant
        names = ", ".join(variant.name for variant in self.variants)
        raise BundleError(
            f"{self.name} has no variant '{wanted}'", hint=f"choose one of: --variant {names}"
        )

    def files_of(self, variant: Variant) -> list[str]:
        """List the files that a variant consists of."""
        inside = f"{variant.path}/"
        return [name for name in self.files if name == variant.path or name.startswith(inside)]

    def to_bytes(self) -> bytes:
        """Write the manifest's exact bytes, files in order of name."""
        ordered = self.model_copy(update={"files": dict(sorted(self.files.items()))})
        return (ordered.model_dump_json(indent=2) + "\n").encode()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Manifest":
        problems = check_names(self.files)
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            problems.append("variants: two variants have the same name")
        if self.default_variant not in names:
            problems.append(f"default_variant: '{self.default_variant}' is not a variant")
        for variant in self.variants:
            if not self.files_of(variant):
                problems.append(f"variants: no file of '{variant.name}' is listed in files")
        if TOKENIZER_NAME not in self.files:
            problems.append(f"files: {TOKENIZER_NAME} is not listed")
        if self.constrained and TRANSITIONS_NAME not in self.files:
            problems.append(f"constrained: {TRANSITIONS_NAME} is not listed in files")
        if self.constrained and self.recipe != "traced":
            problems.append(f"constrained: the recipe {self.recipe} has no state line")
        if self.max_reply_tokens >= self.context_tokens:
            problems.append("max_reply_tokens: leaves no room for a prompt in context_tokens")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest from its bytes.

    Raises:
        BundleError: too large, not JSON, or a field is wrong; the message names the field.
    """
    if len(data) > MANIFEST_MAX_BYTES:
        raise BundleError(
            f"{MANIFEST_NAME} has {len(data)} bytes, over {MANIFEST_MAX_BYTES}",
            hint="fetch the bundle again from its author",
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(
            f"{MANIFEST_NAME}, {first_problem(error)}",
            hint="seal the agent again with this version: subterra seal WORK_FOLDER",
        ) from error


def check_names(names: "dict[str, str]") -> list[str]:
    """Find names that leave the folder, are reserved, or collide on some file system."""
    problems = []
    seen: dict[str, str] = {}
    for name in names:
        if reason := _unsafe(name):
            problems.append(f"files: {name!r} {reason}")
            continue
        for part in (*list(PurePosixPath(name).parents)[:-1], PurePosixPath(name)):
            spelt = str(part)
            if seen.setdefault(spelt.casefold(), spelt) != spelt:
                problems.append(f"files: {name!r} collides with {seen[spelt.casefold()]!r}")
        if any(str(parent) in names for parent in list(PurePosixPath(name).parents)[:-1]):
            problems.append(f"files: {name!r} lies inside another file")
    return problems


def _unsafe(name: str) -> str:
    parts = name.split("/")
    if name.casefold() in (MANIFEST_NAME, SIGNATURE_NAME):
        return "is reserved"
    if unicodedata.normalize("NFC", name) != name or not name.isprintable():
        return "is not in plain normal form"
    if "\\" in name or ":" in name:
        return "has a character that some systems take for a separator"
    if any(
        part in ("", ".", "..") or part != part.strip(" ") or part.endswith(".") for part in parts
    ):
        return "leaves the folder or is not in normal form"
    return "is too deep" if len(parts) > PATH_MAX_DEPTH else ""

"""Find what is to be scored: a sealed agent, or a variant in a work folder.

Goes in: a path and a variant's name. Comes out: engine, model file, tokenizer, system line, recipe.
Does not load the model.
"""

from dataclasses import dataclass
from pathlib import Path

from subterra.compile.card import compiled_procedure, read_card
from subterra.compile.recipe import RECIPES, Recipe
from subterra.runtime.bundle import open_bundle
from subterra.runtime.errors import UsageError
from subterra.runtime.signing import VerifyKey
from subterra.runtime.transition_table import TransitionTable

FOLDER_ENGINE = {True: "onnxruntime", False: "llama.cpp"}
"""A variant that is a folder is ONNX, one that is a file is GGUF."""


@dataclass(frozen=True, slots=True)
class AgentSource:
    """One model file and how to talk to it."""

    name: str
    variant: str
    engine: str
    model: Path
    tokenizer: Path
    system: str
    recipe: Recipe
    slots: tuple[str, ...] | None = None
    """In the order of the state line; None: its card does not say."""
    sealed: bool = False
    table: TransitionTable | None = None
    """The legal transitions that a sealed agent carries."""
    procedure_sha256: str | None = None
    """Digest of the procedure that it was compiled from; None: unknown."""


def find_agent(
    path: Path, variant: str | None, *, key: VerifyKey | None = None, allow_unsigned: bool = False
) -> AgentSource:
    """Open a sealed agent (verified) or look into a work folder.

    Raises:
        BundleError: the sealed agent does not verify.
        UsageError: the folder is neither, or has no such variant.
    """
    if (path / "manifest.json").exists():
        bundle = open_bundle(path, key=key, allow_unsigned=allow_unsigned)
        chosen, manifest = bundle.variant(variant), bundle.manifest
        return AgentSource(
            manifest.name,
            chosen.name,
            chosen.engine,
            bundle.variant_path(chosen.name),
            bundle.tokenizer,
            manifest.system,
            known_recipe(manifest.recipe),
            slots=manifest.slots,
            sealed=True,
            table=bundle.table,
        )
    return _in_work_folder(path, variant or "Q8_0")


def unsealed(merged: Path, variant: str, engine: str, model: Path) -> AgentSource:
    """Take a model file with what the card of its merged checkpoint says.

    Raises:
        AdapterError: there is no card, or it is damaged.
        UsageError: its recipe is unknown.
    """
    card = read_card(merged)
    slots = card.get("slots")
    return AgentSource(
        str(card["name"]),
        variant,
        engine,
        model,
        merged / "tokenizer.json",
        str(card["system"]),
        known_recipe(str(card["recipe"])),
        slots=tuple(map(str, slots)) if isinstance(slots, list) else None,
        procedure_sha256=compiled_procedure(card),
    )


def _in_work_folder(work: Path, variant: str) -> AgentSource:
    if not (work / "merged").is_dir():
        raise UsageError(
            f"{work} is neither a sealed agent nor a work folder with a merged model",
            hint=f"subterra merge {work}",
        )
    found = {p.stem if p.suffix == ".gguf" else p.name: p for p in _variants(work)}
    if variant not in found:
        raise UsageError(
            f"{work} has no variant '{variant}' (it has: {', '.join(sorted(found)) or 'none'})",
            hint=f"subterra quantize {work} --variants {variant}",
        )
    model = found[variant]
    return unsealed(work / "merged", variant, FOLDER_ENGINE[model.is_dir()], model)


def _variants(work: Path) -> list[Path]:
    folder = work / "variants"
    return sorted(
        p
        for p in (folder.iterdir() if folder.is_dir() else ())
        if not p.name.startswith(".") and (p.suffix == ".gguf" or p.is_dir())
    )


def known_recipe(name: str) -> Recipe:
    """Check the recipe that an agent says it was trained with.

    Raises:
        UsageError: this version does not know it.
    """
    for recipe in RECIPES:
        if recipe == name:
            return recipe
    raise UsageError(f"the agent's recipe '{name}' is unknown", hint="update subterra")

"""`subterra seal`: variants, tokenizer and report become one signed folder `NAME.agent`.

Goes in: a work folder (`merged/`, `variants/`, `report/`) and the procedure file. Comes out: a
bundle, the manifest and its signature written last, put in place in one rename. Of the procedure
go in its legal transitions (names only), and of its wording a commitment: HMAC-SHA256 under a salt
that stays beside the author's key, because a plain digest of so little text could be guessed. Does
not know engines, nor how variants are made.

    $ subterra seal build/zoom_support --procedure examples/zoom_support/procedure.yaml
"""

import argparse
import hashlib
import hmac
import json
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from subterra.compile.procedure import Procedure
from subterra.compile.transitions import edited_warning, is_edited, transition_table
from subterra.compile.validation import load_procedure
from subterra.quantize.agent_note import AgentNote, read_note
from subterra.quantize.disclosure import disclosed_in_file, wordings
from subterra.quantize.quantize import read_record
from subterra.quantize.variants import VARIANTS, existing
from subterra.quantize.variants import Variant as Made
from subterra.runtime.bundle import open_bundle
from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.errors import BundleError, UsageError
from subterra.runtime.files import replacing_folder, sha256_file, write_bytes
from subterra.runtime.manifest import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    TOKENIZER_NAME,
    Commitment,
    Manifest,
    Variant,
    parse_manifest,
)
from subterra.runtime.signing import (
    PRIVATE_NAME,
    SigningKey,
    config_folder,
    load_signing_key,
)
from subterra.runtime.transition_table import TRANSITIONS_NAME

DEFAULT_ORDER: Final = ("Q8_0", "onnx-int8", "F16", "onnx-fp32", "Q4_0", "onnx-int4")
"""Which variant is the default: the smallest that keeps a compiled procedure comes first."""
ONNX_SHIPPED: Final = ("model.onnx*", "config.json")
"""What the engine reads; other files of an export folder stay at home."""
REPORT_SHIPPED: Final = ("report.json", "report.html")
CONTEXT_TOKENS: Final = 2048
MAX_REPLY_TOKENS: Final = 256
SALT_BYTES: Final = 32
TOOLS: Final = ("subterra", "torch", "transformers", "peft", "gguf", "llama-cpp-python",
                "optimum-onnx", "onnx", "onnxruntime")  # fmt: skip


@dataclass(frozen=True, slots=True)
class SealOptions:
    """What to seal and how."""

    variants: tuple[str, ...] = ()
    """Names; empty for every variant that was made."""
    default_variant: str | None = None
    context_tokens: int = CONTEXT_TOKENS
    max_reply_tokens: int = MAX_REPLY_TOKENS
    transitions: bool | None = None
    """Whether the agent carries its legal transitions; None: if its recipe has a state line and the
    procedure is the one that was compiled."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `subterra seal`."""
    parser.add_argument("work", type=Path, help="the work folder, build/NAME")
    parser.add_argument("--procedure", type=Path, help="default: WORK/procedure.yaml")
    parser.add_argument("--variant", action="append", default=[], help="repeat; default: all made")
    parser.add_argument("--default", help="the variant that runs unless another is asked for")
    held = parser.add_mutually_exclusive_group()
    held.add_argument(
        "--unconstrained",
        action="store_true",
        help="leave out which node may follow which (names only); state lines are then not held",
    )
    held.add_argument(
        "--transitions",
        action="store_true",
        help="hold state lines even to a procedure that was edited after the training",
    )
    parser.add_argument("--key", type=Path, help="private key (default: the settings folder's)")
    parser.add_argument("--out", type=Path, help="default: WORK/NAME.agent")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Seal an agent and say what is in it.

    Raises:
        UsageError: no such work folder, procedure or variant.
        BundleError: a file is missing, or the manifest would disclose the procedure.
        SignatureError: the key cannot be used.
        ResourceError: the folder cannot be written.
    """
    read_note(args.work / "merged")  # before a key is made for nothing
    key = author_key(args.key)
    procedure = args.procedure or args.work / "procedure.yaml"
    wanted = False if args.unconstrained else args.transitions or None
    options = SealOptions(tuple(args.variant), args.default, transitions=wanted)
    bundle = seal(args.work, procedure, key, options=options, out=args.out)
    manifest = open_bundle(bundle, key=key.public).manifest
    if args.json:
        print(json.dumps(_document(bundle, manifest, key), indent=2))
    print(f"sealed {bundle} with key {key.public.fingerprint}", file=sys.stderr)
    for variant in manifest.variants:
        mark = " (default)" if variant.name == manifest.default_variant else ""
        print(f"  {variant.name:<10}{variant.bytes / 2**20:8.1f} MiB{mark}", file=sys.stderr)
    _say_what_the_report_shows(bundle, procedure)
    _say_what_the_report_measured(bundle, manifest.constrained)
    print(f"next: subterra prove {bundle}", file=sys.stderr)
    return 0


def seal(
    work: Path,
    procedure: Path,
    key: SigningKey,
    *,
    options: SealOptions | None = None,
    out: Path | None = None,
) -> Path:
    """Write the bundle of a work folder and return its path.

    Raises:
        UsageError: no such variant, none was made, or transitions are wanted without state lines.
        ProcedureError: the procedure is missing or wrong, or has no table of transitions.
        BundleError: a file is missing, a variant belongs to another merged model, or the manifest
            would disclose the procedure.
        ResourceError: the folder cannot be written.
    """
    options = options or SealOptions()
    note = read_note(work / "merged")
    compiled = load_procedure(procedure)
    made = _chosen(work, options.variants)
    _check_made_from(work, made)
    again = f"subterra seal {work} --procedure {procedure} --transitions"
    held = _is_held(note, compiled, options.transitions, again)
    target = out or work / f"{note.name}.agent"
    commitment = commit(procedure, note.name)
    with replacing_folder(target) as folder:
        _place(work / "merged" / TOKENIZER_NAME, folder / TOKENIZER_NAME)
        for name in REPORT_SHIPPED:
            if (work / "report" / name).is_file():
                _place(work / "report" / name, folder / name)
        if held:
            write_bytes(folder / TRANSITIONS_NAME, transition_table(compiled).to_bytes())
        variants = tuple(_place_variant(variant, work, folder) for variant in made)
        manifest = _manifest(folder, note, compiled, variants, commitment, options)
        data = manifest.to_bytes()
        parse_manifest(data)
        write_bytes(folder / MANIFEST_NAME, data)
        if shown := disclosed_in_file(folder / MANIFEST_NAME, wordings(procedure)):
            raise BundleError(
                f"{MANIFEST_NAME} would disclose the procedure: {shown[0]!r}",
                hint="change the title, the system line or the slot names in procedure.yaml",
            )
        write_bytes(folder / SIGNATURE_NAME, key.sign(data))
        for name in (MANIFEST_NAME, SIGNATURE_NAME, TRANSITIONS_NAME):
            if (folder / name).exists():
                (folder / name).chmod(0o644)
    return target


def _is_held(note: AgentNote, procedure: Procedure, wanted: bool | None, again: str) -> bool:
    """Decide whether the agent carries its transitions: never unasked those it has not learnt."""
    if wanted is False:
        return False
    if note.recipe == "plain":
        if wanted:
            raise UsageError(
                f"{note.name} has no state line to constrain (recipe plain)",
                hint="leave --transitions out",
            )
        return False
    if wanted or not is_edited(note.procedure_sha256, procedure):
        return True
    print(edited_warning(note.name), file=sys.stderr)
    print(
        f"next: subterra compile PROCEDURE; or, if only its wording was edited: {again}",
        file=sys.stderr,
    )
    return False


def author_key(path: Path | None = None) -> SigningKey:
    """Load the author's key; without `path` the one in the settings folder, made on first use.

    Raises:
        SignatureError: the key cannot be used.
        ResourceError: the settings folder is not writable.
    """
    if path is not None:
        return load_signing_key(path)
    default = config_folder() / PRIVATE_NAME
    if not default.exists():
        SigningKey.generate().save(default.parent)
        print(f"made a signing key at {default}; keep it", file=sys.stderr)
    return load_signing_key(default)


def commit(procedure: Path, agent: str) -> Commitment:
    """Commit to a procedure file under the author's salt for this agent, made on first use.

    The salt is reused, so the same procedure gives the same bundle.

    Raises:
        ResourceError: the settings folder is not writable.
    """
    salt = config_folder() / "salts" / f"{agent}.salt"
    if not salt.exists():
        write_bytes(salt, secrets.token_bytes(SALT_BYTES), private=True)
    value = hmac.new(salt.read_bytes(), procedure.read_bytes(), hashlib.sha256).hexdigest()
    return Commitment(value=value)


def _chosen(work: Path, names: Sequence[str]) -> list[Made]:
    made = {variant.name: variant for variant in existing(work)}
    if unknown := [name for name in names if name not in made]:
        reason = "was not made" if unknown[0] in VARIANTS else "is unknown"
        raise UsageError(
            f"variant '{unknown[0]}' {reason}; there are: {', '.join(made) or 'none'}",
            hint=f"subterra quantize {work}",
        )
    if not made:
        raise UsageError(f"there are no variants in {work}", hint=f"subterra quantize {work}")
    return [variant for name, variant in made.items() if not names or name in names]


def _check_made_from(work: Path, made: Sequence[Made]) -> None:
    """Refuse variants of an earlier merged model: the manifest would name the wrong adapter."""
    weights = work / "merged" / "model.safetensors"
    records = [record for variant in made if (record := read_record(work, variant))]
    if not records or not weights.is_file():
        return
    digest = sha256_file(weights)
    if stale := [record.name for record in records if record.checkpoint_sha256 != digest]:
        raise BundleError(
            f"{', '.join(stale)} of {work} were made from another merged model",
            hint=f"subterra quantize {work}",
        )


def _place_variant(made: Made, work: Path, folder: Path) -> Variant:
    source = made.path(work)
    target = folder / (made.file_name if source.is_dir() else f"model-{made.file_name}")
    files = [(source, target)]
    if source.is_dir():
        inside = sorted({file for pattern in ONNX_SHIPPED for file in source.glob(pattern)})
        files = [(file, target / file.name) for file in inside]
    for old, new in files:
        _place(old, new)
    return Variant(
        name=made.name,
        engine=made.engine,
        quantization=made.quantization,
        path=target.name,
        bytes=sum(new.stat().st_size for _, new in files),
    )


def _place(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it across file systems; every writer here replaces, none edits."""
    if not source.is_file():
        raise BundleError(f"{source} is missing", hint="subterra build runs every step")
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = source.resolve()
    try:
        if whole.stat().st_mode & 0o444 != 0o444:
            raise PermissionError
        os.link(whole, target)
    except OSError:
        shutil.copyfile(whole, target)


def _manifest(
    folder: Path,
    note: AgentNote,
    procedure: Procedure,
    variants: tuple[Variant, ...],
    commitment: Commitment,
    options: SealOptions,
) -> Manifest:
    names = [variant.name for variant in variants]
    default = options.default_variant or next(name for name in DEFAULT_ORDER if name in names)
    if default not in names:
        raise UsageError(
            f"the default variant '{default}' is not sealed", hint=f"--variant {default}"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        name=note.name,
        title=procedure.title,
        base=note.base,
        adapter_sha256=note.adapter_sha256,
        recipe=note.recipe,
        system=note.system,
        slots=procedure.slot_names,
        terminals=tuple(node.name for node in procedure.of_kind("terminal")),
        constrained=(folder / TRANSITIONS_NAME).is_file(),
        commitment=commitment,
        teacher=note.teacher,
        variants=variants,
        default_variant=default,
        end_of_turn_id=ChatTokenizer(folder / TOKENIZER_NAME).end_of_turn_id,
        context_tokens=min(options.context_tokens, note.positions),
        max_reply_tokens=options.max_reply_tokens,
        tools={tool: found for tool in TOOLS if (found := _version(tool))},
        seeds=note.seeds,
        files={path.relative_to(folder).as_posix(): sha256_file(path) for path in files},
    )


def _say_what_the_report_shows(bundle: Path, procedure: Path) -> None:
    for name in REPORT_SHIPPED:
        path = bundle / name
        if path.is_file() and (shown := disclosed_in_file(path, wordings(procedure))):
            print(
                f"note: {name} shows {len(shown)} wordings of the procedure to whoever has the"
                f" bundle, such as {shown[0]!r}",
                file=sys.stderr,
            )


def _say_what_the_report_measured(bundle: Path, constrained: bool) -> None:
    try:
        document = json.loads((bundle / REPORT_SHIPPED[0]).read_bytes())
        held = document.get("constrained")
    except (OSError, ValueError, AttributeError):
        return
    if held is not None and held != constrained:
        words = ("not held", "held") if held else ("held", "not held")
        print(
            f"note: this agent's state lines are {words[0]} to the procedure, but in the report"
            f" they were {words[1]}: its success is another agent's",
            file=sys.stderr,
        )


def _document(bundle: Path, manifest: Manifest, key: SigningKey) -> dict[str, object]:
    return {
        "bundle": str(bundle),
        "name": manifest.name,
        "key_id": key.public.key_id,
        "default_variant": manifest.default_variant,
        "constrained": manifest.constrained,
        "variants": [variant.model_dump() for variant in manifest.variants],
        "commitment": manifest.commitment.value,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""`subterra quantize`: every variant of a merged model, each made once.

Goes in: a work folder with `merged/`. Comes out: `variants/NAME.gguf` or `variants/NAME/`, and for
each a record `variants/NAME.json`, written last: digest of the checkpoint, sizes, tool versions. A
variant whose record fits the checkpoint is kept, so an interrupted run is resumed by running again.
Does not measure accuracy (`report`).

    $ subterra quantize build/zoom_support --variants F16,Q8_0
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from subterra.quantize.variants import (
    VARIANTS,
    Variant,
    missing_checkpoint,
    parameter_count,
    size_bytes,
)
from subterra.runtime.errors import UsageError
from subterra.runtime.files import sha256_file, write_json
from subterra.runtime.temporary import sweep
from subterra.runtime.threads import usable_threads

if TYPE_CHECKING:
    from subterra.quantize.gguf_quantize import Kind
    from subterra.quantize.onnx_quantize import OnnxKind

TOOLS = {
    "llama.cpp": ("subterra", "gguf", "llama-cpp-python"),
    "onnxruntime": ("subterra", "torch", "transformers", "optimum-onnx", "onnx", "onnxruntime"),
}
"""Packages whose version can change a variant's bytes."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """What a variant was made from and what came out."""

    name: str
    engine: str
    quantization: str
    file: str
    bytes: int
    """Everything the variant needs, the tokenizer of an ONNX folder included."""
    bits_per_weight: float
    """Bits of all stored tensors, scales included / weights of the checkpoint."""
    parameters: int
    checkpoint_sha256: str
    tools: dict[str, str]
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("work", type=Path, metavar="WORK_FOLDER", help="folder that holds merged/")
    parser.add_argument(
        "--variants",
        default=",".join(VARIANTS),
        help="which to make, comma-separated (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the records as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Make the variants and print the next command."""
    records = quantize(args.work, parse_names(args.variants), say=_say)
    if args.json:
        print(json.dumps({"variants": [asdict(record) for record in records]}, indent=2))
    _say(f"next: subterra report {args.work} --dialogues {args.work}/dialogues/heldout.jsonl")
    return 0


def parse_names(text: str) -> list[str]:
    """Split "F16,Q8_0".

    Raises:
        UsageError: a name is unknown, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in VARIANTS]
    if unknown or not names:
        raise UsageError(
            f"unknown variant {unknown[0]!r}" if unknown else "no variant is named",
            hint=f"--variants {','.join(VARIANTS)}",
        )
    return names


def quantize(work: Path, names: Sequence[str], say: Callable[[str], None]) -> list[Record]:
    """Make the named variants and those they are made from; keep the ones that are up to date.

    Raises:
        ExportError: there is no merged checkpoint, or a variant cannot be made.
        MissingExtraError: a library is not installed.
        ResourceError: the disk is full or read-only.
    """
    merged = work / "merged"
    weights = merged / "model.safetensors"
    if not weights.is_file():
        raise missing_checkpoint(merged)
    digest, parameters = sha256_file(weights), parameter_count(merged)
    records = []
    for variant in _with_sources(names):
        record = current_record(work, variant, digest)
        if record is not None:
            sweep(variant.path(work))
            say(_line(record, "up to date"))
        else:
            say(f"{variant.name:<10} ...")
            record = _make(work, variant, digest, parameters)
            say(_line(record, f"{record.seconds:.1f} s"))
        records.append(record)
    return records


def current_record(work: Path, variant: Variant, digest: str) -> Record | None:
    """Read the variant's record; None unless it fits the checkpoint, the tools and the file."""
    record = read_record(work, variant)
    path = variant.path(work)
    if record is None or not path.exists():
        return None
    fits = (
        record.checkpoint_sha256 == digest
        and record.tools == _tools(variant)
        and record.bytes == size_bytes(path)
    )
    return record if fits else None


def read_record(work: Path, variant: Variant) -> Record | None:
    """Read the variant's record, None when it is missing or not one."""
    try:
        return Record(**json.loads(variant.record_path(work).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _make(work: Path, variant: Variant, digest: str, parameters: int) -> Record:
    target = variant.path(work)
    variant.record_path(work).unlink(missing_ok=True)  # a kill from here on leaves no false record
    begin = time.perf_counter()
    _write(variant, work, target)
    record = Record(
        name=variant.name,
        engine=variant.engine,
        quantization=variant.quantization,
        file=variant.file_name,
        bytes=size_bytes(target),
        bits_per_weight=round(8 * _tensor_bytes(variant, target) / parameters, 4),
        parameters=parameters,
        checkpoint_sha256=digest,
        tools=_tools(variant),
        seconds=round(time.perf_counter() - begin, 2),
    )
    write_json(variant.record_path(work), asdict(record))
    return record


def _write(variant: Variant, work: Path, target: Path) -> None:
    if variant.source is None:
        if variant.engine == "onnxruntime":
            from subterra.quantize.onnx_export import export_onnx

            export_onnx(work / "merged", target)
        else:
            from subterra.quantize.gguf_export import export_gguf

            export_gguf(work / "merged", target)
        return
    source = VARIANTS[variant.source].path(work)
    if variant.engine == "onnxruntime":
        from subterra.quantize.onnx_quantize import quantize_onnx

        quantize_onnx(source, target, cast("OnnxKind", variant.quantization))
    else:
        from subterra.quantize.gguf_quantize import quantize_gguf

        quantize_gguf(source, target, cast("Kind", variant.quantization), threads=usable_threads())


def _tensor_bytes(variant: Variant, path: Path) -> int:
    if variant.engine == "onnxruntime":
        from subterra.quantize.onnx_quantize import initializer_bytes

        return initializer_bytes(path)
    from subterra.quantize.gguf_quantize import tensor_sizes

    return tensor_sizes(path).tensor_bytes


def _with_sources(names: Sequence[str]) -> list[Variant]:
    wanted = set(names)
    wanted |= {source for name in names if (source := VARIANTS[name].source)}
    return [variant for name, variant in VARIANTS.items() if name in wanted]


def _tools(variant: Variant) -> dict[str, str]:
    return {package: _version(package) for package in TOOLS[variant.engine]}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _line(record: Record, what: str) -> str:
    return (
        f"{record.name:<10} {record.bytes / MIB:8.1f} MiB "
        f"{record.bits_per_weight:6.2f} bits/weight   {what}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""The verb `compile`: a procedure and its user bank become an adapter.

Goes in: a procedure folder. Comes out: WORK/adapter, and dialogues to look at. Killed runs resume;
a run whose inputs and settings did not change is not repeated.

    $ subterra compile examples/zoom_support
"""

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

from subterra.compile.card import ADAPTER_FILE, FULL_FILE, checkpoint_file, read_card
from subterra.compile.dialogue import write_dialogues
from subterra.compile.dry_run import measured_rate, plan_document
from subterra.compile.dry_run_text import document_lines
from subterra.compile.general_wording import digest, load_training_bank
from subterra.compile.procedure import Procedure
from subterra.compile.provenance import bank_digests, teacher, written_by
from subterra.compile.scenario import Temper
from subterra.compile.settings import TrainSettings
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.validation import load_procedure
from subterra.compile.wording import CLEAN, TRAINING
from subterra.models.resolve import Base, resolve_base
from subterra.runtime.errors import AdapterError, MissingExtraError, UsageError
from subterra.runtime.files import sha256_file
from subterra.runtime.temporary import sweep

DEFAULT_BASE = "smollm2-135m-instruct"
SAMPLE_DIALOGUES = 200
"""Training dialogues written out for people to read."""
HELDOUT_DIALOGUES = 60
"""Gold dialogues in held-out wording, for the divergence part of the report."""
TOOLS = ("subterra", "torch", "transformers", "peft")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    defaults = TrainSettings()
    parser.add_argument("procedure", type=Path, help="procedure.yaml or its folder")
    parser.add_argument(
        "--users",
        type=Path,
        action="append",
        help="training bank (default: users/train.yaml); further ones add their wordings to it",
    )
    parser.add_argument("--out", type=Path, help="work folder (default: build/NAME)")
    parser.add_argument("--base", default=DEFAULT_BASE, help="base model (%(default)s)")
    parser.add_argument("--recipe", choices=("plain", "traced"), default=defaults.recipe)
    parser.add_argument("--method", choices=("lora", "full"), default=defaults.method)
    parser.add_argument(
        "--dialogues", type=int, default=defaults.dialogues, help="to train on (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=defaults.batch, help="dialogues a step")
    parser.add_argument("--rank", type=int, default=defaults.rank, help="LoRA rank (%(default)s)")
    parser.add_argument(
        "--alpha", type=int, default=defaults.alpha, help="LoRA alpha (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=0.0, help="peak learning rate")
    parser.add_argument(
        "--continue-from", type=Path, metavar="ADAPTER", help="train an adapter on (other --seed!)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of data and initial weights")
    parser.add_argument(
        "--processes", type=int, default=0, help="that train together (default: one a core)"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--dialogues-only", action="store_true", help="write dialogues, train nothing"
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="print training text, coverage and time; write nothing",
    )
    parser.add_argument(
        "--rate-tokens",
        type=float,
        metavar="N",
        help="tokens/s that --dry-run reckons with (default: two steps are timed)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Write dialogues, train, and say what comes next."""
    settings = _settings(args)
    procedure = load_procedure(args.procedure)
    folder = args.procedure if args.procedure.is_dir() else args.procedure.parent
    users, *more = args.users or [folder / "users" / "train.yaml"]
    work = args.out or Path("build") / procedure.name
    beside = (users.parent, *(path.parent for path in more), folder / "users")
    heldout, *others = [place / "heldout.yaml" for place in beside]
    bank = load_training_bank(users, procedure, heldout, *others, more=more)
    for warning in bank.warnings:
        _say(warning)
    if args.dry_run:
        return _dry_run(args, procedure, bank, settings)
    write_samples(work, procedure, bank, heldout, settings.seed)
    adapter = work / "adapter"
    if not args.dialogues_only:
        train_adapter(
            args.base,
            procedure,
            bank,
            adapter,
            settings,
            args.continue_from,
            args.processes,
        )
    if args.json:
        trained = None if args.dialogues_only else str(adapter)
        print(json.dumps({"adapter": trained, "dialogues": str(work / "dialogues")}))
    print(f"next: subterra {_next(args, work)}", file=sys.stderr)
    return 0


def _dry_run(
    args: argparse.Namespace, procedure: Procedure, bank: UserBank, settings: TrainSettings
) -> int:
    base = resolve_base(args.base)

    def rate() -> tuple[float, str]:
        if args.rate_tokens:
            return args.rate_tokens, "given by --rate-tokens"
        print("timing two steps; --rate-tokens N spares this", file=sys.stderr)
        return measured_rate(base, procedure, bank, settings, args.processes)

    document = plan_document(base, procedure, bank, settings, rate=rate, report=_say)
    print(json.dumps(document, indent=2) if args.json else "\n".join(document_lines(document)))
    print(f"next: subterra compile {args.procedure}", file=sys.stderr)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _next(args: argparse.Namespace, work: Path) -> str:
    if args.dialogues_only:
        return f"compile {args.procedure}"
    return f"merge {work} --base {args.base}" if Path(args.base).exists() else f"merge {work}"


def write_samples(
    work: Path, procedure: Procedure, bank: UserBank, heldout: Path, seed: int
) -> None:
    """Write training dialogues to look at, and held-out ones for the report.

    Raises:
        UserBankError: the held-out bank does not fit the procedure.
    """
    target = work / "dialogues"
    stream = dialogues(procedure, bank, seed, noise=TRAINING)
    write_dialogues(target / "train.jsonl", islice(stream, SAMPLE_DIALOGUES))
    if heldout.exists():
        stream = dialogues(
            procedure, load_bank(heldout, procedure), seed, noise=CLEAN, temper=Temper()
        )
        write_dialogues(target / "heldout.jsonl", islice(stream, HELDOUT_DIALOGUES))


def train_adapter(
    base_name: str,
    procedure: Procedure,
    bank: UserBank,
    adapter: Path,
    settings: TrainSettings,
    start: Path | None = None,
    processes: int = 0,
) -> Path:
    """Train unless the adapter is up to date with these inputs and settings.

    Args:
        base_name: base model.
        procedure: as loaded from its file, whose digest goes on the card.
        bank: training bank.
        adapter: folder to write.
        settings: of the training.
        start: adapter to go on from.
        processes: that train together; 0: one for each core.
    """
    base = resolve_base(base_name)
    inputs = {
        "procedure": str(procedure.sha256),
        **bank_digests(bank),
        "general_wording": digest(bank),
    }
    if start is not None:
        if not (start / ADAPTER_FILE).exists():
            raise AdapterError(
                f"{start} holds no {ADAPTER_FILE}", hint="give the folder of a LoRA adapter"
            )
        inputs["continued_from"] = sha256_file(start / ADAPTER_FILE)
    card: dict[str, object] = {
        "inputs": inputs,
        "teacher": teacher(bank),
        "widened_by": written_by(bank),
        "tools": {name: _version(name) for name in TOOLS},
    }
    if _up_to_date(adapter, inputs, base, settings):
        sweep(adapter)
        checkpoint_file(adapter).unlink(missing_ok=True)
        print(f"{adapter} is up to date", file=sys.stderr)
        return adapter
    from subterra.compile.train import Job, train

    return train(
        Job(base, procedure, bank, adapter, settings, start=start, processes=processes, card=card)
    )


def _up_to_date(adapter: Path, inputs: dict[str, str], base: Base, settings: TrainSettings) -> bool:
    if not any((adapter / name).exists() for name in (ADAPTER_FILE, FULL_FILE)):
        return False
    try:
        old = read_card(adapter)
    except AdapterError:
        return False
    same = old.get("inputs") == inputs and old["base"]["sha256"] == base.sha256
    wanted = json.loads(json.dumps(_comparable(settings)))
    return same and _without_schedule(old.get("settings", {})) == wanted


def _settings(args: argparse.Namespace) -> TrainSettings:
    for name in ("dialogues", "batch", "rank", "alpha"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1", hint=f"subterra compile --{name} 2")
    if args.processes < 0:
        raise UsageError("--processes must not be negative", hint="--processes 1")
    if args.rate_tokens is not None and not 0 < args.rate_tokens < math.inf:
        raise UsageError("--rate-tokens must be more than 0", hint="--rate-tokens 400")
    if args.rate < 0:
        raise UsageError("--rate must not be negative", hint="--rate 1e-3")
    return replace(
        TrainSettings(),
        recipe=args.recipe,
        method=args.method,
        dialogues=args.dialogues,
        batch=args.batch,
        rank=args.rank,
        alpha=args.alpha,
        learning_rate=args.rate,
        seed=args.seed,
    )


def _comparable(settings: TrainSettings) -> dict[str, object]:
    return _without_schedule(asdict(settings) | {"learning_rate": settings.rate})


def _without_schedule(settings: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in settings.items() if k not in ("checkpoint_seconds", "validations")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise MissingExtraError(package, "compile") from None

"""The verb `widen`: a teacher writes more user wordings for a training bank.

Goes in: a procedure folder and a teacher. Comes out: users/widened.yaml, which `subterra compile`
takes beside the training bank. What does not fit is refused, and counted by reason. An endpoint is
asked only after the command has said what it discloses to whom, and that was agreed to.

    $ subterra widen examples/zoom_support --teacher local --model instruct.gguf
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from subterra.compile.bank_document import fold
from subterra.compile.general_wording import load_training_bank
from subterra.compile.procedure import Procedure
from subterra.compile.teacher_endpoint import EndpointTeacher
from subterra.compile.teachers import Teacher
from subterra.compile.user_bank import load_bank, own_texts
from subterra.compile.validation import load_procedure
from subterra.compile.widen_text import disclosure, document, table
from subterra.compile.widened_bank import FILE_NAME, Author, WidenedBank
from subterra.compile.widening import Plan, Tally, Widening
from subterra.compile.wording_filter import WordingFilter
from subterra.compile.yaml_source import closest
from subterra.runtime.errors import EngineError, TeacherError, UsageError

HELD_OUT = "heldout*.yaml"
MAX_TEMPERATURE = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    plan = Plan()
    parser.add_argument("procedure", type=Path, help="procedure.yaml or its folder")
    parser.add_argument("--users", type=Path, help="training bank (default: users/train.yaml)")
    parser.add_argument("--out", type=Path, help=f"bank to write (default: beside it, {FILE_NAME})")
    parser.add_argument(
        "--teacher", choices=("local", "endpoint"), default="local", help="(%(default)s)"
    )
    parser.add_argument(
        "--model",
        help="local: an instruct GGUF (default: the embedded base, which is weak);"
        " endpoint: the model's name there",
    )
    parser.add_argument("--url", help="of an OpenAI-compatible server, as in https://HOST/v1")
    parser.add_argument("--key-env", metavar="VARIABLE", help="that holds the server's key")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds an answer may take")
    parser.add_argument("--intents", help="comma-separated (default: all)")
    parser.add_argument(
        "--count", type=int, default=plan.count, help="new wordings an intent (%(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=plan.batch, help="messages a request (%(default)s)"
    )
    parser.add_argument(
        "--samples", type=int, default=plan.samples, help="own wordings a request shows"
    )
    parser.add_argument("--temperature", type=float, default=0.9, help="of drawing (%(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of samples and drawing")
    parser.add_argument("--yes", action="store_true", help="agree to the disclosure")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Ask the teacher, and say what was kept."""
    plan = _plan(args)
    procedure = load_procedure(args.procedure)
    folder = args.procedure if args.procedure.is_dir() else args.procedure.parent
    users = args.users or folder / "users" / "train.yaml"
    held_out = _held_out(users, folder / "users")
    bank = load_training_bank(users, procedure, *held_out)
    widened = WidenedBank(args.out or users.parent / FILE_NAME)
    intents = widened.lacking(_intents(args.intents, procedure), plan.count)
    tallies: Mapping[str, Tally] = {}
    if intents:
        barred = {fold(text) for path in held_out for text in own_texts(load_bank(path, procedure))}
        shared = WordingFilter(procedure, bank, barred)
        teacher = _teacher(args)
        try:
            _agree(args, teacher, procedure, intents, plan)
            widening = Widening(teacher, procedure, bank, shared, widened, plan)
            tallies = _widen(widening, teacher, widened, intents)
        finally:
            teacher.close()
    if args.json:
        print(json.dumps(document(widened, tallies), indent=2))
    _say("\n".join(table(widened, tallies)))
    _say(f"next: subterra compile {args.procedure} --users {users} --users {widened.path}")
    return 0


def _widen(
    widening: Widening, teacher: Teacher, widened: WidenedBank, intents: Sequence[str]
) -> Mapping[str, Tally]:
    """Run, and let an error say what was kept.

    Raises:
        TeacherError: see `Widening.run`.
        EngineError: see `Widening.run`.
    """
    today = datetime.now(UTC).date().isoformat()
    widened.sign(Author(teacher.kind, teacher.model, teacher.host, today))
    try:
        widening.run(intents, _say)
    except (TeacherError, EngineError) as error:
        new = sum(tally.kept for tally in widening.tallies.values())
        kept = f"{new} new wordings of this run and {widened.size() - new} older ones are kept in"
        again = "run the same command again, which goes on from there"
        raise type(error)(
            f"{error}; {kept} {widened.path}", hint=f"{error.hint}; then {again}"
        ) from error
    return widening.tallies


def _agree(
    args: argparse.Namespace,
    teacher: Teacher,
    procedure: Procedure,
    intents: Sequence[str],
    plan: Plan,
) -> None:
    """Say what leaves this machine, and ask whether it may.

    Raises:
        UsageError: nobody agreed.
    """
    if not isinstance(teacher, EndpointTeacher):
        return
    _say("\n".join(disclosure(teacher, procedure, intents, plan)))
    if args.yes:
        return
    agreed = False
    if sys.stdin.isatty():
        print("send it? [y/N] ", end="", file=sys.stderr, flush=True)
        agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not agreed:
        raise UsageError("nothing was sent", hint="agree with --yes, or use --teacher local")


def _teacher(args: argparse.Namespace) -> Teacher:
    if args.teacher == "endpoint":
        if not (args.url and args.model):
            raise UsageError(
                "--teacher endpoint needs --url and --model",
                hint="--url http://127.0.0.1:8080/v1 --model NAME",
            )
        return EndpointTeacher(
            args.url,
            _model_name(args.model),
            key=_key(args.key_env),
            temperature=args.temperature,
            timeout=args.timeout,
        )
    if args.url or args.key_env:
        raise UsageError("--url and --key-env belong to an endpoint", hint="--teacher endpoint")
    from subterra.compile.teacher_local import embedded_model, open_local

    if args.model is None:
        _say(
            "no --model: the embedded base writes, which is weak: little will be kept, less is good"
        )
    path = Path(args.model) if args.model else embedded_model()
    return open_local(path, temperature=args.temperature)


def _model_name(name: str) -> str:
    if not name.isprintable():
        raise UsageError(f"--model {name!r} is no name", hint="--model NAME")
    return name


def _key(variable: str | None) -> str | None:
    """Read the key; it is never printed.

    Raises:
        UsageError: there is none, or it cannot stand in a header.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(
            f"the environment variable {variable} is empty", hint=f"export {variable}=..."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"what {variable} holds is no key", hint=f"export {variable}=...")
    return key


def _held_out(users: Path, example: Path) -> list[Path]:
    """Find the held-out banks beside the training bank and in the example's folder."""
    found = {path.resolve() for folder in (users.parent, example) for path in folder.glob(HELD_OUT)}
    if users.resolve() in found:
        raise UsageError(f"{users} is a held-out bank", hint="widen a training bank: --users")
    return sorted(found)


def _intents(text: str | None, procedure: Procedure) -> tuple[str, ...]:
    known = procedure.intent_names()
    if text is None:
        return known
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise UsageError(
                f"the procedure has no intent '{name}'{closest(name, known)}",
                hint=f"--intents {known[0]}",
            )
    if not names:
        raise UsageError("--intents names none", hint=f"--intents {known[0]}")
    return names


def _plan(args: argparse.Namespace) -> Plan:
    for name in ("count", "batch", "samples"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1", hint=f"--{name} 10")
    if not 0 <= args.temperature <= MAX_TEMPERATURE:
        raise UsageError(
            f"--temperature goes from 0 to {MAX_TEMPERATURE:g}", hint="--temperature 0.9"
        )
    if not 0 < args.timeout < math.inf:
        raise UsageError("--timeout must be more than 0", hint="--timeout 120")
    return Plan(args.count, args.batch, args.samples, args.seed)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

r"""The verb `build`: the whole way from a procedure to a sealed agent, stage by stage.

Goes in: an example folder. Comes out: `build/NAME/NAME.agent`. Every stage skips what is up to
date, so an interrupted build goes on where it stopped. An adapter that ships with subterra is used
if there is one for this procedure; `--train` compiles from nothing.

    $ subterra build examples/zoom_support
"""

import argparse
import importlib.util
import json
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from subterra.compile.card import CARD_FILE, read_card
from subterra.compile.compile import DEFAULT_BASE, train_adapter, write_samples
from subterra.compile.general_wording import load_training_bank
from subterra.compile.merge import merge
from subterra.compile.procedure import Procedure
from subterra.compile.settings import TrainSettings
from subterra.compile.validation import load_procedure
from subterra.models.adapters import shipped_adapter
from subterra.quantize.quantize import parse_names, quantize
from subterra.quantize.report import make_report
from subterra.quantize.report_wiring import ScoreOptions
from subterra.quantize.seal import SealOptions, author_key, seal
from subterra.quantize.variants import VARIANTS, existing
from subterra.runtime.errors import UsageError
from subterra.runtime.files import replacing_folder

SHIPPED_VARIANTS = ("Q8_0", "onnx-int8")
"""What goes into the bundle: one file for llama.cpp, one for a device without a compiler."""
CONVERSATIONS = 200
ONNX_CONVERSATIONS = 20
DIVERGENCE_DIALOGUES = 20
SCENARIO_SEED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("example", type=Path, help="folder with procedure.yaml and users/")
    parser.add_argument("--out", type=Path, help="work folder (default: build/NAME)")
    parser.add_argument("--train", action="store_true", help="compile even if an adapter ships")
    parser.add_argument("--base", default=DEFAULT_BASE, help="base model (%(default)s)")
    parser.add_argument(
        "--dialogues", type=int, default=TrainSettings().dialogues, help="to train on (%(default)s)"
    )
    parser.add_argument(
        "--processes", type=int, default=0, help="that train together (default: one a core)"
    )
    parser.add_argument("--variants", help="variants to make and report, comma-separated")
    parser.add_argument(
        "--conversations", type=int, default=CONVERSATIONS, help="scored a variant (%(default)s)"
    )
    parser.add_argument("--onnx-conversations", type=int, default=ONNX_CONVERSATIONS)
    parser.add_argument("--limit", type=int, default=DIVERGENCE_DIALOGUES, help="of divergence")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: Namespace) -> int:
    """Build and say where the agent lies."""
    procedure = load_procedure(args.example)
    folder = args.example if args.example.is_dir() else args.example.parent
    work = args.out or Path("build") / procedure.name
    work.mkdir(parents=True, exist_ok=True)
    source = args.example if args.example.is_file() else folder / "procedure.yaml"
    users = folder / "users"
    names = _variants(args.variants)

    stage = _Stages()
    stage("compile", lambda: _adapter(args, procedure, users, work))
    base = None if args.base == DEFAULT_BASE else args.base
    stage("merge", lambda: merge(work / "adapter", work / "merged", base_name=base))
    stage("quantize", lambda: quantize(work, names, say=_say))
    stage("report", lambda: _report(args, work, users / "heldout.yaml"))
    agent = stage("seal", lambda: _seal(work, source, names))
    if args.json:
        print(json.dumps({"agent": str(agent), "seconds": stage.seconds}, indent=2))
    _say(f"next: subterra prove {agent}    or: subterra chat {agent}")
    return 0


class _Stages:
    """Names each stage as it starts and keeps its seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], object]) -> object:
        start = time.monotonic()
        _say(f"== {name}")
        result = work()
        self.seconds[name] = round(time.monotonic() - start, 1)
        _say(f"== {name}: {self.seconds[name]} s")
        return result


def _variants(text: str | None) -> list[str]:
    has_llama = importlib.util.find_spec("llama_cpp") is not None
    if text is None:
        return [v.name for v in VARIANTS.values() if has_llama or v.engine != "llama.cpp"]
    return parse_names(text)


def _adapter(args: Namespace, procedure: Procedure, users: Path, work: Path) -> Path:
    adapter, training, heldout = work / "adapter", users / "train.yaml", users / "heldout.yaml"
    bank = load_training_bank(training, procedure, heldout)
    settings = _settings(args)
    write_samples(work, procedure, bank, heldout, settings.seed)
    shipped = None if args.train else shipped_adapter(procedure.name)
    if shipped is None:
        return train_adapter(
            args.base, procedure, bank, adapter, settings, processes=args.processes
        )
    _say(f"using the adapter that ships with subterra ({shipped.name}); --train compiles anew")
    _copy_adapter(shipped, adapter)
    return adapter


def _settings(args: Namespace) -> TrainSettings:
    if args.dialogues < 1:
        raise UsageError("--dialogues must be at least 1", hint="subterra build --dialogues 2")
    if args.processes < 0:
        raise UsageError("--processes must not be negative", hint="--processes 1")
    return replace(TrainSettings(), dialogues=args.dialogues)


def _copy_adapter(source: Path, target: Path) -> None:
    if (target / CARD_FILE).exists() and read_card(target) == read_card(source):
        return
    with replacing_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def _report(args: Namespace, work: Path, users: Path) -> None:
    score = ScoreOptions(
        merged=work / "merged",
        users=users if args.conversations else None,
        procedure=None,
        conversations=args.conversations,
        seed=SCENARIO_SEED,
        onnx_conversations=args.onnx_conversations,
    )
    make_report(work, work / "dialogues" / "heldout.jsonl", args.limit, score, _say)


def _seal(work: Path, procedure: Path, names: Sequence[str]) -> Path:
    made = {variant.name for variant in existing(work)} & set(names)
    chosen = tuple(name for name in SHIPPED_VARIANTS if name in made) or tuple(sorted(made))
    return seal(work, procedure, author_key(), options=SealOptions(variants=chosen))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""The verb `score`: roll out conversations on any variant, from any user bank, and measure them.

Goes in: an agent, a user bank, a procedure. Comes out: rates with intervals, transcripts of
failures. The procedure stays with the author; a sealed agent never holds it.

    $ subterra score build/zoom_support --users examples/zoom_support/users/heldout.yaml
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from subterra.compile.agent_source import AgentSource, find_agent, known_recipe
from subterra.compile.card import read_card
from subterra.compile.metrics import Metrics, measure, succeeded
from subterra.compile.node_reader import NodeReader
from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate
from subterra.compile.rollout import Conversation, Plan, rollout
from subterra.compile.scenario import Scenario, Temper, scenarios
from subterra.compile.teacher_bank import agent_paths, dialogues
from subterra.compile.transcript import write_transcripts
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.validation import load_procedure
from subterra.compile.wording import CLEAN, WordingSource
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.engine import open_engine
from subterra.runtime.errors import UsageError
from subterra.runtime.signing import load_verify_key

PARALLEL = 16
"""Conversations that run side by side."""
CONTEXT = 2048


@dataclass(frozen=True, slots=True)
class Score:
    """What one variant achieved."""

    source: AgentSource
    metrics: Metrics
    conversations: list[Conversation]
    success: list[bool]
    """One a scenario, in order."""
    seconds: float

    @property
    def rates(self) -> dict[str, Rate]:
        """The metrics' rates by name, without those that do not apply."""
        found = {name: getattr(self.metrics, name) for name in self.metrics.__dataclass_fields__}
        return {name: rate for name, rate in found.items() if isinstance(rate, Rate)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("agent", type=Path, help="sealed agent or work folder (build/NAME)")
    parser.add_argument("--variant", help="variant to score (default: the agent's own, or Q8_0)")
    parser.add_argument("--users", type=Path, required=True, help="user bank (users/heldout.yaml)")
    parser.add_argument(
        "--procedure", type=Path, help="procedure (default: procedure.yaml beside the users folder)"
    )
    parser.add_argument("--conversations", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the scenarios (%(default)s)")
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="at once (%(default)s)")
    parser.add_argument("--transcripts", type=Path, help="write failed conversations to this file")
    parser.add_argument("--key", type=Path, help="public key that the agent must be signed with")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    if args.conversations < 1 or args.parallel < 1:
        raise UsageError(
            "--conversations and --parallel must be at least 1", hint="--conversations 200"
        )
    procedure_path = args.procedure or args.users.resolve().parent.parent / "procedure.yaml"
    procedure = load_procedure(procedure_path)
    bank = load_bank(args.users, procedure)
    key = load_verify_key(args.key) if args.key else None
    source = find_agent(args.agent, args.variant, key=key)
    score = score_agent(
        source,
        procedure,
        bank,
        conversations=args.conversations,
        seed=args.seed,
        parallel=args.parallel,
        progress=_progress,
    )
    if args.transcripts:
        failed = [c for c, won in zip(score.conversations, score.success, strict=True) if not won]
        write_transcripts(args.transcripts, failed)
    document = _document(score, procedure, bank, args)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        _print(document)
    verb = "seal" if (args.agent / "merged").is_dir() else "chat"
    lost = "" if args.transcripts else "    or --transcripts FILE to read the failures"
    print(f"next: subterra {verb} {args.agent}{lost}", file=sys.stderr)
    return 0


def score_agent(
    source: AgentSource,
    procedure: Procedure,
    bank: UserBank,
    *,
    conversations: int,
    seed: int,
    parallel: int = PARALLEL,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Score:
    """Open the engine, roll out the scenarios of this seed, and measure them.

    Raises:
        EngineError: the engine refuses the model.
    """
    tokenizer = ChatTokenizer(source.tokenizer, ChatFormat(system=source.system))
    plan = Plan(
        procedure,
        draw_scenarios(procedure, bank, conversations, seed),
        lambda index: WordingSource(bank, random.Random(f"{seed}/wording/{index}"), CLEAN),
        tokenizer,
        NodeReader(procedure, source.recipe),
        seed,
        context_tokens=CONTEXT,
    )
    engine = open_engine(source.engine, source.model, context_tokens=CONTEXT)
    start = time.monotonic()
    try:
        slots = engine.slots(min(parallel, conversations))
        try:
            found = rollout(plan, slots, progress)
        finally:
            slots.close()
    finally:
        engine.close()
    wins = [succeeded(procedure, c) for c in found]
    return Score(source, measure(procedure, found), found, wins, time.monotonic() - start)


def score_variant(
    engine: str,
    path: Path,
    *,
    merged: Path,
    procedure: Path,
    users: Path,
    conversations: int,
    seed: int,
) -> Score:
    """Score one model file of a work folder; the same seed gives the same scenarios."""
    card = read_card(merged)
    graph = load_procedure(procedure)
    source = AgentSource(
        str(card["name"]),
        path.stem,
        engine,
        path,
        merged / "tokenizer.json",
        str(card["system"]),
        known_recipe(str(card["recipe"])),
    )
    return score_agent(
        source, graph, load_bank(users, graph), conversations=conversations, seed=seed
    )


def draw_scenarios(procedure: Procedure, bank: UserBank, count: int, seed: int) -> list[Scenario]:
    """Draw scenarios, stratified over the acyclic paths."""
    rng = random.Random(seed)
    return list(islice(scenarios(procedure, bank, agent_paths(procedure), rng, Temper()), count))


def classifier_accuracy(procedure: Procedure, bank: UserBank, count: int = 60) -> Rate:
    """Measure the classifier that finds the node of a plain reply, on gold replies."""
    reader = NodeReader(procedure, "plain")
    turns = [t for d in islice(dialogues(procedure, bank, 5), count) for t in d.turns]
    return Rate(sum(reader.classify(t.reply) == t.node for t in turns), len(turns))


def _document(
    score: Score, procedure: Procedure, bank: UserBank, args: argparse.Namespace
) -> dict[str, object]:
    document: dict[str, object] = {
        "agent": score.source.name,
        "variant": score.source.variant,
        "engine": score.source.engine,
        "recipe": score.source.recipe,
        "users": str(args.users),
        "conversations": args.conversations,
        "seed": args.seed,
        **score.metrics.to_json(),
        "seconds": round(score.seconds, 1),
    }
    if score.source.recipe == "plain":
        document["classifier_accuracy"] = classifier_accuracy(procedure, bank).to_json()
    return document


def _print(document: dict[str, object]) -> None:
    print(
        f"{document['agent']} {document['variant']} ({document['engine']}, {document['recipe']}):"
        f" {document['conversations']} conversations from {document['users']},"
        f" seed {document['seed']}, {document['seconds']} s"
    )
    for name, rate in document.items():
        if isinstance(rate, dict):
            value = "not measured" if rate["value"] is None else f"{100 * rate['value']:5.1f} %"
            interval = f"[{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
            print(f"  {name.replace('_', ' '):<22}{value}  {interval:<15} n = {rate['n']}")


def _progress(done: int, total: int) -> None:
    text = f"{done}/{total} conversations"
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r\x1b[K{text}", end=end, file=sys.stderr, flush=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        print(text, file=sys.stderr, flush=True)  # every tenth, where nothing can be rewritten

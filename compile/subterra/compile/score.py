"""The verb `score`: roll out conversations on any variant, from any user bank, and measure them.

Goes in: an agent, a user bank, a procedure. Comes out: rates with intervals, what failures have in
common, a comparison with another agent, a verdict for CI. The procedure stays with the author; a
sealed agent never holds it.

    $ subterra score build/zoom_support --users examples/zoom_support/users/heldout.yaml --explain
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from subterra.compile.against import (
    Comparison,
    Saved,
    find_other,
    outcome_text,
    scenarios_digest,
)
from subterra.compile.agent_source import AgentSource, find_agent, unsealed
from subterra.compile.bank_origin import WORDS, Origin, assert_held_out, measures_memory, origin
from subterra.compile.explain import clusters
from subterra.compile.metrics import Metrics, measure, succeeded
from subterra.compile.node_reader import NodeReader
from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate
from subterra.compile.requirements import Finding
from subterra.compile.rollout import Conversation, Plan, rollout
from subterra.compile.scenario import Scenario, Temper, scenarios
from subterra.compile.score_gate import EXAMPLE, findings, requirements
from subterra.compile.score_text import document_lines
from subterra.compile.teacher_bank import agent_paths, dialogues
from subterra.compile.transcript import write_transcripts
from subterra.compile.transitions import edited_warning, is_edited, table_for
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.validation import load_procedure, procedure_beside
from subterra.compile.wording import CLEAN, WordingSource
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.engine import open_engine
from subterra.runtime.errors import ScoreError, UsageError
from subterra.runtime.files import sha256_file
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
    constrained: bool = False
    """Whether state lines were held to the procedure's transitions."""

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
    parser.add_argument("--explain", action="store_true", help="failures by node and kind of fault")
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="compare on the same scenarios: FOLDER, FOLDER:VARIANT, VARIANT, or a saved --json",
    )
    parser.add_argument(
        "--require", action="append", metavar="EXPR", help=f"fail when missed, as in: {EXAMPLE}"
    )
    parser.add_argument(
        "--unconstrained",
        action="store_true",
        help="do not hold state lines to the procedure's transitions",
    )
    parser.add_argument("--key", type=Path, help="public key that the agent must be signed with")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Score and print.

    Raises:
        ScoreError: a requirement of --require is missed; everything is printed all the same.
    """
    if args.conversations < 1 or args.parallel < 1:
        raise UsageError(
            "--conversations and --parallel must be at least 1", hint="--conversations 200"
        )
    wanted = requirements(args.require or ())
    procedure = load_procedure(args.procedure or procedure_beside(args.users))
    bank = load_bank(args.users, procedure)
    key = load_verify_key(args.key) if args.key else None
    source = find_agent(args.agent, args.variant, key=key)
    found = _check_bank(args.agent, procedure, bank)
    drawn = draw_scenarios(procedure, bank, args.conversations, args.seed)
    expected = _paired_by(args, drawn)
    other = None
    if args.against:
        other = find_other(args.against, args.agent, args.variant, key, expected)
        if isinstance(other, AgentSource):
            held = not args.unconstrained
            table_for(other, procedure, constrained=held)  # refuses before hours of scoring
    roll_out = partial(
        score_agent,
        procedure=procedure,
        bank=bank,
        conversations=args.conversations,
        seed=args.seed,
        parallel=args.parallel,
        constrained=not args.unconstrained,
        progress=_progress,
    )
    score = roll_out(source)
    document = _document(score, procedure, bank, args) | {"bank": found} | expected
    document["outcomes"] = outcome_text(score.success)
    if other is not None:
        saved = other if isinstance(other, Saved) else _saved(other, roll_out)
        comparison = Comparison(saved.label, tuple(score.success), saved.outcomes)
        document["against"] = comparison.to_json(drawn)
    if args.explain:
        document["clusters"] = [c.to_json() for c in clusters(procedure, score.conversations)]
    verdicts = findings(wanted, score.metrics)
    if wanted:
        document["requirements"] = [verdict.to_json() for verdict in verdicts]
    print(json.dumps(document, indent=2) if args.json else "\n".join(document_lines(document)))
    if args.transcripts:
        failed = [c for c, won in zip(score.conversations, score.success, strict=True) if not won]
        write_transcripts(args.transcripts, failed)
    _judge(verdicts, args)
    verb = "seal" if (args.agent / "merged").is_dir() else "chat"
    lost = "" if args.transcripts or args.explain else "    or --explain to see what failed"
    print(f"next: subterra {verb} {args.agent}{lost}", file=sys.stderr)
    return 0


def _paired_by(args: argparse.Namespace, drawn: Sequence[Scenario]) -> dict[str, object]:
    """Say what two scores must have in common to be compared scenario by scenario."""
    return {
        "conversations": args.conversations,
        "seed": args.seed,
        "users_sha256": sha256_file(args.users),
        "scenarios_sha256": scenarios_digest(drawn),
    }


def _saved(other: AgentSource, roll_out: Callable[[AgentSource], Score]) -> Saved:
    label = f"{other.name} {other.variant}"
    print(f"the same scenarios with {label}", file=sys.stderr)
    return Saved(label, tuple(roll_out(other).success))


def _check_bank(agent: Path, procedure: Procedure, bank: UserBank) -> Origin:
    """Say where the bank comes from; warn where the score would measure memory."""
    found = origin(agent, bank)
    if measures_memory(found, bank):
        print(
            f"warning: {bank.path} is a training bank: the score measures memory, not how the agent"
            " takes wording it never met",
            file=sys.stderr,
        )
    else:
        assert_held_out(bank, procedure)
    print(f"users: {bank.path}: {WORDS[found]}", file=sys.stderr)
    return found


def _judge(verdicts: Sequence[Finding], args: argparse.Namespace) -> None:
    missed = [str(verdict) for verdict in verdicts if not verdict.met]
    if missed:
        hint = f"subterra score {args.agent} --users {args.users} --explain"
        raise ScoreError("; ".join(missed), hint="see the clusters" if args.explain else hint)
    for verdict in verdicts:
        print(f"met: {verdict}", file=sys.stderr)


def score_agent(
    source: AgentSource,
    procedure: Procedure,
    bank: UserBank,
    *,
    conversations: int,
    seed: int,
    parallel: int = PARALLEL,
    constrained: bool = True,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Score:
    """Open the engine, roll out the scenarios of this seed, and measure them.

    Args:
        source: the agent.
        procedure: what it should follow.
        bank: what the users say.
        conversations: how many.
        seed: of the scenarios.
        parallel: conversations at once.
        constrained: hold state lines to the transitions, where the agent runs or is sealed so.
        progress: is told how many conversations of how many are over.

    Raises:
        UsageError: the agent's slots are not the procedure's.
        EngineError: the engine refuses the model.
    """
    table = table_for(source, procedure, constrained=constrained)
    if constrained and is_edited(source.procedure_sha256, procedure):
        print(edited_warning(source.name), file=sys.stderr)
    tokenizer = ChatTokenizer(source.tokenizer, ChatFormat(system=source.system))
    plan = Plan(
        procedure,
        draw_scenarios(procedure, bank, conversations, seed),
        lambda index: WordingSource(bank, random.Random(f"{seed}/wording/{index}"), CLEAN),
        tokenizer,
        NodeReader(procedure, source.recipe),
        seed,
        context_tokens=CONTEXT,
        table=table,
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
    seconds = time.monotonic() - start
    return Score(source, measure(procedure, found), found, wins, seconds, table is not None)


def score_variant(
    engine: str,
    path: Path,
    *,
    merged: Path,
    procedure: Path,
    users: Path,
    conversations: int,
    seed: int,
    constrained: bool = True,
) -> Score:
    """Score one model file of a work folder; the same seed gives the same scenarios."""
    graph = load_procedure(procedure)
    return score_agent(
        unsealed(merged, path.stem, engine, path),
        graph,
        load_bank(users, graph),
        conversations=conversations,
        seed=seed,
        constrained=constrained,
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
        "constrained": score.constrained,
        "users": str(args.users),
        "conversations": args.conversations,
        "seed": args.seed,
        **score.metrics.to_json(),
        "seconds": round(score.seconds, 1),
    }
    if score.source.recipe == "plain":
        document["classifier_accuracy"] = classifier_accuracy(procedure, bank).to_json()
    return document


def _progress(done: int, total: int) -> None:
    text = f"{done}/{total} conversations"
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r\x1b[K{text}", end=end, file=sys.stderr, flush=True)
    elif done * 10 // total > (done - 1) * 10 // total:
        print(text, file=sys.stderr, flush=True)  # every tenth, where nothing can be rewritten

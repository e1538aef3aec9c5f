"""Scoring throughput: conversations in parallel slots against one at a time, side by side.

Goes in: an agent or work folder, a user bank. Comes out: a table on stderr and one JSON line on
stdout: seconds of the rollout on both sides for the same conversations, and their ratio.

Each round runs both sides one after the other, the first one in turn. Loading the model is not
timed. Batched and single decodes round differently, so a near tie may turn a conversation another
way; the table says how many ended alike.

    $ python -m tests.bench.parallel_scoring build/zoom_support
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench import machine

from subterra.compile.agent_source import find_agent
from subterra.compile.score import PARALLEL, Score, score_agent
from subterra.compile.user_bank import load_bank
from subterra.compile.validation import load_procedure

ROOT = Path(__file__).resolve().parents[2]
GOAL = 2.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One rollout."""

    slots: int
    seconds: float
    turns: int
    ends: tuple[str | None, ...]
    """Terminal of each conversation, in order."""

    @classmethod
    def of(cls, score: Score, slots: int) -> "Measured":
        """Take what matters from a score."""
        talks = score.conversations
        turns = sum(len(talk.exchanges) for talk in talks)
        return cls(slots, score.seconds, turns, tuple(talk.ended_at for talk in talks))


def main() -> int:
    """Run the rounds and publish."""
    args = _arguments()
    source = find_agent(args.agent, args.variant, allow_unsigned=True)
    procedure = load_procedure(args.users.resolve().parent.parent / "procedure.yaml")
    bank = load_bank(args.users, procedure)
    watch = machine.start(args)
    rounds: list[dict[int, Measured]] = []
    for number in range(args.rounds):
        order = (args.slots, 1) if number % 2 else (1, args.slots)
        found = {}
        for slots in order:
            score = score_agent(
                source,
                procedure,
                bank,
                conversations=args.conversations,
                seed=args.seed,
                parallel=slots,
            )
            found[slots] = Measured.of(score, slots)
        rounds.append(found)
        seconds = ", ".join(f"{n} slots {found[n].seconds:.1f} s" for n in (1, args.slots))
        print(f"round {number + 1} of {args.rounds}: {seconds}", file=sys.stderr, flush=True)
    name = f"{source.name} {source.variant}"
    return watch.publish("parallel_scoring", table(rounds, args, name), summary(rounds, args, name))


def summary(
    rounds: list[dict[int, Measured]], args: argparse.Namespace, name: str
) -> dict[str, object]:
    """Figures for machines; seconds are medians over the rounds."""
    ratios = _ratios(rounds, args.slots)
    first = rounds[0]
    return {
        "agent": name,
        "conversations": args.conversations,
        "slots": args.slots,
        "one_slot_seconds": round(_seconds(rounds, 1), 2),
        "parallel_seconds": round(_seconds(rounds, args.slots), 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "goal": GOAL,
        "turns": [first[1].turns, first[args.slots].turns],
        "same_end": _same_end(first, args.slots),
    }


def table(rounds: list[dict[int, Measured]], args: argparse.Namespace, name: str) -> str:
    """Figures for people."""
    found = summary(rounds, args, name)
    lines = [f"{name}\n{'slots':>5}{'conversations':>15}{'turns':>7}{'seconds':>9}{'turns/s':>9}"]
    for slots in (1, args.slots):
        turns, seconds = rounds[0][slots].turns, _seconds(rounds, slots)
        lines.append(
            f"{slots:>5}{args.conversations:>15}{turns:>7}{seconds:>9.1f}{turns / seconds:>9.2f}"
        )
    low, high = min(ratios := _ratios(rounds, args.slots)), max(ratios)
    lines.append(
        f"ratio {found['ratio']} ({low:.2f} to {high:.2f} over {len(rounds)} rounds), goal"
        f" {GOAL:.0f}; {found['same_end']} of {args.conversations} conversations ended alike"
    )
    return "\n".join(lines)


def _ratios(rounds: list[dict[int, Measured]], slots: int) -> list[float]:
    return [found[1].seconds / found[slots].seconds for found in rounds]


def _seconds(rounds: list[dict[int, Measured]], slots: int) -> float:
    return statistics.median(found[slots].seconds for found in rounds)


def _same_end(found: dict[int, Measured], slots: int) -> int:
    return sum(a == b for a, b in zip(found[1].ends, found[slots].ends, strict=True))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "agent",
        type=Path,
        nargs="?",
        default=ROOT / "build" / "zoom_support",
        help="sealed agent or work folder (%(default)s)",
    )
    parser.add_argument("--variant", default="Q8_0", help="variant to score (%(default)s)")
    parser.add_argument(
        "--users", type=Path, default=ROOT / "examples" / "zoom_support" / "users" / "heldout.yaml"
    )
    parser.add_argument("--slots", type=int, default=PARALLEL, help="at once (%(default)s)")
    parser.add_argument("--conversations", type=int, default=32, help="a side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="A/B rounds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the scenarios (%(default)s)")
    machine.add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

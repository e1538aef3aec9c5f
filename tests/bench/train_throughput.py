"""Training throughput: subterra against TRL's SFTTrainer in its defaults, side by side.

Goes in: a procedure, its training bank, a base. Comes out: a table on stderr and one JSON line on
stdout: tokens/s (padding left out) of both sides on the same dialogues, and their ratio.

Each round runs both sides one after the other, the first one in turn, each in a fresh process with
the same threads, warmed up on other dialogues. Loading is not timed. TRL lives in
`build/bench-venv`, which borrows torch, transformers and peft from the running environment.

    $ python -m tests.bench.train_throughput
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from tests.bench import machine

from subterra.compile.dialogue import Dialogue, write_dialogues
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import assistant_text
from subterra.compile.settings import TrainSettings
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import load_bank
from subterra.compile.validation import load_procedure
from subterra.models.resolve import resolve_base
from subterra.runtime.threads import usable_threads

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENV = ROOT / "build" / "bench-venv"
REQUIREMENTS = ("trl==1.16.0", "datasets==5.0.1")
SHARED = ("torch", "transformers", "peft", "accelerate")
"""Taken from the running environment, so that both sides use the same."""
GOAL = 4.0
WARM_UP = 8
"""Dialogues of the warm-up: one step of SFTTrainer."""
SIDES = ("subterra", "TRL")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side did in one round."""

    steps: int
    tokens: int
    seconds: float
    cpu_seconds: float
    """Seconds of all its threads together; what a busy machine disturbs least."""
    settings: dict[str, object]
    """Settings that the side reports of itself."""

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def main() -> int:
    """Run the rounds and publish."""
    args = _arguments()
    environment = make_environment()
    watch = machine.start(args)
    rounds: list[dict[str, Measured]] = []
    with tempfile.TemporaryDirectory() as folder:
        requests = prepare(args, Path(folder))
        commands = {
            "subterra": [sys.executable, str(HERE / "side_subterra.py")],
            "TRL": [str(environment), str(HERE / "side_trl.py")],
        }
        for number in range(args.rounds):
            order = SIDES if number % 2 == 0 else SIDES[::-1]
            found = {side: run_side(commands[side], requests[side]) for side in order}
            rounds.append(found)
            rates = ", ".join(f"{side} {found[side].rate:.1f} tokens/s" for side in SIDES)
            print(f"round {number + 1} of {args.rounds}: {rates}", file=sys.stderr, flush=True)
    tokens = {measured.tokens for found in rounds for measured in found.values()}
    if len(tokens) > 1:
        print(f"the sides did not read the same tokens: {sorted(tokens)}", file=sys.stderr)
        return 1
    return watch.publish("train_throughput", table(rounds, args), summary(rounds, args))


def make_environment() -> Path:
    """Create the environment that holds TRL, once; return its Python.

    It sees the packages of the running environment, and its own come first.
    """
    python = VENV / "bin" / "python"
    stamp = VENV / "complete.json"
    shared = [f"{name}=={version(name)}" for name in SHARED]
    wanted = json.dumps([*REQUIREMENTS, *shared])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"creating {VENV.relative_to(ROOT)} with {', '.join(REQUIREMENTS)}", file=sys.stderr)
    venv.create(VENV, clear=True, with_pip=True)
    site = next((VENV / "lib").glob("python*")) / "site-packages"
    (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    subprocess.run(
        [python, "-m", "pip", "install", "-qq", *REQUIREMENTS, *shared],
        check=True,
        stdout=sys.stderr,
    )
    stamp.write_text(wanted)
    return python


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the dialogues and say to each side what it is asked to do."""
    procedure = load_procedure(args.procedure)
    users = args.procedure / "users" / "train.yaml"
    source = dialogues(procedure, load_bank(users, procedure), args.seed)
    found = list(islice(source, WARM_UP + args.dialogues))
    write_dialogues(folder / "dialogues.jsonl", found)
    messages = [conversation(procedure, dialogue) for dialogue in found]
    return {
        "subterra": {
            "base": args.base,
            "procedure": str(args.procedure),
            "users": str(users),
            "dialogues": str(folder / "dialogues.jsonl"),
            "warm_up": WARM_UP,
        },
        "TRL": {
            "base": str(resolve_base(args.base).path),
            "warm_up": messages[:WARM_UP],
            "conversations": messages[WARM_UP:],
        },
    }


def conversation(procedure: Procedure, dialogue: Dialogue) -> list[dict[str, str]]:
    """Write a dialogue as chat messages."""
    recipe = TrainSettings().recipe
    messages = [{"role": "system", "content": procedure.system}]
    for turn in dialogue.turns:
        if turn.user is not None:
            messages.append({"role": "user", "content": turn.user})
        text = assistant_text(turn, recipe, procedure.slot_names)
        messages.append({"role": "assistant", "content": text})
    return messages


def run_side(command: list[str], request: dict[str, Any]) -> Measured:
    """Run one side in a fresh process."""
    threads = str(usable_threads())
    child = subprocess.run(
        command,
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"},
    )
    if child.returncode:
        print(child.stderr, file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} failed with exit status {child.returncode}")
    answer = json.loads(child.stdout.strip().splitlines()[-1])
    return Measured(**{"settings": {}, **answer})


def summary(rounds: list[dict[str, Measured]], args: argparse.Namespace) -> dict[str, object]:
    """Figures for machines; the rates are medians over the rounds."""
    ratios = _ratios(rounds)
    return {
        **{
            f"{side.lower()}_tokens_per_second": round(_median_rate(rounds, side), 1)
            for side in SIDES
        },
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "goal": GOAL,
        "base": args.base,
        "dialogues": args.dialogues,
        "rounds": [{side: asdict(found[side]) for side in SIDES} for found in rounds],
        "versions": {name: version(name) for name in SHARED} | {"trl": REQUIREMENTS[0][5:]},
    }


def table(rounds: list[dict[str, Measured]], args: argparse.Namespace) -> str:
    """Figures for people."""
    found = summary(rounds, args)
    lines = [f"{'':<10}{'steps':>7}{'tokens':>8}{'seconds':>9}{'CPU s':>8}{'tokens/s':>10}   range"]
    for side in reversed(SIDES):
        rates = [entry[side].rate for entry in rounds]
        first = rounds[0][side]
        seconds = statistics.median(entry[side].seconds for entry in rounds)
        cpu_seconds = statistics.median(entry[side].cpu_seconds for entry in rounds)
        lines.append(
            f"{side:<10}{first.steps:>7}{first.tokens:>8}{seconds:>9.1f}{cpu_seconds:>8.1f}"
            f"{_median_rate(rounds, side):>10.1f}   {min(rates):.1f} to {max(rates):.1f}"
        )
    ratios = _ratios(rounds)
    settings = ", ".join(f"{name} {value}" for name, value in rounds[0]["TRL"].settings.items())
    lines.append(
        f"ratio {found['ratio']} ({min(ratios):.2f} to {max(ratios):.2f}, {len(rounds)} rounds),"
        f" goal {GOAL:.0f}; {args.dialogues} dialogues, each read once;"
        f" {REQUIREMENTS[0]} in its defaults ({settings})"
    )
    return "\n".join(lines)


def _ratios(rounds: list[dict[str, Measured]]) -> list[float]:
    return [found["subterra"].rate / found["TRL"].rate for found in rounds]


def _median_rate(rounds: list[dict[str, Measured]], side: str) -> float:
    return statistics.median(found[side].rate for found in rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", default="smollm2-135m-instruct", help="base model (%(default)s)")
    parser.add_argument("--procedure", type=Path, default=ROOT / "examples" / "zoom_support")
    parser.add_argument("--dialogues", type=int, default=16, help="dialogues a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="A/B rounds (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the dialogues (%(default)s)")
    machine.add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""One arm of the proof: the real agent talks while its own process tries every way out.

A fresh process for each arm. It opens the bundle, locks itself down if told to, loads the engine,
talks, and between the words tries the routes. What it reports is only why a route failed; whether
anything arrived is for the receivers to say.

Goes in (standard input): one JSON document. Comes out (standard output): one JSON document. Does
not know verdicts.

    $ python -m subterra.runtime.proof_child < arm.json
"""

import errno
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from subterra.runtime import telemetry
from subterra.runtime.bundle import Bundle, open_bundle
from subterra.runtime.egress import ROUTES, Attempt, EarlierThread
from subterra.runtime.egress_native import Unavailable
from subterra.runtime.errors import SubterraError
from subterra.runtime.guard import filtered_threads, lock_down
from subterra.runtime.receivers import Addresses

Step = Literal["token", "turn"]
Talk = Callable[[Bundle, str | None], Iterator[Step]]
"""Loads the engine and converses, endlessly; yields as tokens come and turns end."""

TURNS_MIN: Final = 4
"""The agent answers at least this often, also when the routes are done sooner."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm is to do."""

    bundle: str
    variant: str | None
    guard: bool
    allow_unsigned: bool
    addresses: dict[str, object] = field(default_factory=dict)
    markers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """How one attempt ended in the process that made it."""

    error: str = ""
    code: str = ""
    available: bool = True


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What one arm has to say."""

    trials: dict[str, Trial]
    layers: list[dict[str, str | bool]]
    threads: int
    threads_filtered: int
    turns: int
    tokens: int


def main(talk: Talk) -> int:
    """Run one arm as told on standard input."""
    telemetry.silence()
    report: dict[str, object]
    try:
        report = asdict(run_arm(Arm(**json.load(sys.stdin)), talk))
    except SubterraError as error:
        report = {"failure": str(error), "hint": error.hint}
    print(json.dumps(report))
    return 0


def run_arm(arm: Arm, talk: Talk) -> ArmReport:
    """Talk and try; report trials, layers, threads and turns.

    Raises:
        SubterraError: the bundle, the guard or the engine failed.
    """
    earlier, pending = EarlierThread(), list(ROUTES)
    addresses = Addresses.from_document(arm.addresses)
    bundle = open_bundle(Path(arm.bundle), allow_unsigned=arm.allow_unsigned)
    status = lock_down(read=[bundle.path]) if arm.guard else None
    trials: dict[str, Trial] = {}
    tokens = turns = 0
    for step in talk(bundle, arm.variant):
        turns += step == "turn"
        tokens += step == "token"
        if pending:
            route = pending.pop(0)
            attempt = earlier.attempt(route.attempt) if route.earlier else route.attempt
            trials[route.name] = _try(attempt, addresses, arm.markers[route.name])
        elif turns >= TURNS_MIN:
            break
    total, filtered = filtered_threads()
    layers = [asdict(layer) for layer in status.layers] if status else []
    return ArmReport(trials, layers, total, filtered, turns, tokens)


def _try(attempt: Attempt, addresses: Addresses, marker: str) -> Trial:
    try:
        attempt(addresses, marker.encode())
    except Unavailable as reason:
        return Trial(error=str(reason), available=False)
    except OSError as error:
        return Trial(error=str(error), code=errno.errorcode.get(error.errno or 0, ""))
    return Trial()


if __name__ == "__main__":
    from subterra.runtime.proof_talk import talk_to_agent

    sys.exit(main(talk_to_agent))

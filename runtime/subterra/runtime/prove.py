"""`subterra prove`: try every way out, without and with the guard, while the agent talks.

Receivers in this process, outside the sandbox, are the only witnesses. The first arm runs without
the guard: a marker that does not arrive there proves nothing, so its route is *untested*, never
blocked. The second arm runs under the guard. Each arm is a fresh process with the real engine.

Goes in: a bundle. Comes out: a table and a verdict: `sealed` (every route of this machine was
tested and none got out), `leak`, or `incomplete` (a control did not arrive, or the agent did not
talk). Not claimed: covert timing, or what the agent shows on the screen.

    $ subterra prove zoom_support.agent --json
"""

import argparse
import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from subterra.runtime import telemetry
from subterra.runtime.bundle import open_bundle
from subterra.runtime.egress import ROUTES
from subterra.runtime.errors import GuardError
from subterra.runtime.proof_child import TURNS_MIN, Arm, ArmReport, Trial
from subterra.runtime.receivers import Receivers
from subterra.runtime.signing import load_verify_key

ARM_SECONDS: Final = 600
"""One arm takes under 20 s on two cores; a hanging engine ends here."""
CHILD: Final = (sys.executable, "-m", "subterra.runtime.proof_child")
_STOPPED_BY: Final = {"EPERM": "seccomp", "ENOSYS": "seccomp", "EACCES": "landlock",
                      "EBADF": "descriptors"}  # fmt: skip
"""What each layer answers with: the filter EPERM, Landlock EACCES, a closed descriptor EBADF."""

Verdict = Literal["sealed", "leak", "incomplete"]
Outcome = Literal["blocked", "leak", "untested"]


@dataclass(frozen=True, slots=True)
class RouteResult:
    """What the receivers saw of one route."""

    name: str
    control_arrived: bool
    guarded_arrived: bool
    stopped_by: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of both arms."""

    agent: str
    variant: str
    verdict: Verdict
    routes: tuple[RouteResult, ...]
    untested: dict[str, str]
    """Routes that this machine or user does not have, with the reason."""
    layers: tuple[dict[str, str | bool], ...]
    threads: int
    threads_filtered: int
    turns: dict[str, int]
    """Turns of conversation in the `control` and the `guarded` arm."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `subterra prove`."""
    parser.add_argument("bundle", type=Path, help="the folder NAME.agent")
    parser.add_argument("--variant", help="which variant talks (default: the bundle's own)")
    parser.add_argument("--key", type=Path, help="the author's public key (signing.pub)")
    parser.add_argument("--allow-unsigned", action="store_true", help="accept a missing signature")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Prove a bundle and print the table.

    Raises:
        BundleError: the bundle cannot be trusted.
        GuardError: the verdict is not `sealed`.
    """
    key = load_verify_key(args.key) if args.key else None
    bundle = open_bundle(args.bundle, key=key, allow_unsigned=args.allow_unsigned)
    variant = bundle.variant(args.variant).name
    proof = prove(bundle.path, variant, allow_unsigned=args.allow_unsigned)
    if args.json:
        print(json.dumps(asdict(proof), indent=2))
    print(table(proof), file=sys.stderr)
    if proof.verdict != "sealed":
        raise GuardError(_finding(proof), hint="subterra doctor")
    print(f"next: subterra chat {args.bundle}", file=sys.stderr)
    return 0


def prove(
    bundle: Path,
    variant: str,
    *,
    allow_unsigned: bool = False,
    child: Sequence[str] = CHILD,
) -> Proof:
    """Run both arms on a bundle and judge.

    Raises:
        GuardError: an arm did not run, or its guard is not in force.
    """
    telemetry.silence()
    arm = Arm(str(bundle), variant, guard=False, allow_unsigned=allow_unsigned)
    control, control_arrived = _arm(arm, child)
    guarded, guarded_arrived = _arm(replace(arm, guard=True), child)
    results, untested = [], {}
    for route in ROUTES:
        result = _judge(route.name, control_arrived, guarded_arrived, guarded.trials)
        if result.outcome == "untested" and not route.essential:
            trial = control.trials.get(route.name)
            untested[route.name] = (trial and trial.error) or "sent, but did not arrive"
        else:
            results.append(result)
    return Proof(
        agent=bundle.name,
        variant=variant,
        verdict=_verdict(results, control, guarded),
        routes=tuple(results),
        untested=untested,
        layers=tuple(guarded.layers),
        threads=guarded.threads,
        threads_filtered=guarded.threads_filtered,
        turns={"control": control.turns, "guarded": guarded.turns},
    )


def table(proof: Proof) -> str:
    """Draw the proof for people."""
    width = max(len(route.name) for route in ROUTES)
    lines = [f"{'route':<{width}}  without guard  with guard  stopped by"]
    for route in proof.routes:
        control = "arrived" if route.control_arrived else "UNTESTED"
        guarded = "ARRIVED" if route.guarded_arrived else "nothing"
        if route.outcome == "untested":
            guarded = "-"
        lines.append(
            f"{route.name:<{width}}  {control:<13}  {guarded:<10}  {route.stopped_by or '-'}"
        )
    lines += [f"{name:<{width}}  untested: {reason}" for name, reason in proof.untested.items()]
    lines += [f"layer {layer['name']}: {layer['detail']}" for layer in proof.layers]
    lines.append(
        f"{proof.threads_filtered} of {proof.threads} threads filtered after "
        f"{proof.turns['guarded']} turns of conversation on {proof.variant}"
    )
    tested = sum(route.outcome != "untested" for route in proof.routes)
    lines.append(
        f"verdict: {proof.verdict} ({tested} routes tested, {len(proof.untested)} not here)"
    )
    return "\n".join(lines)


def _judge(
    name: str, control: dict[str, bool], guarded: dict[str, bool], trials: dict[str, Trial]
) -> RouteResult:
    trial = trials.get(name, Trial())
    stopped_by = None
    outcome: Outcome = "leak" if guarded[name] else "blocked" if control[name] else "untested"
    if outcome == "blocked":
        stopped_by = _STOPPED_BY.get(trial.code) or trial.error or "did not arrive"
        if name not in trials:
            outcome, stopped_by = "untested", None
    return RouteResult(name, control[name], guarded[name], stopped_by, outcome)


def _verdict(results: list[RouteResult], control: ArmReport, guarded: ArmReport) -> Verdict:
    outcomes = {result.outcome for result in results}
    if "leak" in outcomes:
        return "leak"
    talked = min(control.turns, guarded.turns) >= TURNS_MIN
    layers = bool(guarded.layers) and all(layer["in_force"] for layer in guarded.layers)
    filtered = guarded.threads == guarded.threads_filtered > 0
    return "sealed" if outcomes == {"blocked"} and talked and layers and filtered else "incomplete"


def _finding(proof: Proof) -> str:
    leaks = [route.name for route in proof.routes if route.outcome == "leak"]
    if leaks:
        return f"{proof.agent} is not sealed: a marker got out by {', '.join(leaks)}"
    untested = [route.name for route in proof.routes if route.outcome == "untested"]
    reason = f"no control arrived by {', '.join(untested)}" if untested else "see the table"
    return f"the proof of {proof.agent} is incomplete: {reason}"


def _arm(arm: Arm, child: Sequence[str]) -> tuple[ArmReport, dict[str, bool]]:
    markers = {route.name: secrets.token_hex(16) for route in ROUTES}
    with Receivers() as receivers:
        addresses = receivers.addresses()
        told = replace(arm, addresses=addresses.as_document(), markers=markers)
        report = _run_child(told, child, addresses.inherited)
        receivers.settle()
        return report, {name: receivers.arrived(marker) for name, marker in markers.items()}


def _run_child(arm: Arm, child: Sequence[str], inherited: int) -> ArmReport:
    name = "guarded" if arm.guard else "control"
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, own module
            child,
            input=json.dumps(asdict(arm)),
            capture_output=True,
            text=True,
            timeout=ARM_SECONDS,
            pass_fds=[inherited],
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"the {name} arm did not end within {ARM_SECONDS} s"
        raise GuardError(message, hint="subterra doctor") from error
    try:
        report = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        message = f"the {name} arm ended with code {done.returncode}: {last}"
        raise GuardError(message, hint="subterra doctor") from error
    if "failure" in report:
        raise GuardError(f"the {name} arm failed: {report['failure']}", hint=report["hint"])
    trials = {route: Trial(**trial) for route, trial in report.pop("trials").items()}
    return ArmReport(trials=trials, **report)

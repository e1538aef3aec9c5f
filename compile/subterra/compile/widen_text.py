"""What `widen` says: what leaves the machine, and what was refused for which reason.

Goes in: a teacher and a plan, or the tallies of a run. Comes out: lines for people, a document for
machines. Does not know how either came about.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from subterra.compile.intent_places import MAX_QUESTIONS
from subterra.compile.procedure import Procedure
from subterra.compile.rates import Rate
from subterra.compile.teacher_endpoint import EndpointTeacher
from subterra.compile.widened_bank import WidenedBank
from subterra.compile.widening import Plan, Tally
from subterra.compile.wording_filter import REASONS, Reason


def disclosure(
    teacher: EndpointTeacher, procedure: Procedure, intents: Sequence[str], plan: Plan
) -> list[str]:
    """Tell what is sent to whom, before anything is."""
    lines = [
        f"to {teacher.host} ({teacher.server.url}), model {teacher.model}, will go:",
        f"  - the title '{procedure.title}', what {len(intents)} intents mean, and what else may"
        " be meant there",
        f"  - up to {MAX_QUESTIONS} of the agent's questions an intent, and what slots are about",
        f"  - your own wordings of these intents, {plan.samples} a request",
        "not sent: the flowchart, its facts, held-out wording, keys of other services",
        "an agent trained on the result names this host in its manifest (disclosed_to)",
    ]
    if not teacher.server.private:
        lines.append(f"it goes unencrypted: whoever is between here and {teacher.host} can read it")
    return lines


def table(widened: WidenedBank, tallies: Mapping[str, Tally]) -> list[str]:
    """List each intent with its refusals, and the sum."""
    width = max(map(len, [*tallies, "all"]))
    lines = [f"{'intent':<{width}}  kept  held  refused"]
    for name, tally in [*tallies.items(), ("all", total(tallies))]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in tally.refused.most_common())
        rate = f"{tally.rejected.value:.0%}" if tally.rejected.n else "-"
        tail = f": {reasons}" if reasons else ""
        lines.append(f"{name:<{width}}  {tally.kept:4}  {tally.total:4}  {rate}{tail}")
    lines.append(
        f"{widened.path} holds {widened.size()} wordings; read some before you train on them"
    )
    return lines


def document(widened: WidenedBank, tallies: Mapping[str, Tally]) -> dict[str, object]:
    """Make the document of `--json`; counts are of this run, `total` and `wordings` of the file."""
    return {
        "out": str(widened.path),
        "wordings": widened.size(),
        "teachers": [asdict(author) for author in widened.authors],
        **_counts(total(tallies)),
        "intents": {name: _counts(tally) for name, tally in tallies.items()},
    }


def total(tallies: Mapping[str, Tally]) -> Tally:
    """Add tallies up."""
    found = tallies.values()
    return Tally(
        total=sum(tally.total for tally in found),
        requests=sum(tally.requests for tally in found),
        kept=sum(tally.kept for tally in found),
        refused=sum((tally.refused for tally in found), Counter[Reason]()),
    )


def _counts(tally: Tally) -> dict[str, object]:
    written = tally.kept + tally.refused.total()
    reasons = [reason for reason in REASONS if tally.refused[reason]]
    return {
        "requests": tally.requests,
        "kept": tally.kept,
        "total": tally.total,
        "reject_rate": tally.rejected.to_json(),
        "rejected": {reason: Rate(tally.refused[reason], written).to_json() for reason in reasons},
    }

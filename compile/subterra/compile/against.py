"""Two agents on the same scenarios: which conversations each lost, and whether that is chance.

Goes in: another agent or variant, or a score document saved with `--json`, and the outcomes of
both. Comes out: a `Comparison` with the exact McNemar p value. Refuses outcomes of other scenarios.

    $ subterra score build/zoom_support --users heldout.yaml --against Q4_0
    $ subterra score build/zoom_support --users heldout.yaml --against yesterday.json
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from subterra.compile.agent_source import AgentSource, find_agent
from subterra.compile.rates import Rate, mcnemar_exact, paired_difference
from subterra.compile.scenario import Scenario
from subterra.runtime.errors import InputError, UsageError
from subterra.runtime.signing import VerifyKey

WON, LOST = "1", "0"


@dataclass(frozen=True, slots=True)
class Saved:
    """An earlier score: one outcome a scenario, in order."""

    label: str
    outcomes: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outcomes of two agents on the same scenarios."""

    label: str
    """The other agent."""
    ours: tuple[bool, ...]
    theirs: tuple[bool, ...]

    @property
    def lost(self) -> list[int]:
        """Scenarios that only the other agent won."""
        return [
            i for i, (a, b) in enumerate(zip(self.ours, self.theirs, strict=True)) if b and not a
        ]

    @property
    def gained(self) -> list[int]:
        """Scenarios that only this agent won."""
        return [
            i for i, (a, b) in enumerate(zip(self.ours, self.theirs, strict=True)) if a and not b
        ]

    @property
    def p(self) -> float:
        """Exact two-sided McNemar p value."""
        return mcnemar_exact(len(self.lost), len(self.gained))

    def to_json(self, scenarios: Sequence[Scenario]) -> dict[str, object]:
        """Give it for a JSON document, each flip with its scenario."""
        difference = paired_difference(len(self.lost), len(self.gained), len(self.ours))
        return {
            "agent": self.label,
            "success": Rate(sum(self.theirs), len(self.theirs)).to_json(),
            "difference": dict(
                zip(("value", "low", "high"), map(_rounded, difference), strict=True)
            ),
            "mcnemar_p": self.p,
            "lost": [_flip(index, scenarios[index]) for index in self.lost],
            "gained": [_flip(index, scenarios[index]) for index in self.gained],
        }


def find_other(
    name: str,
    agent: Path,
    variant: str | None,
    key: VerifyKey | None,
    expected: Mapping[str, object],
) -> AgentSource | Saved:
    """Find what `--against` names: a score document, an agent, FOLDER:VARIANT, or a variant.

    Args:
        name: as typed.
        agent: the agent that is scored.
        variant: the variant that is scored; taken for another folder that names none.
        key: that sealed agents must be signed with.
        expected: what a score document must say of its scenarios.

    Raises:
        BundleError: the sealed agent does not verify.
        InputError: the file is no score document.
        UsageError: there is nothing of that name, or it was scored on other scenarios.
    """
    path = Path(name)
    if path.is_file():
        return read_saved(path, expected)
    if path.is_dir():
        return find_agent(path, variant, key=key)
    folder, colon, other = name.rpartition(":")
    if colon and Path(folder).is_dir():
        return find_agent(Path(folder), other, key=key)
    if "/" in name or path.suffix == ".json":
        raise UsageError(
            f"{name} is neither a score document nor an agent",
            hint="--against OTHER_FOLDER, FOLDER:VARIANT, VARIANT, or a file of score --json",
        )
    return find_agent(agent, name, key=key)


def read_saved(path: Path, expected: Mapping[str, object]) -> Saved:
    """Read the outcomes of an earlier score.

    Raises:
        InputError: the file is no score document.
        UsageError: it is about other scenarios or other wording.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        outcomes, label = document["outcomes"], f"{document['agent']} {document['variant']}"
        found = {name: document[name] for name in expected}
        if not isinstance(outcomes, str) or set(outcomes) - {WON, LOST}:
            raise ValueError("its outcomes are no text of 1 and 0")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no score document: {error!r}", hint="subterra score ... --json > score.json"
        ) from None
    different = [name for name, value in expected.items() if found[name] != value]
    if different:
        about = f"{document.get('conversations')} conversations, seed {document.get('seed')}"
        raise UsageError(
            f"{path} was scored on other scenarios ({about}; differs: {', '.join(different)})",
            hint="give the same --users, --conversations and --seed, or score both agents again",
        )
    if len(outcomes) != expected["conversations"]:
        raise InputError(
            f"{path} holds {len(outcomes)} outcomes of {expected['conversations']} conversations",
            hint="score the other agent again: subterra score ... --json > score.json",
        )
    return Saved(label, tuple(outcome == WON for outcome in outcomes))


def outcome_text(success: Sequence[bool]) -> str:
    """Write outcomes as one character a scenario."""
    return "".join(WON if won else LOST for won in success)


def scenarios_digest(scenarios: Sequence[Scenario]) -> str:
    """Digest what the scenarios are about, so that only equal ones are paired."""
    digest = hashlib.sha256()
    for scenario in scenarios:
        told = (scenario.path, sorted(scenario.slots.items()), scenario.wrong)
        digest.update(json.dumps(told, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _flip(index: int, scenario: Scenario) -> dict[str, object]:
    return {"scenario": index, "path": list(scenario.path), "slots": dict(scenario.slots)}


def _rounded(value: float) -> float:
    return round(value, 3)

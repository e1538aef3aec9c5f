"""Two agents on the same scenarios, and what may be compared with what."""

import json
from pathlib import Path

import pytest

from subterra.compile.against import (
    Comparison,
    Saved,
    find_other,
    outcome_text,
    scenarios_digest,
)
from subterra.compile.agent_source import AgentSource
from subterra.compile.procedure import Procedure
from subterra.compile.score import draw_scenarios
from subterra.compile.user_bank import UserBank
from subterra.runtime.errors import InputError, UsageError

EXPECTED = {"conversations": 4, "seed": 1, "scenarios_sha256": "a"}
DOCUMENT = EXPECTED | {"agent": "kettle", "variant": "Q8_0", "outcomes": "1011"}


def test_flips_are_listed_both_ways_with_their_scenarios(
    kettle: Procedure, kettle_bank: UserBank
) -> None:
    drawn = draw_scenarios(kettle, kettle_bank, 4, 1)
    ours, theirs = (True, False, True, False), (True, True, False, True)
    found = Comparison("other", ours, theirs)
    assert (found.lost, found.gained, found.p) == ([1, 3], [2], 1.0)
    document = found.to_json(drawn)
    assert document["success"] == {"value": 0.75, "n": 4, "low": 0.301, "high": 0.954}
    assert document["gained"] == [
        {"scenario": 2, "path": list(drawn[2].path), "slots": dict(drawn[2].slots)}
    ]
    difference = document["difference"]
    assert isinstance(difference, dict)
    assert difference["low"] < difference["value"] == -0.25 < difference["high"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "score.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


def test_a_saved_score_gives_its_outcomes(saved: Path, work: Path) -> None:
    found = find_other(str(saved), work, None, None, EXPECTED)
    assert found == Saved("kettle Q8_0", (True, False, True, True))
    assert outcome_text(found.outcomes) == "1011"


@pytest.mark.parametrize("change", [{"seed": 2}, {"scenarios_sha256": "b"}, {"conversations": 5}])
def test_a_score_of_other_scenarios_is_refused(
    saved: Path, work: Path, change: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match=f"other scenarios .*differs: {next(iter(change))}"):
        find_other(str(saved), work, None, None, EXPECTED | change)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", json.dumps(DOCUMENT | {"outcomes": "10x1"}),
     json.dumps(DOCUMENT | {"outcomes": [1, 0, 1, 1]}), json.dumps(DOCUMENT | {"outcomes": "101"})],
)  # fmt: skip
def test_a_file_that_is_no_score_is_refused(saved: Path, work: Path, text: str) -> None:
    saved.write_text(text)
    with pytest.raises(InputError, match=r"score\.json"):
        find_other(str(saved), work, None, None, EXPECTED)


def test_another_variant_or_folder_is_found_by_its_name(work: Path) -> None:
    for name in ("Q4_0", f"{work}:Q4_0"):
        found = find_other(name, work, "Q8_0", None, EXPECTED)
        assert isinstance(found, AgentSource)
        assert found.variant == "Q4_0"
    found = find_other(str(work), work, "Q8_0", None, EXPECTED)
    assert isinstance(found, AgentSource)
    assert found.variant == "Q8_0"


@pytest.mark.parametrize("name", ["Q5_0", "missing/folder", "missing.json"])
def test_what_does_not_exist_is_refused(work: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        find_other(name, work, None, None, EXPECTED)


def test_the_digest_tells_scenarios_apart(kettle: Procedure, kettle_bank: UserBank) -> None:
    drawn = [draw_scenarios(kettle, kettle_bank, 5, seed) for seed in (1, 1, 2)]
    digests = [scenarios_digest(scenarios) for scenarios in drawn]
    assert digests[0] == digests[1] != digests[2]

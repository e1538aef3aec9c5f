"""A signed bundle with a damaged, foreign or missing table of transitions is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from subterra.runtime import bundle
from subterra.runtime.bundle import open_bundle
from subterra.runtime.errors import BundleError
from subterra.runtime.legal_moves import outcomes
from subterra.runtime.state_line import StateLine
from subterra.runtime.transition_table import NAMES_MAX, TRANSITIONS_MAX_BYTES, parse_table

TABLE = {
    "version": 1,
    "start": "ask",
    "slots": [{"name": "issue", "hub": 0}],
    "intents": {"stop": {}},
    "nodes": {"ask": {"hub": 0}, "end": {}},
    "hubs": [[{"to": "end", "intents": ["stop"]}, {"to": "ask"}]],
}


def carry(agent: Any, data: bytes | None, **keys: object) -> None:
    """Put a table into the bundle and sign it, as a hostile author could."""
    manifest = {**agent.manifest(), "constrained": True, **keys}
    if data is not None:
        (agent.path / "transitions.json").write_bytes(data)
        manifest["files"]["transitions.json"] = hashlib.sha256(data).hexdigest()
    agent.reseal(manifest)


def test_a_sound_table_is_carried_and_an_older_bundle_has_none(agent: Any) -> None:
    assert open_bundle(agent.path).table is None
    carry(agent, json.dumps(TABLE).encode())
    table = open_bundle(agent.path).table
    assert table is not None
    assert set(table.nodes) == {"ask", "end"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "transitions.json is not listed"),
        (b"{}", "start"),
        (b"\xff", "transitions.json"),
        (b" " * (TRANSITIONS_MAX_BYTES + 1), "larger than"),
        (json.dumps({**TABLE, "start": "x"}).encode(), "unknown node 'x'"),
        (json.dumps({**TABLE, "slots": []}).encode(), "has the slots none"),
        (json.dumps({**TABLE, "hubs": [[{"to": "ask"}] * (NAMES_MAX + 1)]}).encode(), "hubs.0"),
    ],
)
def test_a_damaged_table_is_a_bundle_error(agent: Any, data: bytes | None, words: str) -> None:
    carry(agent, data)
    with pytest.raises(BundleError, match=words):
        open_bundle(agent.path)


def test_a_table_changed_after_sealing_is_found(agent: Any) -> None:
    data = json.dumps(TABLE).encode()
    carry(agent, data)
    (agent.path / "transitions.json").write_bytes(data + b" ")
    with pytest.raises(BundleError, match="does not match its digest"):
        open_bundle(agent.path)


def test_a_recipe_without_state_line_cannot_be_constrained(agent: Any) -> None:
    carry(agent, json.dumps(TABLE).encode(), recipe="plain")
    with pytest.raises(BundleError, match="the recipe plain has no state line"):
        open_bundle(agent.path)


def test_a_table_changed_after_its_digest_was_checked_is_found(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry(agent, json.dumps(TABLE).encode())
    check = bundle._check_file

    def check_then_change(root: Path, name: str, digest: str) -> int:
        size = check(root, name, digest)
        if name == "transitions.json":
            (root / name).write_bytes(json.dumps({**TABLE, "start": "end"}).encode())
        return size

    monkeypatch.setattr(bundle, "_check_file", check_then_change)
    with pytest.raises(BundleError, match="changed while it was checked"):
        open_bundle(agent.path)


def test_ways_that_double_the_cases_every_time_are_an_error_and_no_hang() -> None:
    slots = [{"name": f"s{index}", "hub": 0} for index in range(40)]
    ways = [
        {"to": "end", "slots": {f"s{index}": "a", f"s{index + 1}": "a"}}
        for index in range(0, 40, 2)
    ]
    table = {**TABLE, "slots": slots, "hubs": [[*ways, {"to": "ask"}]]}
    before = StateLine(("start",), "ask", tuple((f"s{index}", None) for index in range(40)))
    with pytest.raises(BundleError, match="cut the slot values") as caught:
        outcomes(parse_table(json.dumps(table).encode()), before, ("stop",))
    assert "--unconstrained" in caught.value.hint

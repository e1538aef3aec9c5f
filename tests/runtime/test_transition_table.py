"""A damaged table of transitions is refused by name, in one type of error."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra.runtime.errors import BundleError
from subterra.runtime.legal_moves import Domain, outcomes
from subterra.runtime.state_line import StateLine
from subterra.runtime.transition_table import TRANSITIONS_MAX_BYTES, parse_table

TABLE: dict[str, Any] = {
    "version": 1,
    "start": "ask",
    "slots": [{"name": "kind", "values": ["leak", "cold"], "hub": 0}, {"name": "who", "hub": 0}],
    "flags": ["told"],
    "intents": {"say_cold": {"kind": "cold"}, "stop": {}},
    "corrections": ["no"],
    "asides": ["chat"],
    "nodes": {"ask": {"hub": 0}, "fix_it": {"hub": 0, "sets": ["told"]}, "end": {}},
    "hubs": [
        [
            {"to": "end", "intents": ["stop"], "flags": {"told": True}},
            {"to": "ask", "slots": {"kind": None}},
            {"to": "fix_it"},
        ]
    ],
}


def changed(path: str, value: object) -> bytes:
    """Put a value at a dotted path of the table."""
    document = json.loads(json.dumps(TABLE))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = document
    for step in steps:
        place = place[step]
    if isinstance(place, list) and last == len(place):
        place.append(None)
    place[last] = value
    return json.dumps(document).encode()


def test_a_table_reads_back_as_it_was_written() -> None:
    table = parse_table(json.dumps(TABLE).encode())
    assert json.loads(table.to_bytes()) == TABLE
    assert parse_table(table.to_bytes()) == table


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("version", 2, "version"),
        ("extra", 1, "extra"),
        ("start", "nowhere", "unknown node 'nowhere'"),
        ("slots.0.hub", 7, "unknown hub 7"),
        ("slots.0.hub", -1, "slots.0.hub"),
        ("slots.0.values", ["a|b"], "value 'a|b' cannot be written"),
        ("slots.1.name", "kind", "'kind' comes twice"),
        ("nodes.ask.hub", 3, "unknown hub 3"),
        ("nodes.ask.sets", ["odd"], "unknown flag 'odd'"),
        ("nodes.a > b", {}, "name 'a > b' cannot be written"),
        ("intents.start", {}, "'start' is reserved"),
        ("intents.chat", {}, "'chat' comes twice"),
        ("intents.stop", {"kind": "warm"}, "slot 'kind' has no value 'warm'"),
        ("intents.stop", {"odd": "x"}, "unknown slot 'odd'"),
        ("hubs.0.0.to", "hub", "unknown node 'hub'"),
        ("hubs.0.0.intents", ["odd"], "unknown intent 'odd'"),
        ("hubs.0.0.flags", {"odd": True}, "unknown flag 'odd'"),
        ("hubs.0.1.slots", {"kind": "?"}, "slot 'kind' has no value '?'"),
        ("hubs.0.2.intents", ["stop"], "hub 0 has no way that is always open"),
        ("hubs.1", [], "hub 1 has no way that is always open"),
        ("flags", "told", "flags"),
    ],
)
def test_what_does_not_hang_together_is_named(path: str, value: object, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse_table(changed(path, value))
    assert words in str(caught.value)
    assert "transitions.json" in str(caught.value)
    assert "subterra seal" in caught.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 99_999, b" " * (TRANSITIONS_MAX_BYTES + 1)]
)
def test_what_is_no_table_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"transitions\.json"):
        parse_table(data)


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(sorted(TABLE)),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_any_json_in_any_field_is_read_or_refused(key: str, value: object) -> None:
    try:
        table = parse_table(changed(key, value))
    except BundleError:
        return
    assert parse_table(table.to_bytes()) == table


def test_slot_values_are_cut_along_the_tests_of_a_hub() -> None:
    table = parse_table(json.dumps(TABLE).encode())
    before = StateLine(("start",), "ask", (("kind", None), ("who", None)))
    found = {o.node: o.domains[0] for o in outcomes(table, before, ("stop",))}
    assert found == {
        "ask": Domain(frozenset({None})),
        "fix_it": Domain(frozenset({"leak", "cold"})),
    }
    told = StateLine(("stop",), "fix_it", (("kind", "leak"), ("who", None)), ("told",))
    assert {o.node for o in outcomes(table, told, ("stop",))} == {"end"}

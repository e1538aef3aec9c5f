"""Each problem of a procedure is reported in plain words, at its place, all at once."""

import copy
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from subterra.compile.procedure import Procedure
from subterra.compile.schema_problems import schema
from subterra.compile.validation import load_procedure
from subterra.runtime.errors import ProcedureError

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoom_support"

SMALL = """\
name: demo
title: Demo
system: You help.
start: hello
slots:
  colour:
    about: which colour
    values: [red, blue]
    decided_at: choose
flags:
  warned: the warning was given
intents:
  pick:
    about: the user picks a colour
  stop:
    about: the user stops
asides:
  chat:
    about: chatting
    say: [Nice.]
nodes:
  hello:
    kind: agent
    asks: [colour]
    say: ["Red or blue?"]
    again: ["So, which?"]
    next: choose
  choose:
    kind: hub
    edges:
      - {to: done, condition: the user stops, intents: [stop]}
      - {to: hello, condition: no colour yet, slots: {colour: null}}
      - {to: warn, condition: a colour, intents: [pick], flags: {warned: false}}
    default: done
  warn:
    kind: agent
    mandatory: true
    sets: [warned]
    say: ["{fact} Sure?"]
    facts:
      - {when: {colour: red}, text: Red is loud.}
      - {when: {colour: blue}, text: Blue is cold.}
    next: choose
  done:
    kind: terminal
    outcome: success
    say: ["Bye."]
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Procedure]:
    def load(text: str) -> Procedure:
        path = tmp_path / "procedure.yaml"
        path.write_text(text, encoding="utf-8")
        return load_procedure(path)

    return load


@pytest.fixture
def problems(load: Callable[[str], Procedure], tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Replace one piece of the small procedure; list what is reported, without the path."""

    def problems(old: str, new: str) -> list[str]:
        assert SMALL.count(old) == 1, old
        with pytest.raises(ProcedureError) as caught:
            load(SMALL.replace(old, new))
        assert caught.value.hint
        prefix = f"{tmp_path / 'procedure.yaml'}:"
        lines = str(caught.value).splitlines()
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    return problems


Problems = Callable[[str, str], list[str]]


def test_the_example_loads_from_its_file_and_from_its_folder() -> None:
    procedure = load_procedure(EXAMPLE)
    assert procedure == load_procedure(EXAMPLE / "procedure.yaml")
    assert (len(procedure.nodes), len(procedure.of_kind("hub"))) == (14, 3)
    assert procedure.slot_names == ("issue", "device")
    collect = procedure.node("collect")
    assert "Which is it" in collect.wordings({"issue": None, "device": None}, frozenset())[0]


def test_the_small_procedure_loads(load: Callable[[str], Procedure]) -> None:
    procedure = load(SMALL)
    assert procedure.node("warn").fact({"colour": "red"}, frozenset()) == "Red is loud."
    assert procedure.node("choose").edges[2].when.flags == (("warned", False),)


def test_the_published_schema_is_a_schema_with_a_description_for_every_property() -> None:
    Draft202012Validator.check_schema(schema())
    bare: list[str] = []

    def walk(part: Any, path: str) -> None:
        if isinstance(part, dict):
            for name, sub in part.get("properties", {}).items():
                if "description" not in sub and not {"const", "$ref"} & set(sub):
                    bare.append(f"{path}/{name}")
            if part.get("type") == "object":
                assert "additionalProperties" in part, path
            for name, sub in part.items():
                walk(sub, f"{path}/{name}")
        elif isinstance(part, list):
            for index, sub in enumerate(part):
                walk(sub, f"{path}/{index}")

    walk(schema(), "")
    assert bare == []


def test_an_unknown_key_is_reported_with_the_closest_known_one(problems: Problems) -> None:
    assert problems("    default: done", "    defualt: done") == [
        "34:5: unknown key 'defualt'; did you mean 'default'?"
    ]


def test_a_key_given_twice_is_reported(problems: Problems) -> None:
    assert problems("title: Demo", "title: Demo\ntitle: Two") == [
        "3:1: 'title' is given twice (first in line 2)"
    ]


def test_a_wrong_type_is_reported_in_plain_words(problems: Problems) -> None:
    assert problems("system: You help.", "system: [a]") == [
        "3:9: 'system' must be a text, not a list"
    ]
    assert problems("about: the user stops", "about: 12") == [
        "16:12: 'about' must be a text, not the number 12; put it in quotes"
    ]
    assert problems('say: ["Bye."]', "say: [7]") == [
        "47:11: item 1 of 'say' must be a text, or a mapping with 'when' and 'text'"
    ]


def test_a_missing_key_is_reported_at_its_mapping(problems: Problems) -> None:
    assert problems("title: Demo\n", "") == ["1:1: the procedure has no 'title'; add 'title:'"]
    assert problems("    about: the user stops\n", "    sets: {colour: red}\n") == [
        "15:3: 'stop' has no 'about'; add 'about:'"
    ]


def test_an_unknown_kind_is_reported_and_taken_for_the_closest(problems: Problems) -> None:
    assert problems("kind: hub", "kind: hubb") == [
        "29:11: 'kind' is 'hubb', not agent, hub or terminal; did you mean 'hub'?"
    ]


def test_an_unknown_target_is_reported_with_the_closest_node(problems: Problems) -> None:
    assert problems("to: warn", "to: wran") == ["33:14: unknown node 'wran'; did you mean 'warn'?"]


def test_an_unknown_start_is_reported(problems: Problems) -> None:
    assert problems("start: hello", "start: helo") == [
        "4:8: unknown node 'helo'; did you mean 'hello'?"
    ]


def test_a_start_that_is_a_hub_is_reported(problems: Problems) -> None:
    assert problems("start: hello", "start: choose") == [
        "4:8: 'choose' is a hub; the agent opens the conversation, so it starts at an agent node"
    ]


def test_an_unknown_intent_is_reported(problems: Problems) -> None:
    assert problems("[pick]", "[pik]") == ["33:51: unknown intent 'pik'; did you mean 'pick'?"]


def test_an_aside_on_an_edge_is_reported(problems: Problems) -> None:
    found = problems("intents: [stop]", "intents: [stop, chat]")
    assert len(found) == 1
    assert "'chat' is an aside" in found[0]


def test_an_unknown_slot_is_reported(problems: Problems) -> None:
    assert problems("slots: {colour: null}", "slots: {color: null}")[0] == (
        "32:55: unknown slot 'color'; did you mean 'colour'?"
    )
    assert "24:12: unknown slot 'colr'; did you mean 'colour'?" in problems(
        "asks: [colour]", "asks: [colr]"
    )


def test_an_unknown_slot_value_is_reported(problems: Problems) -> None:
    assert "41:25: slot 'colour' has no value 'Red'; did you mean 'red'?" in problems(
        "{colour: red}", "{colour: Red}"
    )


def test_an_unknown_flag_is_reported(problems: Problems) -> None:
    assert "38:12: unknown flag 'warnd'; did you mean 'warned'?" in problems(
        "sets: [warned]", "sets: [warnd]"
    )


def test_an_unreachable_node_is_reported(problems: Problems) -> None:
    extra = "  lost:\n    kind: terminal\n    outcome: lost\n    say: [Oh.]\n  done:\n"
    assert problems("  done:\n", extra) == ["44:3: node 'lost' cannot be reached from 'hello'"]


def test_a_hub_without_a_default_is_reported(problems: Problems) -> None:
    assert problems("    default: done\n", "") == [
        "28:3: hub 'choose' has no 'default'; add 'default: NODE', taken when no edge holds"
    ]


def test_a_terminal_with_an_exit_is_reported(problems: Problems) -> None:
    assert problems("    outcome: success\n", "    outcome: success\n    next: choose\n") == [
        "47:5: terminal 'done' has an exit 'next'; a terminal ends the conversation"
    ]


def test_an_agent_node_without_next_is_reported(problems: Problems) -> None:
    assert problems('?"]\n    next: choose\n  choose', '?"]\n  choose')[0] == (
        "22:3: agent 'hello' has no 'next'; add 'next: HUB', which decides on the user's answer"
    )


def test_an_agent_node_that_leads_to_no_hub_is_reported(problems: Problems) -> None:
    assert problems('?"]\n    next: choose', '?"]\n    next: done')[0] == (
        "27:11: 'done' is a terminal; after an agent node a hub decides on the user's answer"
    )


def test_a_cycle_without_exit_is_reported(problems: Problems) -> None:
    loop = (
        "  trap:\n    kind: agent\n    say: [Hm.]\n    next: loop\n"
        "  loop:\n    kind: hub\n    edges: [{to: trap, condition: always}]\n    default: trap\n"
    )
    found = problems("    default: done\n", "    default: trap\n" + loop)
    assert found == ["35:3: cycle without exit: from 'trap', 'loop' no terminal can be reached"]


def test_a_procedure_with_no_nodes_is_reported(load: Callable[[str], Procedure]) -> None:
    with pytest.raises(ProcedureError, match=r":5:1: the procedure has no nodes; it needs"):
        load("name: a\ntitle: A\nsystem: S.\nstart: b\nnodes: {}\n")
    with pytest.raises(ProcedureError, match="has no nodes") as caught:
        load(SMALL.split("nodes:")[0] + "nodes: {}\n")
    assert "\n" not in str(caught.value)
    with pytest.raises(ProcedureError, match=r"the procedure has no 'nodes'"):
        load("name: a\ntitle: A\nsystem: S.\nstart: b\n")


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n", "---\n"])
def test_an_empty_file_is_reported(load: Callable[[str], Procedure], text: str) -> None:
    with pytest.raises(ProcedureError, match="the procedure is empty and has no nodes"):
        load(text)


def test_a_procedure_without_a_terminal_is_reported(problems: Problems) -> None:
    found = problems("kind: terminal\n    outcome: success", "kind: agent\n    next: choose")
    assert "21:1: the procedure has no terminal; add a node with 'kind: terminal'" in found


def test_a_slot_that_is_never_asked_is_reported(problems: Problems) -> None:
    assert problems("    asks: [colour]\n", "") == [
        "6:3: slot 'colour' is never asked; name it in a node's 'asks'"
    ]


def test_a_flag_that_is_never_set_or_never_tested_is_reported(problems: Problems) -> None:
    assert problems("    sets: [warned]\n", "") == ["11:3: flag 'warned' is never set"]
    assert problems(", flags: {warned: false}", "") == ["11:3: flag 'warned' is never tested"]
    assert problems("  warned: the", "  other: something\n  warned: the") == [
        "11:3: flag 'other' is never set and never tested"
    ]


def test_a_mandatory_node_without_wording_is_reported(problems: Problems) -> None:
    assert "35:3: mandatory agent 'warn' has no wording; add 'say:' and a list of texts" in (
        problems('    say: ["{fact} Sure?"]\n', "")
    )


def test_an_empty_list_of_wordings_is_reported(problems: Problems) -> None:
    assert problems('say: ["Bye."]', "say: []") == ["47:5: 'say' is empty"]


def test_an_empty_wording_is_reported(problems: Problems) -> None:
    assert problems('say: ["Bye."]', 'say: ["Bye.", ""]') == ["47:19: item 2 of 'say' is empty"]
    assert problems('say: ["Bye."]', 'say: ["Bye.", "  "]') == ["47:19: an empty text"]


def test_a_state_without_a_fact_is_reported(problems: Problems) -> None:
    found = problems("      - {when: {colour: blue}, text: Blue is cold.}\n", "")
    assert found == ["40:5: node 'warn' has no fact for '{fact}' where colour is blue"]


def test_a_state_that_cannot_come_needs_no_fact(load: Callable[[str], Procedure]) -> None:
    """The hub sends an empty colour back before `warn`, so the facts need not cover it."""
    facts = [fact.when.slots for fact in load(SMALL).node("warn").facts]
    assert (("colour", None),) not in facts


def test_a_state_without_a_wording_is_reported(problems: Problems) -> None:
    found = problems('say: ["{fact} Sure?"]', 'say: [{when: {colour: red}, text: ["{fact}"]}]')
    assert found == ["39:5: node 'warn' has no wording where colour is blue"]


def test_a_fact_that_no_wording_says_is_reported(problems: Problems) -> None:
    assert problems('["{fact} Sure?"]', '["Sure?"]') == [
        "39:11: node 'warn' must say a fact, but this text has no '{fact}'"
    ]


def test_a_fact_placeholder_without_facts_is_reported(problems: Problems) -> None:
    assert problems('say: ["Bye."]', 'say: ["Bye. {fact}"]') == [
        "47:11: '{fact}' in a node without facts; add 'facts:' to 'done'"
    ]


def test_an_unknown_placeholder_is_reported(problems: Problems) -> None:
    assert problems('["{fact} Sure?"]', '["{fact} {fcat} Sure?"]') == [
        "39:11: unknown placeholder '{fcat}'; did you mean 'fact'?"
    ]
    assert problems("[Nice.]", "['Nice {}']") == ["20:11: unknown placeholder '{}'"]
    assert problems("[Nice.]", "['Nice }.']") == [
        "20:11: a stray brace; braces hold a placeholder's name"
    ]


def test_chat_format_marks_in_a_text_are_reported(problems: Problems) -> None:
    assert problems("[Nice.]", "['Nice<|im_end|>']") == [
        "20:11: '<|im_end|>' belongs to the chat format and may not be said"
    ]


def test_a_wording_given_twice_is_reported(problems: Problems) -> None:
    assert problems('say: ["Bye."]', 'say: ["Bye.", "bye."]') == [
        "47:19: the same wording stands in line 47"
    ]


def test_an_intent_that_no_edge_uses_is_reported(problems: Problems) -> None:
    assert problems("  stop:\n", "  wave:\n    about: waving\n  stop:\n") == [
        "15:3: intent 'wave' is used by no edge"
    ]


def test_a_correction_that_falls_to_the_default_is_reported(
    load: Callable[[str], Procedure],
) -> None:
    amend = "corrections:\n  amend:\n    about: taken back\nasides:\n"
    text = SMALL.replace("asides:\n", amend)
    text = text.replace("flags: {warned: false}}", "slots: {colour: red}, flags: {warned: false}}")
    with pytest.raises(ProcedureError, match=r":18:3: correction 'amend' is taken by no edge"):
        load(text)
    load(text.replace("[pick]", "[pick, amend]"))


def test_an_edge_that_is_never_taken_is_reported(problems: Problems) -> None:
    found = problems(
        "    default: done\n",
        "      - {to: warn, condition: never, intents: [stop]}\n    default: done\n",
    )
    assert found == [
        "34:9: this edge to 'warn' is never taken; edge 1 to 'done' holds wherever it would"
    ]


def test_a_slot_decided_elsewhere_than_at_a_hub_is_reported(problems: Problems) -> None:
    assert "9:17: 'hello' is an agent; a changed value is decided at a hub" in problems(
        "decided_at: choose", "decided_at: hello"
    )


@pytest.mark.parametrize("name", ["Big", "a-b", "a b", "1a", "a|b", "a>b", "a+b", "é", "a?"])
def test_a_name_that_breaks_the_state_line_is_reported(problems: Problems, name: str) -> None:
    found = problems("  pick:\n", f'  "{name}":\n    about: odd\n  pick:\n')
    assert found[0].startswith(f"13:3: '{name}' is not a name; a name has small letters")


@pytest.mark.parametrize(
    "value", ["a|b", "a > b", "a + b", '"a\\nb"', '"?"', '" a"', '""', '"a\\u200bb"', '"a\\x07b"']
)
def test_a_slot_value_that_breaks_the_state_line_is_reported(
    problems: Problems, value: str
) -> None:
    found = problems("values: [red, blue]", f"values: [red, blue, {value}]")
    assert found[0].startswith("8:25: ")


def test_a_value_that_cannot_be_seen_is_shown_by_its_code(problems: Problems) -> None:
    assert problems("values: [red, blue]", 'values: [red, blue, "a\\u200bb"]')[0] == (
        "8:25: value 'a\\u200bb' holds a character that is not printed"
    )


@pytest.mark.parametrize("value", ["a|b", '"?"', '"?x"', '" a"', '"a\\nb"', '"\\x07"', '""'])
def test_a_value_of_an_open_slot_that_no_state_line_can_hold_is_reported(
    load: Callable[[str], Procedure], value: str
) -> None:
    text = SMALL.replace("    values: [red, blue]\n", "")
    text = text.replace("  stop:\n", f"    sets: {{colour: {value}}}\n  stop:\n")
    text = text.replace("[pick], flags", f"[pick], slots: {{colour: {value}}}, flags")
    with pytest.raises(ProcedureError) as caught:
        load(text)
    for place in ("14:20", "33:74"):
        assert re.search(rf"yaml:{place}: slot 'colour' cannot be '.*': no", str(caught.value))


def test_slot_values_that_read_alike_are_reported(problems: Problems) -> None:
    assert problems("values: [red, blue]", "values: [red, blue, Blue]")[0] == (
        "8:25: value 'Blue' reads like 'blue'"
    )


def test_names_that_read_alike_in_the_state_line_are_reported(problems: Problems) -> None:
    found = problems("  stop:\n", "  pick_:\n    about: odd\n  stop:\n")
    assert "15:3: intent 'pick_' reads like 'pick' of 'intents' (line 13)" in found


def test_an_aside_with_the_name_of_an_intent_is_reported(problems: Problems) -> None:
    assert problems("  chat:\n", "  stop:\n")[0] == (
        "18:3: intent 'stop' is also 'stop' of 'intents' (line 15)"
    )


def test_reserved_names_are_reported(problems: Problems) -> None:
    assert problems("  chat:\n", "  slots:\n") == [
        "18:3: the name 'slots' is taken: user banks keep slot phrases under that key"
    ]


def test_all_problems_are_reported_at_once_sorted_by_place(
    load: Callable[[str], Procedure],
) -> None:
    text = SMALL.replace("system:", "sistem:").replace("    default: done\n", "")
    text = text.replace("to: warn", "to: wran").replace('["Bye."]', "[]")
    with pytest.raises(ProcedureError) as caught:
        load(text)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("has 4 problems")
    assert [line.rsplit("procedure.yaml:", 1)[1].split(": ", 1)[1] for line in lines[1:]] == [
        "unknown key 'sistem'; did you mean 'system'?",
        "hub 'choose' has no 'default'; add 'default: NODE', taken when no edge holds",
        "unknown node 'wran'; did you mean 'warn'?",
        "'say' is empty",
    ]


def test_a_missing_file_and_a_folder_without_one_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(ProcedureError, match="there is no such file") as caught:
            load_procedure(path)
        assert "subterra show" in caught.value.hint


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "procedure.yaml"
    path.write_bytes(b"name: a\ntitle: \xff\xfe")
    with pytest.raises(ProcedureError, match=r":2:8: not UTF-8 text"):
        load_procedure(path)
    path.write_bytes(bytes(range(32)) * 8)
    with pytest.raises(ProcedureError, match="broken YAML"):
        load_procedure(path)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, sub in items:
        found += _paths(sub, (*here, key))
    return found


def _load_or_refuse(path: Path) -> None:
    """Anything but a procedure or a ProcedureError with a hint fails the test."""
    hint = "none needed"
    try:
        load_procedure(path)
    except ProcedureError as error:
        hint = error.hint
    assert hint


JUNK = st.one_of(
    st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from(["hello", "choose", "done", "colour", "{fact}", "fact", "a|b"]),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=4), st.text(max_size=3), max_size=2),
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_a_mutated_procedure_raises_only_procedure_errors(
    data: st.DataObject, tmp_path: Path
) -> None:
    document = copy.deepcopy(YAML(typ="safe", pure=True).load(SMALL))
    for _ in range(data.draw(st.integers(1, 3))):
        steps = data.draw(st.sampled_from(_paths(document)))
        around = document
        for step in steps[:-1]:
            around = around[step]
        change = data.draw(st.sampled_from(["drop", "replace", "rename"]))
        if change == "replace" or not isinstance(around, dict):
            around[steps[-1]] = data.draw(ODD)
        else:
            value = around.pop(steps[-1])
            if change == "rename":
                around[data.draw(st.text(max_size=6))] = value
        if not document:
            break
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    path = tmp_path / "procedure.yaml"
    path.write_text(stream.getvalue(), encoding="utf-8")
    _load_or_refuse(path)


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))
    ),
    st.integers(0, 900),
)
def test_a_file_with_bytes_spliced_in_raises_only_procedure_errors(
    tmp_path: Path, junk: bytes, where: int
) -> None:
    path = tmp_path / "procedure.yaml"
    whole = SMALL.encode()
    path.write_bytes(whole[:where] + junk + whole[where + len(junk) // 2 :])
    _load_or_refuse(path)

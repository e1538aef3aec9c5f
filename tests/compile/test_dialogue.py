"""Dialogues in their file: what is written is read, and damage is named with its line."""

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra.compile.dialogue import (
    Dialogue,
    Turn,
    gold_turn,
    read_dialogues,
    state_line,
    write_dialogues,
)
from subterra.compile.policy import Message, Move, State
from subterra.compile.procedure import Procedure
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank
from subterra.runtime.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_dialogues_survive_the_file(
    kettle: Procedure, kettle_bank: UserBank, tmp_path: Path
) -> None:
    written = [*islice(dialogues(kettle, kettle_bank, 0), 12)]
    write_dialogues(tmp_path / "a" / "b.jsonl", written)
    assert [*read_dialogues(tmp_path / "a" / "b.jsonl")] == written


@settings(max_examples=25)
@given(user=TEXT, reply=TEXT)
def test_any_text_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, user: str, reply: str
) -> None:
    turn = Turn(user, ("say",), "node", {"slot": None}, ("flag",), reply)
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write_dialogues(path, [Dialogue(("node",), (turn,))] * 2)
    assert [*read_dialogues(path)] == [Dialogue(("node",), (turn,))] * 2


def test_a_line_separator_inside_a_text_does_not_break_the_line(tmp_path: Path) -> None:
    turn = Turn("one\u2028two\x85three", (), "node", {}, (), "r")
    write_dialogues(tmp_path / "d.jsonl", [Dialogue((), (turn,))])
    assert next(read_dialogues(tmp_path / "d.jsonl")).turns[0].user == turn.user


def test_an_empty_file_holds_no_dialogues(tmp_path: Path) -> None:
    write_dialogues(tmp_path / "d.jsonl", [])
    assert [*read_dialogues(tmp_path / "d.jsonl")] == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.jsonl"):
        next(read_dialogues(tmp_path / "missing.jsonl"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '{"path": []}',
        '{"path": [], "turns": [{}]}',
        '{"path": [], "turns": 3}',
        '{"turns": []}',
    ],
)
def test_a_damaged_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "d.jsonl"
    write_dialogues(path, [Dialogue((), ())])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=r"d\.jsonl:2: not a dialogue") as caught:
        [*read_dialogues(path)]
    assert caught.value.hint


def test_a_gold_turn_writes_flags_in_the_order_of_the_procedure(kettle: Procedure) -> None:
    state = State("retry", {"fault": "leak", "owner": None}, frozenset({"retried"}))
    turn = gold_turn(kettle, "still bad", Message(("fails",)), Move(state), "Second.")
    line = state_line(turn)
    assert (line.intents, line.node, line.flags) == (("fails",), "retry", ("retried",))
    assert line.slots == (("fault", "leak"), ("owner", None))

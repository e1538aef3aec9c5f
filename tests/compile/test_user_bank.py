"""User banks are checked against the procedure, and train and held-out banks are kept apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from subterra.compile.bank_document import fold
from subterra.compile.procedure import Procedure, Slot
from subterra.compile.user_bank import UserBank, assert_apart, load_bank
from subterra.compile.validation import load_procedure
from subterra.runtime.errors import UserBankError

EXAMPLE = Path(__file__).parents[2] / "examples" / "zoom_support"

PROCEDURE = """\
name: demo
title: Demo
system: You help.
start: hello
slots:
  colour: {about: which colour, values: [red, blue], decided_at: choose}
intents:
  pick: {about: the user picks}
  stop: {about: the user stops}
asides:
  chat: {about: chatting, say: [Nice.]}
nodes:
  hello: {kind: agent, asks: [colour], say: ["Red or blue?"], next: choose}
  choose:
    kind: hub
    edges:
      - {to: done, condition: a colour or an end, intents: [pick, stop]}
    default: hello
  done: {kind: terminal, outcome: success, say: ["Bye."]}
"""

BANK = """\
pick:
  - "{colour} please"
  - I take {colour}
stop:
  - no more
chat:
  - nice day
stop+chat:
  - enough, nice day though
slots:
  colour:
    red: [red, the red one]
    blue: [blue]
"""


@pytest.fixture
def procedure(tmp_path: Path) -> Procedure:
    path = tmp_path / "procedure.yaml"
    path.write_text(PROCEDURE)
    return load_procedure(path)


@pytest.fixture
def load(tmp_path: Path, procedure: Procedure) -> Callable[[str], UserBank]:
    def load(text: str) -> UserBank:
        path = tmp_path / "bank.yaml"
        path.write_text(text, encoding="utf-8")
        return load_bank(path, procedure)

    return load


@pytest.fixture
def problems(load: Callable[[str], UserBank], tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Replace one piece of the bank; list what is reported, without the path."""

    def problems(old: str, new: str) -> list[str]:
        assert BANK.count(old) == 1, old
        with pytest.raises(UserBankError) as caught:
            load(BANK.replace(old, new))
        assert caught.value.hint
        prefix = f"{tmp_path / 'bank.yaml'}:"
        lines = str(caught.value).splitlines()
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]

    return problems


Problems = Callable[[str, str], list[str]]


def test_a_bank_that_fits_is_loaded_in_the_order_written(load: Callable[[str], UserBank]) -> None:
    bank = load(BANK)
    assert tuple(bank.intents) == ("pick", "stop", "chat", "stop+chat")
    assert bank.intents["pick"] == ("{colour} please", "I take {colour}")
    assert bank.slots == {"colour": {"red": ("red", "the red one"), "blue": ("blue",)}}
    assert bank.lines["I take {colour}"] == 3
    assert bank.warnings == ()


def test_slot_values_may_be_their_own_phrases(load: Callable[[str], UserBank]) -> None:
    text = BANK.replace("    red: [red, the red one]\n    blue: [blue]\n", "    [red, blue]\n")
    assert load(text).slots == {"colour": {"red": ("red",), "blue": ("blue",)}}


def test_an_unknown_intent_is_reported_with_the_closest_one(problems: Problems) -> None:
    assert "4:1: unknown intent 'stpo'; did you mean 'stop'?" in problems("\nstop:", "\nstpo:")


def test_an_unknown_part_of_a_combined_intent_is_reported(problems: Problems) -> None:
    assert problems("stop+chat", "stop+chta") == [
        "8:1: unknown intent 'chta' in 'stop+chta'; did you mean 'chat'?"
    ]
    assert problems("stop+chat", "stop+stop") == ["8:1: 'stop+stop' names the same intent twice"]


def test_an_intent_of_the_procedure_without_wordings_is_reported(problems: Problems) -> None:
    assert problems("chat:\n  - nice day\n", "") == [
        "1:1: no wordings for the procedure's intent 'chat'"
    ]


def test_an_empty_intent_is_reported(problems: Problems) -> None:
    assert problems("chat:\n  - nice day\n", "chat: []\n") == ["6:1: 'chat' has no wordings"]
    assert problems("chat:\n  - nice day\n", "chat:\n") == ["6:1: 'chat' needs a list of wordings"]


def test_an_unknown_placeholder_is_reported(problems: Problems) -> None:
    assert problems("I take {colour}", "I take {color}") == [
        "3:5: unknown placeholder '{color}'; did you mean 'colour'?"
    ]
    assert problems("I take {colour}", "I take {colour") == [
        "3:5: a stray brace in 'I take {colour'; braces hold a slot's name"
    ]
    assert problems("I take {colour}", "'{colour}, {colour}'") == [
        "3:5: '{colour}' stands twice in '{colour}, {colour}'"
    ]


def test_a_value_without_phrases_is_reported(problems: Problems) -> None:
    assert problems("    blue: [blue]\n", "") == [
        "11:3: no phrases for value 'blue' of slot 'colour'"
    ]
    assert problems("blue: [blue]", "blue: []") == ["13:5: 'blue' has no phrases"]


def test_an_unknown_slot_or_value_is_reported(problems: Problems) -> None:
    assert "13:5: slot 'colour' has no value 'blu'; did you mean 'blue'?" in problems(
        "blue: [blue]", "blu: [blue]"
    )
    assert "11:3: unknown slot 'color'; did you mean 'colour'?" in problems("  colour:", "  color:")


def test_a_slot_that_no_wording_can_fill_is_reported(problems: Problems) -> None:
    assert problems('  - "{colour} please"\n  - I take {colour}\n', "  - please\n") == [
        "1:1: no wording holds '{colour}', so slot 'colour' can never be filled"
    ]


def test_a_wording_given_twice_in_one_intent_is_reported(problems: Problems) -> None:
    assert problems("  - no more\n", "  - no more\n  - No more!\n") == [
        "6:5: 'No more!' repeats line 5 under 'stop'"
    ]


def test_a_wording_that_is_no_text_is_reported(problems: Problems) -> None:
    found = problems("  - no more\n", "  - 5003\n  - a: b\n  - ''\n  - ok\n")
    assert found == [
        "5:5: a wording is a text, not a number or true/false; put it in quotes",
        "6:5: a wording is a text, not a list or mapping; put it in quotes",
        "7:5: an empty wording",
    ]


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "slots: {}\n"])
def test_an_empty_bank_is_reported(load: Callable[[str], UserBank], text: str) -> None:
    with pytest.raises(UserBankError, match=r"the bank (is empty|has no intents)") as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_a_bank_that_is_no_mapping_is_reported(load: Callable[[str], UserBank]) -> None:
    with pytest.raises(UserBankError, match="a bank is a mapping"):
        load("- a\n")


def test_a_wording_under_two_intents_of_one_hub_is_a_warning(
    load: Callable[[str], UserBank],
) -> None:
    bank = load(BANK.replace("  - no more\n", "  - no more\n  - Nice day.\n"))
    assert len(bank.warnings) == 1
    assert bank.warnings[0].endswith("bank.yaml:8: 'nice day' (chat) also means stop (line 6)")


def test_a_phrase_for_two_values_is_a_warning(load: Callable[[str], UserBank]) -> None:
    bank = load(BANK.replace("blue: [blue]", "blue: [blue, The red one]"))
    assert "'The red one' (colour blue) also means colour red" in bank.warnings[0]


def test_shared_wordings_are_listed_with_their_lines(
    load: Callable[[str], UserBank], tmp_path: Path
) -> None:
    train = load(BANK)
    path = tmp_path / "heldout.yaml"
    path.write_text("stop: [finish, 'NO  more!']\nslots: {colour: {red: [red, a rose]}}\n")
    with pytest.raises(UserBankError, match="1 wording is in both banks") as caught:
        assert_apart(train, load_bank(path))
    assert f"{path}:1: 'NO  more!'".replace("  more", " more") in str(caught.value)
    assert "bank.yaml:5" in str(caught.value)


def test_the_example_banks_fit_their_procedure_and_stand_apart() -> None:
    procedure = load_procedure(EXAMPLE)
    train = load_bank(EXAMPLE / "users" / "train.yaml", procedure)
    heldout = load_bank(EXAMPLE / "users" / "heldout.yaml", procedure)
    assert_apart(train, heldout)
    assert min(len(wordings) for wordings in train.intents.values()) >= 100
    assert min(len(wordings) for wordings in heldout.intents.values()) >= 25


@pytest.mark.parametrize(
    ("left", "right"),
    [("Don’t!", "dont"), ("a - b", "A b"), ("ＡＢＣ", "abc"), ("on {device}.", "On {device}")],
)
def test_case_space_and_punctuation_are_folded(left: str, right: str) -> None:
    assert fold(left) == fold(right)


def test_what_is_only_punctuation_or_emoji_is_told_apart() -> None:
    assert len({fold("??"), fold("!"), fold("👍"), fold("{device}"), fold("device")}) == 5


OPEN_SLOT = "  owner: {Anna: [Anna, Ann], Ben: [Ben, Benny], Cleo: [Cleo, Clea]}\n"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("  owner: {}\n", "'owner' has no values"),
        ("  owner: []\n", "'owner' has no values"),
        ("  owner:\n", "'owner' needs a list of values"),
        ("", "'{owner}' is used, but 'slots' has no phrases for 'owner'"),
    ],
)
def test_a_slot_without_values_is_reported(
    kettle: Procedure, kettle_folder: Path, tmp_path: Path, changed: str, words: str
) -> None:
    text = (kettle_folder / "users" / "train.yaml").read_text()
    (tmp_path / "bank.yaml").write_text(text.replace(OPEN_SLOT, changed))
    with pytest.raises(UserBankError) as caught:
        load_bank(tmp_path / "bank.yaml", kettle)
    assert [line.split(": ", 1)[1] for line in str(caught.value).splitlines()] == [words]


def test_an_open_slot_that_nothing_fills_is_reported(procedure: Procedure, tmp_path: Path) -> None:
    (tmp_path / "bank.yaml").write_text(BANK)
    spare = Slot("name", "who asks", (), "choose")
    with pytest.raises(UserBankError, match="no values for the procedure's slot 'name'"):
        load_bank(tmp_path / "bank.yaml", replace(procedure, slots=(*procedure.slots, spare)))

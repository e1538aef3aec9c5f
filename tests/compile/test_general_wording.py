"""The library of general wording, and training banks composed with it."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra.compile.bank_document import fold, read_bank_document
from subterra.compile.bank_split import split_bank
from subterra.compile.general_wording import (
    LIBRARY,
    acts,
    compose,
    digest,
    load_training_bank,
    parts,
    wordings,
)
from subterra.compile.procedure import CORRECTION, Intent, Procedure
from subterra.compile.schema_problems import schema
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank, load_bank
from subterra.compile.validation import load_procedure
from subterra.compile.wording import CLEAN, Noise, WordingSource, disturb, placeholders
from subterra.runtime.cli import main
from subterra.runtime.errors import ProcedureError, UserBankError

DOMAINS = re.compile(
    r"zoom|meeting|camera|micro|video|audio|wi-?fi|internet|phone|flight|hotel|travel|book me"
    r"|booking|insur|claim|polic|money|refund|order|account|password|invoice|deliver|doctor|repair",
    re.IGNORECASE,
)

PROCEDURE = """\
name: demo
title: Demo
system: You help.
start: hello
slots:
  colour: {about: which colour, values: [red, blue], decided_at: choose}
  size: {about: how large, decided_at: choose}
intents:
  pick: {about: the user picks}
  accept: {about: yes, act: affirm}
  refuse: {about: no, act: deny}
  person: {about: a person, act: ask_human}
corrections:
  take_back: {about: another colour, act: correction}
asides:
  chat: {about: chatting, say: [Nice.], act: small_talk}
nodes:
  hello: {kind: agent, asks: [colour, size], say: ["Red or blue?"], next: choose}
  choose:
    kind: hub
    edges:
      - {to: sure, condition: a colour, intents: [pick, take_back]}
      - {to: done, condition: a person, intents: [person]}
    default: hello
  sure: {kind: agent, say: ["Sure?"], next: check}
  check:
    kind: hub
    edges:
      - {to: done, condition: an answer, intents: [accept, refuse, person]}
    default: hello
  done: {kind: terminal, outcome: success, say: ["Bye."]}
"""

BANK = """\
pick: ["{colour} please", "I take {colour} in {size}", "it is {size}"]
accept: [gladly so, "YES!"]
refuse: [in no case]
slots:
  colour: {red: [red, the red one, crimson], blue: [blue, the blue one]}
  size: {large: [large], small: [small]}
"""


@pytest.fixture
def procedure(tmp_path: Path) -> Procedure:
    (tmp_path / "procedure.yaml").write_text(PROCEDURE)
    return load_procedure(tmp_path)


@pytest.fixture
def load(tmp_path: Path, procedure: Procedure) -> Callable[[str], UserBank]:
    def load(text: str) -> UserBank:
        path = tmp_path / "train.yaml"
        path.write_text(text, encoding="utf-8")
        return load_training_bank(path, procedure, tmp_path / "heldout.yaml")

    return load


@pytest.fixture
def bank(load: Callable[[str], UserBank]) -> UserBank:
    return load(BANK)


@pytest.mark.parametrize("path", sorted(LIBRARY.iterdir()), ids=lambda path: path.name)
def test_every_file_of_the_library_is_a_sound_bank(path: Path) -> None:
    assert read_bank_document(path).problems == []


def test_the_library_is_broad_and_free_of_any_domain() -> None:
    assert {act: len(texts) for act, texts in acts().items() if len(texts) < 100} == {}
    assert min(len(parts(kind)) for kind in ("openers", "closers", "fillers")) >= 40
    assert [text for texts in acts().values() for text in texts if DOMAINS.search(text)] == []


def test_the_schema_names_the_acts_of_the_library() -> None:
    assert sorted(schema()["$defs"]["act"]["enum"]) == sorted(acts())


def test_no_wording_stands_under_two_acts() -> None:
    folded = [fold(text) for texts in acts().values() for text in texts]
    assert len(folded) == len(set(folded))


def test_corrections_have_one_hole_and_nothing_else_has_any() -> None:
    for act, texts in acts().items():
        holes = {tuple(re.findall(r"[{}]|value", text)) for text in texts if "{" in text}
        assert holes == ({("{", "value", "}")} if act == CORRECTION else set())
    assert all("{value}" in text for text in wordings(CORRECTION))


def test_an_opener_before_a_bare_value_is_no_correction() -> None:
    frames = {fold(text) for text in wordings(CORRECTION)}
    assert not frames & {fold(f"{opener} {{value}}") for opener in (*parts("openers"), "")}


def test_every_wording_of_the_library_passes_the_bank_checks(
    procedure: Procedure, bank: UserBank, tmp_path: Path
) -> None:
    others = tuple(act for act in acts() if act != CORRECTION)
    hub = procedure.node("choose")
    edge = replace(hub.edges[0], intents=("pick", *others))
    everything = replace(
        procedure,
        intents=(*procedure.intents, *(Intent(act, "") for act in others)),
        nodes=(replace(hub, edges=(edge,)),),
    )
    intents = {name: [f"own wording of {name}"] for name in everything.intent_names()}
    intents |= {act: list(wordings(act)) for act in others}
    intents["pick"] += ["{colour} {size}"]
    intents["take_back"] = [
        text.replace("value", slot) for slot in bank.slots for text in wordings(CORRECTION)
    ]
    document = {**intents, "slots": bank.slots}
    (tmp_path / "bank.yaml").write_text(json.dumps(document))
    assert load_bank(tmp_path / "bank.yaml", everything).warnings == ()


def test_an_intent_with_an_act_needs_no_own_wording_in_a_training_bank(
    bank: UserBank, procedure: Procedure
) -> None:
    assert "person" not in bank.intents
    assert bank.general["person"] == wordings("ask_human")
    assert bank.wordings("accept")[:2] == ("gladly so", "YES!")
    assert "yes" not in bank.general["accept"]
    assert placeholders(bank.general["take_back"][0]) == {"colour"}
    assert len(bank.general["take_back"]) == 2 * len(wordings(CORRECTION))
    for dialogue, _ in zip(dialogues(procedure, bank, 0), range(20), strict=False):
        assert "{" not in " ".join(turn.user or "" for turn in dialogue.turns)


def test_any_other_bank_needs_its_own_wording(bank: UserBank, procedure: Procedure) -> None:
    with pytest.raises(UserBankError, match="no wordings for the procedure's intent 'person'"):
        load_bank(bank.path, procedure)


def test_composing_twice_gives_the_same(load: Callable[[str], UserBank]) -> None:
    assert load(BANK) == load(BANK)
    assert digest(load(BANK)) == digest(load(BANK))


def test_the_digest_tells_what_came_in(bank: UserBank, load: Callable[[str], UserBank]) -> None:
    assert digest(load(BANK.replace("gladly so", "for sure"))) != digest(bank)
    assert digest(load(BANK.replace("gladly so", "gladly"))) == digest(bank)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_nothing_that_is_barred_comes_in(data: st.DataObject) -> None:
    act = data.draw(st.sampled_from(sorted(set(acts()) - {CORRECTION})))
    barred = {fold(text) for text in data.draw(st.sets(st.sampled_from(wordings(act))))}
    procedure = Procedure("p", "P", "S", "a", (), (), (), (), (), ())
    procedure = replace(procedure, intents=(Intent("x", "", act=act),))
    bank = compose(UserBank(Path("bank"), {"x": ("own",)}, {}), procedure, barred)
    assert not {fold(text) for text in bank.general["x"]} & barred
    assert len(bank.general["x"]) == len(wordings(act)) - len(barred)


def test_wordings_of_the_heldout_bank_are_left_out(
    load: Callable[[str], UserBank], tmp_path: Path
) -> None:
    others = {
        "pick": ["{colour} it shall be", "{size} for me"],
        "accept": ["Yep!"],
        "refuse": ["nope?"],
        "person": ["Operator"],
        "take_back": ["No wait: {size}"],
        "chat": ["How are you?"],
        "slots": {"colour": {"red": ["rose"], "blue": ["navy"]}, "size": {"huge": ["huge"]}},
    }
    (tmp_path / "heldout.yaml").write_text(json.dumps(others))
    bank = load(BANK)
    assert not {"yep", "nope", "operator", "how are you"} & {
        fold(text) for texts in bank.general.values() for text in texts
    }
    assert "no wait, {colour}" in bank.general["take_back"]
    assert "no wait, {size}" not in bank.general["take_back"]


def test_the_example_trains_on_nothing_that_is_held_out(
    zoom: Procedure, zoom_bank: UserBank
) -> None:
    bank = load_training_bank(zoom_bank.path.with_name("train.yaml"), zoom, zoom_bank.path)
    held = {fold(text) for texts in zoom_bank.intents.values() for text in texts}
    assert not held & {fold(text) for texts in bank.general.values() for text in texts}
    assert min(map(len, bank.general.values())) > 80


def test_a_wording_that_means_something_else_at_the_hub_is_left_out_with_a_note(
    load: Callable[[str], UserBank],
) -> None:
    bank = load(BANK.replace("in no case", "operator") + "person+pick: [a human]\n")
    assert bank.notes == (
        "'person' goes without general wordings that also mean: 'a human' (person+pick),"
        " 'operator' (refuse)",
    )
    assert not {"a human", "operator"} & set(bank.general["person"])


def test_a_wording_of_another_hub_stays(load: Callable[[str], UserBank]) -> None:
    bank = load(BANK.replace('"it is {size}"', '"it is {size}", yep'))
    assert "yep" in bank.general["accept"]
    assert bank.notes == ()


def test_an_intent_that_is_left_without_any_wording_is_refused(
    procedure: Procedure, bank: UserBank
) -> None:
    barred = {fold(text) for text in wordings("ask_human")}
    with pytest.raises(UserBankError) as caught:
        compose(bank, procedure, barred)
    assert "intent 'person', and none of the general ones for its act 'ask_human'" in str(
        caught.value
    )


def test_two_intents_of_one_act_at_one_hub_cancel_each_other(tmp_path: Path) -> None:
    (tmp_path / "procedure.yaml").write_text(PROCEDURE.replace("act: deny", "act: affirm"))
    (tmp_path / "train.yaml").write_text(BANK)
    bank = load_training_bank(tmp_path / "train.yaml", load_procedure(tmp_path))
    assert bank.general["accept"] == bank.general["refuse"] == ()
    assert len(bank.notes) == 2
    assert re.search(r"'yep' \(refuse\), .* and \d+ more$", bank.notes[0])
    for side in split_bank(bank, 0):
        assert side.general["accept"] == side.general["refuse"] == ()


@pytest.mark.parametrize(("own", "general"), [(1, 5), (5, 5), (5, 300), (15, 5), (300, 100)])
def test_own_wordings_are_half_of_the_draws_or_their_share_if_that_is_more(
    own: int, general: int
) -> None:
    texts = tuple(f"own {n}" for n in range(own))
    bank = UserBank(Path("b"), {"a": texts}, {}, {"a": tuple(f"lib {n}" for n in range(general))})
    source = WordingSource(bank, random.Random(0))
    drawn = [source.text("a", {}).startswith("own") for _ in range(600)]
    assert drawn[0]
    for count in range(1, 601):
        assert sum(drawn[:count]) * 2 >= count
    assert abs(sum(drawn) / 600 - max(0.5, own / (own + general))) < 0.01


def test_own_and_general_wordings_wear_out_alike(bank: UserBank) -> None:
    source = WordingSource(bank, random.Random(0))
    drawn = [source.text("person", {}) for _ in wordings("ask_human")]
    assert sorted(drawn) == sorted(wordings("ask_human"))
    assert frozenset({"size"}) in source.shapes("take_back")
    assert "{" not in source.text("take_back", {"size": "large"})


def test_the_split_keeps_each_frame_on_one_side(bank: UserBank) -> None:
    train, held = split_bank(replace(bank, intents={**bank.intents, "chat": ("yep", "x")}), 0)
    frames = [
        {
            re.sub(r"\{\w+\}", "{}", fold(text))
            for texts in (*side.general.values(), side.intents["chat"])
            for text in texts
        }
        for side in (train, held)
    ]
    assert not frames[0] & frames[1]
    for name, texts in bank.general.items():
        assert {*train.general[name], *held.general[name]} == set(texts)
        assert 0 < len(held.general[name]) < len(train.general[name]) / 5
    shapes = {placeholders(text) for text in held.general["take_back"]}
    assert shapes == {frozenset({"colour"}), frozenset({"size"})}


def test_a_library_of_one_wording_stands_on_both_sides_where_there_is_no_other() -> None:
    bank = UserBank(Path("b"), {"b": ("x", "y")}, {}, {"a": ("ok",), "b": ("well",)})
    train, held = split_bank(bank, 0)
    assert train.general["a"] == held.general["a"] == ("ok",)
    assert {*train.general["b"]} ^ {*held.general["b"]} == {"well"}


def test_fillers_go_between_words_and_only_where_asked_for() -> None:
    said = {disturb("it is so", Noise(filler=1), random.Random(seed)) for seed in range(80)}
    assert len(said) > 30
    assert all(text.startswith("it ") and text.endswith(" so") for text in said)
    assert disturb("yes please", Noise(filler=1), random.Random(0)) == "yes please"
    state = random.Random(0)
    disturb("it is so", CLEAN, state)
    other = random.Random(0)
    for _ in range(5):
        other.random()
    assert state.random() == other.random()


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("act: deny", "act: denny", r"11:28: 'act' is 'denny', not affirm, deny, .* or correction"),
        ("act: deny", "act: correction", "11:28: act 'correction' is for corrections"),
        ("act: small_talk", "act: correction", "16:46: act 'correction' is for corrections"),
        ("act: correction", "act: deny", "14:43: a correction's act is 'correction', not 'deny'"),
    ],
)
def test_an_act_that_does_not_exist_or_fit_is_a_problem_of_the_procedure(
    old: str, new: str, wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "procedure.yaml").write_text(PROCEDURE.replace(old, new))
    with pytest.raises(ProcedureError, match=wanted):
        load_procedure(tmp_path)


def test_show_counts_own_and_general_wordings(
    procedure: Procedure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "train.yaml").write_text(BANK + "person+pick: [a human]\n")
    assert main(["show", str(tmp_path), "--wordings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "  intent                   own  general",
        "  pick                       3        0",
    ]
    assert f"  person                     0{len(wordings('ask_human')) - 1:>9}  ask_human" in lines
    assert "'a human' (person+pick)" in lines[-1]
